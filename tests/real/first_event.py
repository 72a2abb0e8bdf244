"""first_event.py URL CA PROXY|- [CERT KEY]: milliseconds from the request to the first server-sent event."""
import json, socket, ssl, sys, time
from urllib.parse import urlsplit

url, ca, proxy, *own = sys.argv[1:]
parts = urlsplit(url)
port = parts.port or 443
context = ssl.create_default_context(cafile=ca)
if own:
    context.load_cert_chain(*own)
if proxy == "-":
    stream = socket.create_connection(("127.0.0.1", port))
else:
    host, proxy_port = proxy.split(":")
    stream = socket.create_connection((host, int(proxy_port)))
    stream.sendall(f"CONNECT {parts.hostname}:{port} HTTP/1.1\r\nHost: {parts.hostname}:{port}\r\n\r\n".encode())
    while b"\r\n\r\n" not in stream.recv(4096):
        pass
tls = context.wrap_socket(stream, server_hostname=parts.hostname)
# The second request is timed: the first one opens the connections.
for _ in range(2):
    started = time.perf_counter()
    tls.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    text, first = b"", None
    while b"0\r\n\r\n" not in text:
        text += tls.recv(65536)
        if first is None and b"data: 0" in text:
            first = (time.perf_counter() - started) * 1000
print(json.dumps({"first_ms": first}))
