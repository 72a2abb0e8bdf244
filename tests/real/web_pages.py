"""A real browser: what pages of other sites get of the user's credentials, and what a developer's own pages get."""
import http.server, json, shutil, ssl, threading

from checks import rule
from kit import GATEPASS, Skip, free_ports, need, sh, wait_port
from sessions import Remote


class Told(http.server.BaseHTTPRequestHandler):
    """Tells which credential came, and lets every page read that, as many APIs do."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        text = f"<!doctype html><title>t</title>auth={self.headers.get('authorization', 'none')}".encode()
        self.send_response(200)
        for name, value in {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*", "Content-Type": "text/html", "Content-Length": len(text)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(text)

    do_OPTIONS = do_GET

    def log_message(self, *_):
        pass


def serve(lab, tls):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(lab.pem("server.pem"), lab.pem("server.key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def web_pages(lab, r):
    "pages of other sites in Chromium get nothing of the user's; the user's own, and pages of this machine, do"
    need("certutil")
    if not shutil.which("chromium"):
        raise Skip("chromium is not installed")
    api, site = serve(lab, True), serve(lab, False)
    reverse, debug = free_ports(2)
    rules = [rule(lab, "api.gp.test", api, bearer="real-token")]
    gate = lab.gatepass({"resolve": {"evil.gp2.test": "127.0.0.1"}, "rules": rules}, name="pages")
    lab.gatepass({"listeners": [{"listen": f"127.0.0.1:{reverse}", "mode": "reverse", "upstream": "https://api.gp.test"}], "rules": rules}, name="pages-reverse")
    wait_port(reverse)
    evil, own = f"http://evil.gp2.test:{site}/", f"http://localhost:{site}/"
    argv = [GATEPASS, "browser", "-c", gate.file, "--browser", "chromium", "--headless", "--attach", f"127.0.0.1:{gate.port}", evil, "--", f"--remote-debugging-port={debug}"]
    process = lab.start(argv, "pages-browser", env={**gate.env, "HOME": str(lab.dir)})
    try:
        page = Remote(debug, False)
        fetch = lambda url, more="{}": page.run(f"fetch({json.dumps(url)}, {more}).then(r => r.text(), e => 'failed ' + e)")
        arrived = lambda url: page.wait(f"location.href.startsWith({json.dumps(url)}) && document.readyState == 'complete' && document.body && document.body.innerText")
        arrived(evil)
        said = fetch("https://api.gp.test/")
        r.check("a page of another site reads the API without the token", "auth=none" in str(said), said)
        said = fetch("https://api.gp.test/", "{headers: {'X-Any': '1'}}")
        r.check("also after a preflight", "auth=none" in str(said), said)
        said = fetch(f"http://127.0.0.1:{reverse}/")
        r.check("and cannot use a reverse listener", "real-token" not in str(said), said)
        page.run("location.href = 'https://api.gp.test/linked'")
        said = arrived("https://api.gp.test/linked")
        r.check("nor does its link", "auth=none" in said, said)
        page.run("location.href = 'https://api.gp.test/own'")
        said = arrived("https://api.gp.test/own")
        r.check("a page of the API's own site gets it", "auth=Bearer real-token" in said, said)
        page.call("Page.navigate", url=own)
        arrived(own)
        said = fetch("https://api.gp.test/")
        r.check("a page of a developer's own server gets it", "auth=Bearer real-token" in str(said), said)
        page.call("Page.navigate", url="https://api.gp.test/typed")
        said = arrived("https://api.gp.test/typed")
        r.check("what the user opens gets it", "auth=Bearer real-token" in said, said)
        page.close()
        process.wait(30)
    except Exception as cause:
        r.check("chromium could be driven", False, f"{cause!r} {(lab.dir / 'pages-browser.log').read_text()[-2000:]}")
        process.terminate()
    r.check("the log tells why", "evil.gp2.test" in gate.log() and "auth=withheld" in gate.log(), gate.log()[-500:])
    code, out = sh("curl", "-sS", "-H", "Host: evil.gp2.test", f"http://127.0.0.1:{reverse}/")
    r.check("a name that was led to the reverse listener gets nothing", "real-token" not in out and "hosts:" in out, out)


GROUPS = {"web-pages": web_pages}
