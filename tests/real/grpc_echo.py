"""grpc_echo.py serve PORT CERT KEY CA | ask TARGET CA|-|-env: generic methods, so no code is generated."""
import sys
import time
from concurrent import futures

import grpc

IDENTITY = (lambda b: b, lambda b: b)


def token(context):
    return dict(context.invocation_metadata()).get("authorization")


def unary(request, context):
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
    context.set_trailing_metadata((("x-sum", "42"),))
    return b"echo " + request + b" " + (token(context) or "none").encode()


def stream(request, context):
    for n in range(5):
        yield str(n).encode()


def bidi(requests, context):
    for request in requests:
        yield b"pong " + request


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        kinds = {"/t/Unary": grpc.unary_unary_rpc_method_handler(unary), "/t/Stream": grpc.unary_stream_rpc_method_handler(stream), "/t/Bidi": grpc.stream_stream_rpc_method_handler(bidi)}
        return kinds.get(details.method)


def serve(port, cert, key, ca):
    read = lambda path: open(path, "rb").read()
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Handler()])
    server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(read(key), read(cert))], read(ca), True))
    server.start()
    server.wait_for_termination()


def ask(target, ca):
    channel = grpc.insecure_channel(target) if ca == "-" else grpc.secure_channel(target, grpc.ssl_channel_credentials(None if ca == "-env" else open(ca, "rb").read()))
    call = channel.unary_unary("/t/Unary").with_call(b"hi", timeout=10)
    assert call[0] == b"echo hi Bearer grpc-token", call[0]
    print("unary ok")
    assert ("x-sum", "42") in [(k, v) for k, v in call[1].trailing_metadata()]
    print("trailers ok")
    assert list(channel.unary_stream("/t/Stream")(b"", timeout=10)) == [b"0", b"1", b"2", b"3", b"4"]
    print("stream ok")
    # Lock step: each ping is sent only when the last pong is here.
    import queue
    pings = queue.Queue()
    pongs = channel.stream_stream("/t/Bidi")(iter(pings.get, None), timeout=20)
    started = time.time()
    for n in range(50):
        pings.put(str(n).encode())
        assert next(pongs) == b"pong " + str(n).encode()
    pings.put(None)
    assert list(pongs) == []
    assert time.time() - started < 5
    print("bidi ok")
    try:
        channel.unary_unary("/t/Unary")(b"fail", timeout=10)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION and error.details() == "as asked", error
        print("error ok")


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
