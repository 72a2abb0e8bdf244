"""Bodies arrive as they were, or visibly not: whole, in part, and broken off by the server."""
import hashlib
import os
import socket
import ssl
import threading

from checks import certificate, rule, servers
from kit import sh

# How a server may break an answer off; a client that took one for whole would work with half a file.
BROKEN = {
    "content-length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
}


def intact(lab, r):
    "64 MiB of random bytes, ranges and HEAD through interception"
    port, _ = servers(lab)
    gate = lab.gatepass({"rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"))]}, name="intact")
    source, copy = lab.dir / "nginx/www/random.bin", lab.dir / "copy.bin"
    source.write_bytes(os.urandom(64 << 20))
    digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
    url = "https://api.gp.test/files/random.bin"
    for version in ("--http1.1", "--http2"):
        gate.curl(url, version, "-o", copy)
        r.check(f"64 MiB down by {version[2:]}: every byte", digest(copy) == digest(source))
        code, out = gate.curl("https://api.gp.test/app/digest", version, "-T", source)
        r.check(f"64 MiB up by {version[2:]}: every byte", digest(source) in out, out)
        gate.curl(url, version, "-r", "1000-1999", "-o", copy)
        r.check(f"a range by {version[2:]}", copy.read_bytes() == source.read_bytes()[1000:2000])
        code, out = gate.curl(url, version, "-I")
        r.check(f"HEAD by {version[2:]} keeps the length", f"content-length: {64 << 20}" in out.lower(), out)


def breaking_server(lab, answer):
    """Gives every connection half an answer and hangs up without TLS's farewell; its port. Ends with this process."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(lab.pem("server.pem"), lab.pem("server.key"))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            plain, _ = listener.accept()
            try:
                stream = context.wrap_socket(plain, server_side=True)
                stream.recv(65536)
                stream.sendall(answer)
                stream.close()
            except OSError:
                plain.close()  # the peer went first

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def broken_off(lab, r):
    "an answer that the server broke off is an error to the client, never a shorter whole"
    ports = [breaking_server(lab, answer) for answer in BROKEN.values()]
    names = ("a.gp.test", "b.gp.test")
    gate = lab.gatepass({"rules": [rule(lab, name, port) for name, port in zip(names, ports)]}, name="broken-off")
    for kind, name, port in zip(BROKEN, names, ports):
        code, out = sh("curl", "-sS", "-o", "/dev/null", "--cacert", lab.pem("ca.pem"), f"https://localhost:{port}/")
        r.check(f"control: curl sees {kind} broken off", code in (18, 56), out)
        for version, expected in (("--http1.1", (18, 56)), ("--http2", (92,))):
            code, out = gate.curl(f"https://{name}/", version, "-o", "/dev/null")
            r.check(f"{kind} broken off, {version[2:]}: curl sees it", code in expected, (code, out))


GROUPS = {"intact": intact, "broken-off": broken_off}
