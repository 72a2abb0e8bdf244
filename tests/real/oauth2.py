"""OAuth 2 and DPoP: npm oidc-provider gives the tokens, Apache httpd mod_oauth2 checks them."""
import http.server
import json
import os
import pathlib
import socket
import stat
import subprocess
import sys
import threading
import time

from checks import certificate, rule
from kit import GATEPASS, HERE, REAL, Skip, free_ports, need, sh, wait_port

MODULES = pathlib.Path("/usr/lib/apache2/modules")
PERSON = HERE / "servers/oidc/person.py"


class Echo(http.server.BaseHTTPRequestHandler):
    """Stands behind Apache and tells what came through."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        told = json.dumps({"path": self.path, "auth": self.headers.get("authorization"), "client": self.headers.get("oauth2_claim_client_id"), "body": body.decode()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


def two_ports():
    """The first of two free ones beside each other."""
    while True:
        (port,) = free_ports(1)
        with socket.socket() as next_one:
            if port < 65535 and next_one.connect_ex(("127.0.0.1", port + 1)) != 0:
                return port


class Oidc:
    """The authorization server; `ttl`: seconds that its tokens live, `skew`: seconds that its clock is ahead."""

    def __init__(self, lab, name="as", ttl=3600, skew=0):
        need("node")
        modules = REAL / "node/node_modules"
        if not (modules / "oidc-provider").exists():
            raise Skip("npm oidc-provider is not installed (tests/real/install)")
        folder = lab.dir / name
        (folder / "keys").mkdir(parents=True)
        (folder / "node_modules").symlink_to(modules)
        (folder / "as.mjs").write_text((HERE / "servers/oidc/as.mjs").read_text())
        self.port = two_ports()
        env = {"PORT": str(self.port), "CERT": str(lab.pem("server.pem")), "KEY": str(lab.pem("server.key")), "CA": str(lab.pem("ca.pem")), "KEYS": str(folder / "keys"), "TTL": str(ttl), "SKEW": str(skew), "NODE_NO_WARNINGS": "1"}
        self.lab, self.keys = lab, folder / "keys"
        self.process = lab.start(["node", folder / "as.mjs"], name, env=env)
        self.plain, self.url = f"http://127.0.0.1:{self.port}", f"https://localhost:{self.port + 1}"
        wait_port(self.port, 40)
        wait_port(self.port + 1)

    def counts(self):
        return json.loads(sh("curl", "-sS", f"{self.plain}/_count")[1])

    def count(self, client, grant="client_credentials"):
        return self.counts().get(f"{client} {grant}", 0)

    def settings(self, client, **more):
        return {"oauth2": {"token_url": f"{self.url}/token", "client_id": client, "ca_bundle": {"files": [str(self.lab.pem("ca.pem"))]}, **more}}

    def revoke(self, token, client="cc-post", secret="cc-post-secret"):
        return sh("curl", "-sS", "-d", f"token={token}&client_id={client}&client_secret={secret}", f"{self.plain}/token/revocation", "-w", "%{http_code}")[1]


def resource_server(lab, oidc):
    """Apache mod_oauth2 over https: /opaque/, /anyplace/ (also the query), /dpop/ and /mtls/. Its port."""
    need("apache2")
    if not (MODULES / "mod_oauth2.so").exists():
        raise Skip("libapache2-mod-oauth2 is not installed")
    backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    backend.daemon_threads = True
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    (port,) = free_ports(1)
    d = lab.dir / f"rs-{port}"
    (d / "cache").mkdir(parents=True)
    modules = "mpm_event authn_core authz_core authz_user proxy proxy_http ssl socache_shmcb oauth2".split()
    load = "\n".join(f"LoadModule {m}_module {MODULES}/mod_{m}.so" for m in modules)
    introspect = f"{oidc.plain}/token/introspection introspect.auth=client_secret_basic&client_id=rs&client_secret=rs-secret&expiry=1"

    def location(path, kind="", accept=""):
        return f"""<Location {path}>
AuthType oauth2
OAuth2TokenVerify introspect {introspect}{kind}
{accept}
OAuth2TargetPass remote_user_claim=client_id
Require valid-user
ProxyPass http://127.0.0.1:{backend.server_port}/
</Location>
"""

    (d / "httpd.conf").write_text(f"""ServerRoot {d}
PidFile {d}/pid
ServerName localhost
ErrorLog {d}/error.log
{load}
User www-data
Group www-data
Listen 127.0.0.1:{port}
Mutex file:{d} default
ServerLimit 2
StartServers 1
ThreadsPerChild 64
MaxRequestWorkers 128
SSLSessionCache shmcb:{d}/sslcache(512000)
OAuth2Cache file name=default&dir={d}/cache
<VirtualHost 127.0.0.1:{port}>
SSLEngine on
SSLCertificateFile {lab.pem('server.pem')}
SSLCertificateKeyFile {lab.pem('server.key')}
SSLCACertificateFile {lab.pem('ca.pem')}
SSLVerifyClient optional
SSLVerifyDepth 2
SSLOptions +StdEnvVars +ExportCertData
{location('/opaque/')}
{location('/anyplace/', accept="OAuth2AcceptTokenIn query name=access_token")}
{location('/dpop/', '&type=dpop', 'OAuth2AcceptTokenIn header name=Authorization&type=DPoP')}
{location('/mtls/', '&type=mtls&mtls.policy=required')}
</VirtualHost>
""")
    for path in (d, d / "cache"):
        os.chmod(path, 0o777)
    lab.start(["apache2", "-f", d / "httpd.conf", "-D", "FOREGROUND"], f"rs-{port}")
    wait_port(port)
    return port


def both(lab):
    if not hasattr(lab, "_oidc"):
        oidc = Oidc(lab)
        lab._oidc = oidc, resource_server(lab, oidc)
    return lab._oidc


def get(gate, host, path="/opaque/x", *more):
    return gate.curl(f"https://{host}.gp.test{path}", *more)[1]


def at(lab, to, names, **more):
    """Rules for NAME.gp.test, one for each credential."""
    return [rule(lab, f"{name}.gp.test", to, auth=name, tls={"server_name": "localhost"}, **more) for name in names]


def clients(lab, r):
    "each way for a client to say who it is: accepted by the provider, the token by Apache; wrong secrets named"
    oidc, port = both(lab)
    basic = {"client_secret": "cc basic/secret:+%&="}
    credentials = {
        "basic": oidc.settings("cc-basic", scopes=["api:read"], **basic),
        "post": oidc.settings("cc-post", client_secret="cc-post-secret", client_auth="post"),
        "sjwt": oidc.settings("cc-sjwt", client_secret="cc-sjwt-secret-that-is-long-enough-32", client_auth="client_secret_jwt"),
        "mtls": oidc.settings("cc-mtls", client_auth="tls_client_auth", client_certificate=certificate(lab, "alice")),
        "bound": oidc.settings("cc-mtls-bound", client_auth="tls_client_auth", client_certificate="alice"),
        "query": oidc.settings("cc-basic", **{"in": "query"}, **basic),
        "wrong": oidc.settings("cc-basic", client_secret="s3cret-but-wrong"),
        "wrong-sjwt": oidc.settings("cc-sjwt", client_secret="another-secret-that-is-long-enough-32", client_auth="client_secret_jwt"),
        "wrong-key": oidc.settings("cc-pkjwt-es256", private_key=str(oidc.keys / "rs256.pem")),
        "wrong-cert": oidc.settings("cc-mtls", client_auth="tls_client_auth", client_certificate=certificate(lab, "bob")),
    }
    keys = ("rs256", "ps256", "es256", "eddsa")
    for alg in keys:
        more = {"algorithm": "PS256"} if alg == "ps256" else {}
        credentials[alg] = oidc.settings(f"cc-pkjwt-{alg}", private_key=str(oidc.keys / f"{alg}.pem"), key_id=f"kid-{alg}", **more)
    rules = at(lab, port, [name for name in credentials if name != "bound"])
    rules += at(lab, port, ["bound"], client_certificate="alice")
    rules.append(rule(lab, "nobody.gp.test", port, tls={"server_name": "localhost"}))
    gate = lab.gatepass({"client_certificates": {"alice": certificate(lab, "alice"), "bob": certificate(lab, "bob")}, "credentials": credentials, "rules": rules}, name="oauth2-clients")
    out = gate.curl("https://nobody.gp.test/opaque/x", "-i")[1]
    r.check("without a token Apache asks for one", " 401" in out and "Bearer" in out, out)
    for name in ("basic", "post", "sjwt", "mtls", *keys):
        out = get(gate, name)
        r.check(f"{name}: the token is accepted", '"auth": "Bearer ' in out, out + gate.log())
    out = get(gate, "query", "/anyplace/x?y=1")
    r.check("in the query: accepted, the client's own query kept", "/x?y=1&access_token=" in out, out)
    out = get(gate, "bound", "/mtls/x")
    r.check("a token bound to the certificate: accepted with it (RFC 8705)", '"auth": "Bearer ' in out, out)
    for name, word in (("wrong", "client_secret"), ("wrong-sjwt", "client_auth"), ("wrong-key", "key"), ("wrong-cert", "client_id")):
        out = gate.curl(f"https://{name}.gp.test/opaque/x", "-i")[1]
        r.check(f"{name}: a 502 with the mend", " 502" in out and "invalid_client" in out and word in out and "s3cret" not in out, out)
    r.check("no token is in the log", "Bearer ey" not in gate.log() and "access_token" not in gate.log(), gate.log())


def burst(lab, r):
    "64 requests at once fetch one token; a revoked one is replaced once; a reload fetches none"
    oidc, port = both(lab)
    credentials = {"burst": oidc.settings("cc-post", client_secret="cc-post-secret", client_auth="post")}
    config = {"credentials": credentials, "rules": at(lab, port, ["burst"])}
    gate = lab.gatepass(config, name="oauth2-burst")
    before = oidc.count("cc-post")
    urls = [f"https://burst.gp.test/opaque/{n}" for n in range(64)]
    parallel = lambda: sh("curl", "-sS", "-x", gate.proxy, "--cacert", gate.ca, "--parallel", "--parallel-immediate", "--parallel-max", "64", *urls)[1]
    out = parallel()
    r.check("64 at once are accepted", out.count('"auth": "Bearer ') == 64, out)
    r.check("by one token", oidc.count("cc-post") - before == 1, oidc.counts())
    token = json.loads(get(gate, "burst"))["auth"].split()[1]
    r.check("the provider revokes it", oidc.revoke(token).endswith("200"))
    time.sleep(1.2)  # Apache believes an introspection for a second
    out = parallel()
    r.check("64 at once are accepted with a new one", out.count('"auth": "Bearer ') == 64 and token not in out, out)
    r.check("fetched once", oidc.count("cc-post") - before == 2, oidc.counts())
    gate.write({**config, "vars": {"a": "b"}})
    end = time.time() + 5
    while "configuration reloaded" not in gate.log() and time.time() < end:
        time.sleep(0.05)
    out = get(gate, "burst")
    r.check("after a reload the token is still there", '"auth": "Bearer ' in out and oidc.count("cc-post") - before == 2, (out, oidc.counts()))


def command(gate, *words, env=None):
    return sh(GATEPASS, *words, "-c", gate.file, env={**gate.env, **(env or {})})


def person(lab, name="person", *more):
    """What `gatepass login` opens as a browser."""
    file = lab.dir / name
    file.write_text(f"#!/bin/sh\nexec {sys.executable} {PERSON} \"$1\" --ca {lab.pem('ca.pem')} {' '.join(more)} > {file}.log 2>&1\n")
    file.chmod(0o755)
    return str(file)


def sign_in(lab, r):
    "gatepass login in the browser: PKCE, the token renewed by a rotated refresh token, status, logout"
    oidc, port = both(lab)
    short = Oidc(lab, "as-short", ttl=6)
    short_port = resource_server(lab, short)
    signed = {"grant": "authorization_code", "scopes": "openid offline_access api:read", "auth_params": {"prompt": "consent"}}
    endpoints = lambda at: {"auth_url": f"{at.url}/auth", "revocation_url": f"{at.url}/token/revocation", "issuer": at.url, **signed}
    credentials = {
        "web": oidc.settings("web", client_secret="web-secret", **endpoints(oidc)),
        "native": short.settings("native", **endpoints(short)),
        "issuer": oidc.settings("native", **{**endpoints(oidc), "issuer": "https://elsewhere.example"}),
    }
    rules = at(lab, port, ["web", "issuer"]) + at(lab, short_port, ["native"])
    gate = lab.gatepass({"credentials": credentials, "rules": rules}, name="oauth2-sign-in")
    out = gate.curl("https://web.gp.test/opaque/x", "-i")[1]
    r.check("before: a 502 with the command", " 502" in out and "gatepass login web" in out, out)
    code, out = command(gate, "login", "web", "--timeout", "20s", env={"BROWSER": person(lab)})
    r.check("login", code == 0 and "signed in" in out, out)
    out = get(gate, "web")
    r.check("the running gatepass takes it up, and Apache accepts it", '"auth": "Bearer ' in out, out)
    files = [f for f in (gate.home / "tokens").iterdir() if f.suffix == ".json"]
    r.check("the token file is its owner's only", files and all(stat.S_IMODE(f.stat().st_mode) == 0o600 for f in files), files)
    code, out = command(gate, "status", "--format", "json")
    state = {row["name"]: row for row in json.loads(out)}
    r.check("status tells who is signed in", state["web"]["state"] == "signed_in" and state["native"]["state"] == "signed_out" and "api:read" in state["web"]["scopes"], out)
    code, out = command(gate, "login", "issuer", "--timeout", "20s", env={"BROWSER": person(lab)})
    r.check("an answer of another issuer is refused", code == 1 and "elsewhere.example" in out, out)
    code, out = command(gate, "login", "native", "--timeout", "20s", env={"BROWSER": person(lab, "refuser", "--deny")})
    r.check("a person who says no", code == 1 and "access_denied" in out, out)
    code, out = command(gate, "login", "native", "--timeout", "20s", env={"BROWSER": person(lab)})
    first = json.loads(get(gate, "native"))["auth"]
    # A second process with the same folder; both renew when the token ends.
    twin = lab.gatepass({"credentials": credentials, "rules": rules}, name="oauth2-twin", env={"GATEPASS_HOME": str(gate.home)})
    time.sleep(6.2)
    before, started = short.count("native", "refresh_token"), time.time()
    urls = [f"https://native.gp.test/opaque/{n}" for n in range(8)]
    racing = [subprocess.Popen(["curl", "-sS", "-x", g.proxy, "--cacert", str(gate.ca), "--parallel", "--parallel-immediate", *urls], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for g in (gate, twin)]
    outs = [p.communicate(timeout=30)[0] for p in racing]
    renewed = sum(out.count('"auth": "Bearer ') for out in outs)
    r.check("two processes renew an ended token at once: all accepted", renewed == 16 and all(first not in out for out in outs), (outs, gate.log()[-500:]))
    # On a busy machine the race may outlast the new token, too.
    uses, most = short.count("native", "refresh_token") - before, 1 + int((time.time() - started) / 4)
    r.check("by one use of the refresh token", 1 <= uses <= most, (short.counts(), most))
    time.sleep(6.2)
    before = short.count("native", "refresh_token")
    out = sh("curl", "-sS", "-x", twin.proxy, "--cacert", gate.ca, "https://native.gp.test/opaque/x")[1]
    r.check("and the rotated refresh token is good again", '"auth": "Bearer ' in out and short.count("native", "refresh_token") == before + 1, (out, short.counts()))
    code, out = command(gate, "logout", "web")
    r.check("logout revokes and deletes", code == 0 and "revoked" in out, out)
    time.sleep(1.1)
    out = gate.curl("https://web.gp.test/opaque/x", "-i")[1]
    r.check("then it is a 502 with the command again", " 502" in out and "gatepass login web" in out, out)


def device(lab, r):
    "gatepass login by a code on another device"
    oidc, port = both(lab)
    credentials = {"device": oidc.settings("device", grant="device_code", device_url=f"{oidc.url}/device/auth", scopes="openid offline_access api:read")}
    gate = lab.gatepass({"credentials": credentials, "rules": at(lab, port, ["device"])}, name="oauth2-device")
    log = open(lab.dir / "device-login.log", "w+")
    login = lab.start([GATEPASS, "login", "device", "-c", gate.file, "--timeout", "40s"], "device-login", env=gate.env)
    end, complete = time.time() + 10, None
    while not complete and time.time() < end:
        text = (lab.dir / "device-login.log").read_text()
        complete = next((line.split("or open ")[1] for line in text.splitlines() if "or open " in line), None)
        time.sleep(0.05)
    r.check("a code is shown", complete, text)
    code, out = sh(sys.executable, PERSON, complete, "--ca", lab.pem("ca.pem"), "--device")
    r.check("the person enters it", code == 0, out)
    r.check("the login ends well", login.wait(30) == 0, (lab.dir / "device-login.log").read_text())
    out = get(gate, "device")
    r.check("and Apache accepts the token", '"auth": "Bearer ' in out, out)


def grants(lab, r):
    "password, and a refresh token from the configuration that the provider rotates"
    oidc, port = both(lab)
    password = {"grant": "password", "username": "alice", "client_secret": "pw-secret", "scopes": "openid offline_access"}
    credentials = {
        "pw": oidc.settings("pw", password="s3cret pass", **password),
        "pw-wrong": oidc.settings("pw", password="s3cret wrong", **password),
    }
    gate = lab.gatepass({"credentials": credentials, "rules": at(lab, port, credentials)}, name="oauth2-grants")
    out = get(gate, "pw")
    r.check("password: accepted", '"auth": "Bearer ' in out, out)
    out = gate.curl("https://pw-wrong.gp.test/opaque/x", "-i")[1]
    r.check("a wrong password is a 502 with the mend", " 502" in out and "check `username` and `password`" in out and "s3cret" not in out, out)
    answer = sh("curl", "-sS", "-u", "pw:pw-secret", "--data-urlencode", "password=s3cret pass", "-d", "grant_type=password&username=alice&scope=openid offline_access", f"{oidc.plain}/token")[1]
    refresh = {"refresh": oidc.settings("pw", grant="refresh_token", client_secret="pw-secret", refresh_token=json.loads(answer)["refresh_token"])}
    refresh["refresh-wrong"] = oidc.settings("pw", grant="refresh_token", client_secret="pw-secret", refresh_token="gone")
    gate = lab.gatepass({"credentials": refresh, "rules": at(lab, port, refresh)}, name="oauth2-refresh")
    out = get(gate, "refresh")
    r.check("refresh_token: accepted", '"auth": "Bearer ' in out, out)
    out = gate.curl("https://refresh-wrong.gp.test/opaque/x", "-i")[1]
    r.check("one that has ended is a 502 with the mend", " 502" in out and "put a new refresh token" in out, out)


def proofs(lab, r):
    "DPoP with and without a nonce: the provider binds the token, Apache checks the proof"
    oidc, port = both(lab)
    dpop = {"client_secret": "cc-dpop-secret", "dpop": True}
    credentials = {"dpop": oidc.settings("cc-dpop", **dpop), "nonce": oidc.settings("cc-dpop-nonce", **dpop), "bearer": oidc.settings("cc-dpop", client_secret="cc-dpop-secret")}
    # Apache takes the port that it listens on for that of the URL, which a proof names.
    gate = lab.gatepass({"credentials": credentials, "rules": at(lab, port, credentials, port=port)}, name="oauth2-dpop")
    there = lambda name: f"https://{name}.gp.test:{port}/dpop/x"
    for name in ("dpop", "nonce"):
        out = gate.curl(f"{there(name)}?y=1", "-d", "a body")[1]
        r.check(f"{name}: accepted", '"auth": "DPoP ' in out and "a body" in out, out + gate.log()[-300:])
    token = json.loads(gate.curl(there("dpop"))[1])["auth"].split()[1]
    direct = sh("curl", "-sS", "-i", "--cacert", lab.pem("ca.pem"), "-H", f"Authorization: DPoP {token}", f"https://localhost:{port}/dpop/x")[1]
    r.check("the same token without the key's proof is refused", " 401" in direct, direct)
    out = gate.curl(there("bearer"), "-i")[1]
    r.check("a client that must bind its tokens and does not: a 502 with the mend", " 502" in out and "dpop" in out.lower(), out)


class Broken(http.server.BaseHTTPRequestHandler):
    """Token endpoints as they should not be."""

    asked = {}

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        what = self.path.strip("/")
        Broken.asked[what] = Broken.asked.get(what, 0) + 1
        kind, status, body = "text/html", 200, b"<html>Please sign in</html>"
        if what == "slow":
            time.sleep(4)
        elif what == "huge":
            body = b" " * (3 << 20)
        elif what == "down":
            status, body = 503, b"upstream connect error"
        elif what == "moved":
            status, body = 302, b""
        elif what == "form":
            kind, body = "application/x-www-form-urlencoded", b"access_token=form-token&expires_in=60&token_type=bearer"
        elif what == "error":
            kind, status, body = "application/json", 400, json.dumps({"error": "invalid_scope", "error_description": "no \r\n such s3cret-sent " + "x" * 1000}).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if status == 302:
            self.send_header("location", "https://elsewhere.example/")
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass

    def log_message(self, *_):
        pass


def broken(lab, r):
    "token endpoints that are down, slow, garbage, huge, moved; a clock that is off: each with its own error, asked once"
    oidc, port = both(lab)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told = {"slow": "took longer than 1s", "garbage": "which is no token", "huge": "larger than", "down": "503", "moved": "redirects are not followed", "error": "invalid_scope"}
    endpoint = lambda url: {"oauth2": {"token_url": url, "client_id": "x", "client_secret": "s3cret-sent"}}
    credentials = {name: endpoint(f"http://127.0.0.1:{server.server_port}/{name}") for name in (*told, "form")}
    credentials["closed"] = endpoint(f"http://127.0.0.1:{free_ports(1)[0]}/token")
    ahead = Oidc(lab, "as-ahead", skew=900)
    credentials["clock"] = ahead.settings("cc-pkjwt-es256", private_key=str(ahead.keys / "es256.pem"), key_id="kid-es256")
    gate = lab.gatepass({"limits": {"credential_fetch": "1s"}, "credentials": credentials, "rules": at(lab, port, credentials)}, name="oauth2-broken")
    for name, word in {**told, "closed": "nothing listens there"}.items():
        urls = [f"https://{name}.gp.test/opaque/{n}" for n in range(8)]
        out = sh("curl", "-sS", "-x", gate.proxy, "--cacert", gate.ca, "--parallel", "--parallel-immediate", "-i", *urls)[1]
        status = 503 if name in ("slow", "down", "closed") else 502
        r.check(f"{name}: a {status} that says so", out.count(f"HTTP/2 {status}") + out.count(f"HTTP/1.1 {status}") == 8 and word in out and "s3cret-sent" not in out, out)
        if name in told:
            r.check(f"{name}: eight requests ask it no more than twice", Broken.asked[name] <= 2, Broken.asked)
    out = get(gate, "form")
    r.check("a form instead of JSON is understood", "form-token" not in out and "invalid_token" in gate.curl("https://form.gp.test/opaque/x", "-i")[1], out)
    out = gate.curl("https://clock.gp.test/opaque/x", "-i")[1]
    r.check("a server whose clock is ahead refuses the assertion: the error tells of the clock", " 502" in out and "clock is" in out and "behind" in out, out)


def sdk(lab, r):
    "an SDK (oauthlib) that fetches its token itself: gatepass answers it, and the real token goes to Apache"
    oidc, port = both(lab)
    credentials = {"api": oidc.settings("cc-post", client_secret="cc-post-secret", client_auth="post")}
    rules = [rule(lab, "login.gp.test", 9, path="/oauth2/token", token_endpoint="api"), rule(lab, "sdk.gp.test", port, auth="api", on_existing_auth="reject", tls={"server_name": "localhost"})]
    gate = lab.gatepass({"credentials": credentials, "rules": rules}, name="oauth2-sdk")
    env = {"HTTPS_PROXY": gate.proxy, "https_proxy": gate.proxy, "REQUESTS_CA_BUNDLE": str(gate.ca)}
    code, out = sh(sys.executable, HERE / "servers/oidc/sdk.py", "https://login.gp.test/oauth2/token", "https://sdk.gp.test/opaque/x", env=env)
    r.check("the SDK's own token request is answered, its call accepted by Apache", code == 0 and '"auth": "Bearer ' in out and "gatepass-stand-in" not in out.splitlines()[-1], out)
    out = gate.curl("https://sdk.gp.test/opaque/x", "-i", "-H", "Authorization: Bearer gatepass-stand-in.9999999999.AAAA")[1]
    r.check("a made-up stand-in is refused", " 403" in out, out)


GROUPS = {"oauth2-clients": clients, "oauth2-burst": burst, "oauth2-sign-in": sign_in, "oauth2-device": device, "oauth2-grants": grants, "oauth2-dpop": proofs, "oauth2-sdk": sdk, "oauth2-broken": broken}
