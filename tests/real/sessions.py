"""Sessions: a form login done by hand in a real browser, and clients that are in by it."""
import json, pathlib, shutil, subprocess, time, urllib.request

from checks import rule
from kit import GATEPASS, Skip, free_ports, need, sh, wait_port

PASSWORD = "s3cret pass"
LOGIN = """<!doctype html><title>log in</title><form method="post" action="/login">
<input name="httpd_username"><input name="httpd_password" type="password"><button>in</button></form>"""


def form_server(lab):
    """Apache httpd whose /private wants the session that mod_auth_form gives for a login at /login."""
    if hasattr(lab, "_form"):
        return lab._form
    need("apache2", "htpasswd")
    port = free_ports(1)[0]
    d = lab.dir / "form"
    (d / "www/private").mkdir(parents=True)
    (d / "www/private/hello.txt").write_text("welcome to the session\n")
    (d / "www/login.html").write_text(LOGIN)
    subprocess.run(["htpasswd", "-bcB", str(d / "users"), "svc", PASSWORD], check=True, capture_output=True)
    modules = "mpm_event authn_core authz_core authn_file authz_user auth_form session session_cookie request alias mime dir env ssl socache_shmcb".split()
    load = "\n".join(f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so" for m in modules if pathlib.Path(f"/usr/lib/apache2/modules/mod_{m}.so").exists())
    session = "Session On\nSessionCookieName gpsession path=/;httponly;secure\nSessionMaxAge 3600\n"
    form = f"AuthType form\nAuthName form\nAuthFormProvider file\nAuthUserFile {d}/users\n"
    (d / "httpd.conf").write_text(f"""ServerRoot {d}
PidFile {d}/pid
ServerName localhost
ErrorLog {d}/error.log
{load}
User www-data
Group www-data
TypesConfig /etc/mime.types
DocumentRoot {d}/www
Listen 127.0.0.1:{port}
Mutex file:{d} default
SSLEngine on
SSLCertificateFile {lab.pem('server.pem')}
SSLCertificateKeyFile {lab.pem('server.key')}
<Location /private>
{form}{session}Require valid-user
</Location>
<Location /login>
SetHandler form-login-handler
{form}{session}AuthFormLoginSuccessLocation /private/hello.txt
Require all granted
</Location>
""")
    shutil.chown(d, "www-data")
    lab.start(["apache2", "-f", d / "httpd.conf", "-D", "FOREGROUND"], "form")
    wait_port(port)
    lab._form = port
    return port


class Remote:
    """A browser's page, told what to do over its debugging socket: Chromium's protocol, or WebDriver BiDi."""

    def __init__(self, port, firefox):
        import websockets.sync.client as ws
        wait_port(port, 40)
        self.firefox, self.n = firefox, 0
        if firefox:
            self.socket = ws.connect(f"ws://127.0.0.1:{port}/session", max_size=None)
            self.call("session.new", capabilities={})
            self.context = self.call("browsingContext.getTree")["contexts"][0]["context"]
        else:
            end = time.time() + 20
            while time.time() < end:
                pages = [t for t in json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list")) if t["type"] == "page"]
                if pages:
                    break
                time.sleep(0.2)
            self.socket = ws.connect(pages[0]["webSocketDebuggerUrl"], max_size=None)

    def call(self, method, **params):
        self.n += 1
        self.socket.send(json.dumps({"id": self.n, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=30))
            if answer.get("id") == self.n:
                return answer.get("result", answer)

    def run(self, script):
        if self.firefox:
            answer = self.call("script.evaluate", expression=script, target={"context": self.context}, awaitPromise=True)
            return answer.get("result", {}).get("value")
        return self.call("Runtime.evaluate", expression=script, awaitPromise=True).get("result", {}).get("value")

    def wait(self, script, seconds=30):
        """Until the page says something to it."""
        end = time.time() + seconds
        said = None
        while time.time() < end:
            said = self.run(script)
            if said:
                return said
            time.sleep(0.2)
        raise RuntimeError(f"the page never had {script}: {self.run('document.documentElement.outerHTML')!r}")

    def close(self):
        try:
            self.call("browser.close" if self.firefox else "Browser.close")
        except Exception:
            pass  # it is gone before it answers


def log_in(lab, r, gate, name, url, password, *more):
    """Opens the form with `gatepass browser`, types, presses the button; what the page says then."""
    firefox = name == "firefox"
    port = free_ports(1)[0]
    argv = [GATEPASS, "browser", "-c", gate.file, "--browser", name, "--headless", *more, url, "--", f"--remote-debugging-port={port}"]
    process = lab.start(argv, f"browser-{name}-{port}", env={**gate.env, "HOME": str(lab.dir)})
    try:
        page = Remote(port, firefox)
        page.wait("document.forms.length > 0 && document.readyState == 'complete'")
        page.run(f"document.forms[0].httpd_username.value = 'svc'; document.forms[0].httpd_password.value = {json.dumps(password)}; document.forms[0].querySelector('button').click()")
        said = page.wait("!document.forms.length && document.readyState == 'complete' && document.body && document.body.innerText")
        page.close()
        code = process.wait(30)
    except Exception as cause:
        r.check(f"{name} could be driven", False, f"{cause!r} {(lab.dir / f'browser-{name}-{port}.log').read_text()}")
        process.terminate()
        return ""
    r.check(f"gatepass browser ends when {name} does", code == 0, code)
    left = [p for p in pathlib.Path("/tmp").glob("gatepass-browser-*") if p.stat().st_mtime > time.time() - 60]
    r.check(f"and nothing of {name}'s profile is left", not left, left)
    return said


def browser_session(lab, r):
    "a login in a real browser through gatepass opens a form-protected Apache to curl and Python; nobody else is in"
    need("certutil")
    browsers = [name for name, programs in (("chromium", ["chromium"]), ("firefox", ["firefox", "firefox-esr"])) if any(map(shutil.which, programs))]
    if not browsers:
        raise Skip("neither chromium nor firefox is installed")
    port = form_server(lab)
    host, url = "vhost.gp.test", "https://vhost.gp.test/private/hello.txt"
    config = {"credentials": {"portal": {"cookies": {"capture": True}}}, "rules": [rule(lab, host, port, auth="portal"), rule(lab, "other.gp.test", port), rule(lab, "a.gp.test", port, cookies={"set": {"gpsession": "s3cret-made-up"}}, tls={"server_name": "a.gp.test"})]}
    code, out = sh("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", lab.pem("ca.pem"), "--resolve", f"{host}:{port}:127.0.0.1", f"https://{host}:{port}/private/hello.txt")
    r.check("without gatepass Apache wants a login", out.strip() == "401", out)
    for name in browsers:
        gate = lab.gatepass(config, name=f"session-{name}")
        ask = lambda u: gate.curl(u, "-o", "/dev/null", "-w", "%{http_code}")[1].strip()
        r.check("before the login curl is refused through gatepass too", ask(url) == "401", ask(url))
        # Chromium is attached to the running gatepass; Firefox gets one of its own, which shares the file.
        attach = ["--attach", f"127.0.0.1:{gate.port}"] if name == "chromium" else []
        if name == "chromium":
            said = log_in(lab, r, gate, name, f"https://{host}/login.html", "wrong", *attach)
            r.check("a wrong password is refused in the browser", "welcome" not in said, said)
            r.check("and leaves curl outside", ask(url) == "401", ask(url))
        said = log_in(lab, r, gate, name, f"https://{host}/login.html", PASSWORD, *attach)
        r.check(f"{name} trusts gatepass, and is logged in", "welcome to the session" in said, said)
        time.sleep(0.6)
        code, out = gate.curl(url)
        r.check(f"after the login in {name} curl is in", "welcome to the session" in out, out)
        code, out = gate.curl("https://other.gp.test/private/hello.txt", "-o", "/dev/null", "-w", "%{http_code}")
        r.check("a host outside the rule does not get the session", out.strip() == "401", out)
        code, out = gate.curl("https://a.gp.test/private/hello.txt", "-o", "/dev/null", "-w", "%{http_code}")
        r.check("a made-up session is refused by Apache", out.strip() == "401", out)
        file = gate.home / "cookies/portal.json"
        r.check("the cookies lie in a private file", file.exists() and file.stat().st_mode & 0o777 == 0o600, file)
        value = json.loads(file.read_text())["cookies"][0]["value"] if file.exists() else "?"
        r.check("and in no log", value not in gate.log() and "s3cret-made-up" not in gate.log(), gate.log()[-300:])
    gate.stop()
    again = lab.gatepass(config, name=f"session-{browsers[-1]}")
    code, out = again.curl(url)
    r.check("a restart keeps the session", "welcome to the session" in out, out)
    import sys
    code, out = sh(sys.executable, "-c", f"import requests; print(requests.get({url!r}).text)", env={"HTTPS_PROXY": again.proxy, "REQUESTS_CA_BUNDLE": str(again.ca)})
    r.check("Python requests is in by it too", "welcome to the session" in out, out)


GROUPS = {"browser-session": browser_session}
