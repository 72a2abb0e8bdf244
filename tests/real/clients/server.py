"""server.py LOG MTLS_PORT OPEN_PORT CLEAR_PORT CERT KEY CA: says hello to everything; who asked for what goes to LOG, a JSON
line each. The first port demands a client certificate, the second none, the third speaks no TLS."""
import http.server
import json
import ssl
import sys
import threading

log, mtls, plain, clear, cert, key, ca = sys.argv[1:]
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        shown = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        subject = dict(pair[0] for pair in (shown or {}).get("subject", ()))
        with lock, open(log, "a") as f:
            f.write(json.dumps({"path": self.path, "subject": subject.get("commonName"), "authorization": self.headers.get("Authorization"), "port": self.server.server_address[1]}) + "\n")
        body = b"hello\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, port, demand):
        super().__init__(("127.0.0.1", int(port)), Handler)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
        self.context.load_cert_chain(cert, key)
        self.context.verify_mode = ssl.CERT_REQUIRED if demand else ssl.CERT_NONE

    # The handshake belongs to the connection's own thread.
    def process_request_thread(self, request, address):
        try:
            request = self.context.wrap_socket(request, server_side=True)
        except OSError:
            return request.close()
        super().process_request_thread(request, address)

    def handle_error(self, *_):
        pass


servers = [Server(mtls, True), Server(plain, False), http.server.ThreadingHTTPServer(("127.0.0.1", int(clear)), Handler)]
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
threading.Event().wait()
