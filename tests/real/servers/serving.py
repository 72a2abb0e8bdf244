"""What the servers in Python share: every request is checked, 200 or 401 with the reason as JSON."""
import http.server, json, ssl


def serve(port, check, certificate=None):
    """check(method, target, headers, body, scheme) returns what it knows, or raises."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.body()
            try:
                status, told = 200, {"ok": True, **(check(self.command, self.path, self.headers, body, "https" if certificate else "http") or {})}
            except Exception as why:
                status, told = 401, {"ok": False, "why": f"{type(why).__name__}: {why}"}
            out = (json.dumps({**told, "length": len(body)}) + "\n").encode()
            self.send_response(status)
            self.send_header("content-length", str(len(out)))
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(out)

        def body(self):
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            whole = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate + ".pem", certificate + ".key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
