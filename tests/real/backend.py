"""What stands behind nginx: a body's length and digest, the token that came, server-sent events, a WebSocket echo."""
import asyncio, hashlib, json


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        headers = {k.decode(): v.decode("latin-1") for k, v in scope["headers"]}
        await send({"type": "websocket.send", "text": json.dumps({"dn": headers.get("x-dn"), "auth": headers.get("authorization")})})
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            reply = {"text": message["text"]} if message.get("text") is not None else {"bytes": message["bytes"]}
            await send({"type": "websocket.send", **reply})
    length, digest = 0, hashlib.sha256() if scope["path"] == "/digest" else None
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message.get("body", b""))
        if digest:
            digest.update(message.get("body", b""))
        if not message.get("more_body"):
            break
    if scope["path"] == "/sse":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for n in range(3):
            await send({"type": "http.response.body", "body": f"data: {n}\n\n".encode(), "more_body": True})
            await asyncio.sleep(0.5)
        return await send({"type": "http.response.body", "body": b""})
    if scope["path"] == "/slow":
        await asyncio.sleep(1.5)
    told = {"method": scope["method"], "length": length}
    if digest:
        told["sha256"] = digest.hexdigest()
    if scope["path"] == "/token":
        told["authorization"] = dict(scope["headers"]).get(b"authorization", b"").decode() or None
    body = json.dumps(told).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
