"""Ways on: through upstream proxies that ask who goes through, with mTLS and credentials to the origin as ever."""
import concurrent.futures, hashlib, http.server, pathlib, shutil, subprocess, sys, threading

from checks import certificate, rule, servers
from kit import HERE, free_ports, need, sh, wait_port

PY = sys.executable
USER, PASSWORD = "corp", "proxy: pass"
STATUS = ("-o", "/dev/null", "-w", "%{http_code}")


def told_origin():
    """An origin in clear that answers with the head it was sent, and the length of the body."""

    class Told(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            left = length
            while left:
                left -= len(self.rfile.read(min(left, 65536)))
            body = f"{self.requestline}\n{self.headers}body={length}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def squid(lab, name, lines):
    """A Squid of our own; its log has user, method, target, status and what it saw of credentials for the origin."""
    need("squid")
    d = lab.dir / name
    d.mkdir()
    shutil.chown(d, "proxy")
    (d / "squid.conf").write_text(f"""pid_filename {d}/pid
cache_log {d}/cache.log
logformat told %un %rm %ru %>Hs authorization=%{{Authorization}}>h
access_log stdio:{d}/access.log told
coredump_dir {d}
cache_effective_user proxy
cache_effective_group proxy
cache deny all
shutdown_lifetime 1 seconds
visible_hostname {name}
pinger_enable off
{lines}
""")
    lab.start(["squid", "-N", "-f", d / "squid.conf", "-n", name.replace("-", "")], name)
    return d / "access.log"


def via(kind, port, **more):
    return {"url": f"{kind}://localhost:{port}" if kind == "https" else f"{kind}://127.0.0.1:{port}", **more}


def upstream_proxies(lab, r):
    "Squid with Basic, Digest, TLS and a client certificate, tinyproxy, SOCKS 5 with a password: mTLS to the origin still right"
    need("squid", "tinyproxy", "microsocks", "htpasswd")
    origin, _ = servers(lab)
    plain = told_origin()
    basic, secure, mutual, digest, tiny, socks = free_ports(6)
    subprocess.run(["htpasswd", "-bcm", lab.dir / "proxy.basic", USER, PASSWORD], check=True, capture_output=True)
    (lab.dir / "proxy.digest").write_text(f"{USER}:Corp:{hashlib.md5(f'{USER}:Corp:{PASSWORD}'.encode()).hexdigest()}\n")
    # As Debian ships it: tunnels to port 443 only; here, to the origin that speaks TLS.
    ports = f"acl tls_ports port {origin}\nacl CONNECT method CONNECT\nhttp_access deny CONNECT !tls_ports\nacl known proxy_auth REQUIRED\n"
    tls = f"tls-cert={lab.pem('server.pem')} tls-key={lab.pem('server.key')}"
    basic_log = squid(lab, "squid-basic", f"""http_port 127.0.0.1:{basic}
https_port 127.0.0.1:{secure} {tls}
https_port 127.0.0.1:{mutual} {tls} clientca={lab.pem('ca.pem')}
auth_param basic program /usr/lib/squid/basic_ncsa_auth {lab.dir}/proxy.basic
auth_param basic children 2
{ports}acl by_certificate localport {mutual}
http_access allow by_certificate
http_access allow known
http_access deny all""")
    squid(lab, "squid-digest", f"""http_port 127.0.0.1:{digest}
auth_param digest program /usr/lib/squid/digest_file_auth -c {lab.dir}/proxy.digest
auth_param digest realm Corp
auth_param digest children 2
auth_param digest nonce_max_count 20
{ports}http_access allow known
http_access deny all""")
    (lab.dir / "tinyproxy.conf").write_text(f"Port {tiny}\nListen 127.0.0.1\nTimeout 60\nAllow 127.0.0.1\nBasicAuth {USER} tinypass\n")
    lab.start(["tinyproxy", "-d", "-c", lab.dir / "tinyproxy.conf"], "tinyproxy")
    lab.start(["microsocks", "-i", "127.0.0.1", "-p", socks, "-u", USER, "-P", PASSWORD], "microsocks")
    for port in (basic, secure, mutual, digest, tiny, socks):
        wait_port(port)

    user = {"username": USER, "password": PASSWORD}
    ca = {"ca_bundle": {"files": [str(lab.pem("ca.pem"))]}}
    ways = {
        "basic": via("http", basic, **user),
        "told": via("http", basic, auth="basic", **user),
        "helper": via("http", basic, username=USER, password={"exec": ["printf", PASSWORD]}),
        "secure": via("https", secure, **user, **ca),
        "mutual": via("https", mutual, **ca, client_certificate=certificate(lab, "bob")),
        "digest": via("http", digest, **user),
        "tiny": via("http", tiny, username=USER, password="tinypass"),
        "socks": via("socks5", socks, **user),
        "url": f"http://{USER}:proxy%3A%20pass@127.0.0.1:{basic}",
        "nobody": via("http", basic),
        "wrong": via("http", basic, username=USER, password="no"),
        "wrong-digest": via("http", digest, username=USER, password="no"),
        "wrong-socks": via("socks5", socks, username=USER, password="no"),
        "no-socks": via("socks5", socks),
        "stranger": via("https", mutual, **ca),
        "untrusted": via("https", secure, **user),
        "not-offered": via("http", basic, auth="digest", **user),
    }
    name = {"tls": {"server_name": "localhost"}}
    rules = [rule(lab, f"{way}.gp.test", origin, via=proxy, client_certificate=certificate(lab, "alice"), bearer="real-token", **name) for way, proxy in ways.items()]
    rules += [{"host": "localhost", "scheme": "http", "port": plain, "path": f"/{way}/**", "bearer": "origin-token", "via": proxy} for way, proxy in ways.items()]
    g = lab.gatepass({"rules": rules}, name="proxies-gate")

    code, out = sh("curl", "-sS", *STATUS, "-x", f"http://127.0.0.1:{basic}", f"http://localhost:{plain}/")
    r.check("without gatepass Squid refuses a request", out == "407", out)
    code, out = sh("curl", "-sS", "-x", f"http://127.0.0.1:{digest}", f"https://localhost:{origin}/")
    r.check("and a tunnel", "407" in out, out)
    for way in ("basic", "told", "helper", "secure", "mutual", "digest", "tiny", "socks", "url"):
        code, out = g.curl(f"https://{way}.gp.test/secret")
        r.check(f"{way}: the origin behind welcomes alice", "welcome CN=alice" in out, out)
    for way in ("basic", "told", "helper", "secure", "mutual", "digest", "tiny", "socks"):
        code, out = g.curl(f"http://localhost:{plain}/{way}/x?a=%2F", "-d", "a=1")
        r.check(f"{way}: an origin in clear gets its credential and not the proxy's", f"POST /{way}/x?a=%2F" in out and "Bearer origin-token" in out and "body=3" in out and "proxy-authorization" not in out.lower(), out)
    for way, words in {
        "nobody": ("wants a user name and password", "Basic"),
        "wrong": ("refuses the user name or password", "check the user name and password"),
        "wrong-digest": ("refuses the user name or password", "Digest"),
        "wrong-socks": ("refuses the user name or password", "check the user name and password"),
        "no-socks": ("wants a user name and password",),
        "stranger": ("upstream proxy localhost", "client_certificate"),
        "untrusted": ("upstream proxy localhost", "ca_bundle"),
        "not-offered": ("does not offer digest; it offers Basic", "auth"),
    }.items():
        code, out = g.curl(f"https://{way}.gp.test/secret")
        r.check(f"{way}: refused, with the proxy and the mend", "welcome" not in out and all(word in out for word in ("upstream proxy", *words)), out)
        if "socks" not in way:
            code, out = g.curl(f"http://localhost:{plain}/{way}/x")
            r.check(f"{way}: the same in clear", "origin-token" not in out and all(word in out for word in ("upstream proxy", *words)), out)
    code, out = g.curl("https://digest.gp.test/dn", "--http2")
    r.check("HTTP/2 through a proxy", "http=HTTP/2.0" in out and "dn=CN=alice" in out, out)
    code, out = sh(PY, HERE / "websocket.py", "wss://basic.gp.test/app/ws", g.ca, g.proxy)
    r.check("a WebSocket through a proxy", "CN=alice" in out and "echo ok" in out, out)
    big = lab.dir / "proxy-big"
    with open(big, "wb") as f:
        f.truncate(8 << 20)
    fresh = lab.gatepass({"rules": rules}, name="proxies-fresh")
    code, out = fresh.curl(f"http://localhost:{plain}/digest/up", "-X", "POST", "-T", big)
    r.check("8 MiB in the first request to a proxy that asks", f"body={8 << 20}" in out, out)
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda n: g.curl(f"http://localhost:{plain}/digest/{n}", *STATUS)[1] if n % 2 else g.curl("https://digest.gp.test/dn", *STATUS)[1], range(96)))
    r.check("96 requests, 64 at once, through a proxy that lets a nonce be used 20 times", set(answers) == {"200"}, answers)
    log = basic_log.read_text().splitlines()
    tunnels = [line for line in log if " CONNECT " in line and " 200 " in line]
    r.check(f"in Squid's log {len(tunnels)} tunnels, none with a credential for the origin", tunnels and all("authorization=-" in line for line in tunnels), tunnels[:3])


GROUPS = {"upstream-proxies": upstream_proxies}
