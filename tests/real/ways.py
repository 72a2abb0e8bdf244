"""Each way in, at a server that demands a client certificate and a token; redirected connections in a network namespace."""
import os
import signal
import socket
import subprocess
import sys
import time

from checks import certificate, rule, servers
from kit import GATEPASS, HERE, Skip, free_ports, need, sh, wait_port

PY = sys.executable
# Nobody: a user other than the one that runs gatepass.
OTHER = "65534"


def as_other(*argv):
    return ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups", *argv]


def need_root():
    if os.geteuid() != 0:
        raise Skip("only root can become another user")


def every_way(lab, r):
    "SOCKS 5, TLS to the proxy, Unix sockets, reverse listeners, a load balancer: h1, h2, WebSocket, gRPC"
    need_root()
    port, _ = servers(lab)
    reverse, guarded, balanced, grpc_port, grpc_reverse = free_ports(5)
    sock, reverse_sock = lab.dir / "forward.sock", lab.dir / "reverse.sock"
    lab.start([PY, HERE / "grpc_echo.py", "serve", grpc_port, lab.pem("server.pem"), lab.pem("server.key"), lab.pem("ca.pem")], "ways-grpc")
    upstream = {"mode": "reverse", "upstream": "https://api.gp.test"}
    gate = lab.gatepass(
        {
            "listen": "127.0.0.1:0",
            "listeners": [
                {"listen": f"127.0.0.1:{reverse}", **upstream},
                {"listen": f"127.0.0.1:{guarded}", "access": {"users": {"ci": "s3cret pass"}}},
                {"listen": f"127.0.0.1:{balanced}", "proxy_protocol": ["127.0.0.0/8"], **upstream},
                {"listen": f"127.0.0.1:{grpc_reverse}", "mode": "reverse", "upstream": "https://grpc.gp.test"},
                {"listen": f"unix:{sock}"},
                {"listen": f"unix:{reverse_sock}", **upstream},
            ],
            "rules": [
                rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"), bearer="real-token"),
                rule(lab, "grpc.gp.test", grpc_port, client_certificate=certificate(lab, "alice"), bearer="grpc-token"),
            ],
        },
        name="ways",
    )
    wait_port(grpc_port)
    at = f"127.0.0.1:{gate.port}"
    https = ["--proxy-cacert", str(gate.ca), "-x", f"https://{at}"]
    ways = {
        "HTTP proxy": ["-x", f"http://{at}"],
        "SOCKS 5": ["-x", f"socks5h://{at}"],
        "SOCKS 5 with a password": ["-x", f"socks5h://ci:s3cret%20pass@127.0.0.1:{guarded}"],
        "TLS to the proxy": https,
        "SOCKS 5 on a Unix socket": ["-x", f"socks5h://localhost{sock}"],
    }
    for name, flags in ways.items():
        for version in ("1.1", "2"):
            code, out = sh("curl", "-sS", "--cacert", gate.ca, *flags, f"--http{version}", "-w", " v%{http_version}", "https://api.gp.test/secret")
            r.check(f"{name}, HTTP/{version}: welcomed", "welcome CN=alice" in out and f"v{version}" in out, out)
    own = {
        "reverse listener": [f"http://127.0.0.1:{reverse}/secret"],
        "reverse listener in TLS": ["--cacert", str(gate.ca), f"https://localhost:{reverse}/secret"],
        "reverse listener on a Unix socket": ["--unix-socket", str(reverse_sock), "http://localhost/secret"],
        "load balancer": ["--haproxy-protocol", f"http://127.0.0.1:{balanced}/secret"],
    }
    for name, flags in own.items():
        for version in ("--http1.1", "--http2-prior-knowledge" if "TLS" not in name else "--http2"):
            code, out = sh("curl", "-sS", version, *flags)
            r.check(f"{name}, {version}: welcomed", "welcome CN=alice" in out, out)
    code, out = sh("curl", "-sS", "--cacert", lab.pem("ca.pem"), f"https://localhost:{port}/secret")
    r.check("control: refused without gatepass", "welcome" not in out, out)
    for wrong in ("ci:wrong", ":", "nobody:s3cret%20pass"):
        code, out = sh("curl", "-sS", "--cacert", gate.ca, "-x", f"socks5h://{wrong}@127.0.0.1:{guarded}", "https://api.gp.test/secret")
        r.check(f"SOCKS 5 as {wrong!r}: refused", code != 0 and "welcome" not in out, out)
    code, out = sh("curl", "-sS", f"http://127.0.0.1:{balanced}/secret")
    r.check("no PROXY header, no answer", code != 0 and "welcome" not in out, out)
    for path in (sock, reverse_sock):
        os.chmod(path, 0o666)  # so that the user id is what refuses
    code, out = sh(*as_other("curl", "-sS", "--unix-socket", str(reverse_sock), "http://localhost/secret"))
    r.check("another user is refused at a Unix socket", "may not call at this socket" in out and "welcome" not in out, out)
    code, out = sh(*as_other("curl", "-sS", "--cacert", str(gate.ca), "-x", f"socks5h://localhost{sock}", "https://api.gp.test/secret"))
    r.check("and by SOCKS there", code != 0 and "welcome" not in out, out)

    for name, proxy in {"SOCKS 5": f"socks5h://{at}", "HTTP proxy": f"http://{at}"}.items():
        code, out = sh(PY, HERE / "websocket.py", "wss://api.gp.test/app/ws", gate.ca, proxy)
        r.check(f"WebSocket by {name}", "CN=alice" in out and "echo ok" in out, out)
    code, out = sh(PY, HERE / "websocket.py", f"wss://localhost:{reverse}/app/ws", gate.ca, "-")
    r.check("WebSocket by the reverse listener", "CN=alice" in out and "echo ok" in out, out)
    every = ("unary ok", "trailers ok", "stream ok", "bidi ok", "error ok")
    code, out = sh(PY, HERE / "grpc_echo.py", "ask", f"localhost:{grpc_reverse}", gate.ca)
    r.check("gRPC by the reverse listener in TLS", all(word in out for word in every), out)
    code, out = sh(PY, HERE / "grpc_echo.py", "ask", f"127.0.0.1:{grpc_reverse}", "-")
    r.check("gRPC by the reverse listener in clear", all(word in out for word in every), out)


def systemd(lab, r):
    "a socket that was opened before gatepass started, as systemd hands it over"
    port, _ = servers(lab)
    config = lab.dir / "inherited.yaml"
    import json

    config.write_text(json.dumps({"listeners": [{"listen": "systemd:proxy"}], "rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"), bearer="real-token")]}))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    def hand_over():  # sd_listen_fds(3): from descriptor 3 on, and LISTEN_PID is the process itself
        os.dup2(listener.fileno(), 3)

    home = lab.dir / "inherited-home"
    script = 'LISTEN_PID=$$ exec "$0" run -c "$1"'
    env = {**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "proxy", "GATEPASS_HOME": str(home)}
    process = subprocess.Popen(["sh", "-c", script, GATEPASS, str(config)], pass_fds=(3,), preexec_fn=hand_over, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        proxy = "http://127.0.0.1:%d" % listener.getsockname()[1]
        for _ in range(100):
            if (home / "ca.pem").exists():
                break
            time.sleep(0.1)
        code, out = sh("curl", "-sS", "-x", proxy, "--cacert", home / "ca.pem", "https://api.gp.test/secret")
        r.check("a client of the inherited socket is welcomed", "welcome CN=alice" in out, out)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        listener.close()
    code, out = sh(GATEPASS, "run", "-c", config, env={"GATEPASS_HOME": str(home)})
    r.check("without one, gatepass says what is missing", code == 1 and "systemd handed over no socket" in out, out)


RULES = """
table inet gatepass {
  chain out {
    type nat hook output priority -100;
    meta skuid 0 return
    tcp dport { 80, 443, 7000 } redirect to :15001
  }
}
"""


def transparent(lab, r):
    "redirected connections in a network namespace: the host from TLS or Host, the rest passed on; loops are seen"
    need_root()
    need("nft", "ip", "setpriv", "nginx")
    space = f"gp{os.getpid()}"
    if sh("ip", "netns", "add", space)[0] != 0:
        raise Skip("network namespaces cannot be made here")
    inside = ["ip", "netns", "exec", space]
    try:
        for command in ("ip link set lo up", "ip addr add 10.200.0.1/32 dev lo", "ip -6 addr add fd00:200::1/128 dev lo nodad"):
            code, out = sh(*inside, *command.split())
            if code:
                raise Skip(f"the namespace cannot be set up: {out.strip()}")
        if sh(*inside, "nft", "-f", "-", input=RULES)[0] != 0:
            raise Skip("this kernel does not redirect")
        redirected(lab, r, inside)
    finally:
        for process in lab.processes:
            if getattr(process, "in_namespace", False) and process.poll() is None:
                process.terminate()
                process.wait(10)
        sh("ip", "netns", "del", space)


def redirected(lab, r, inside):
    d = lab.dir / "transparent"
    d.mkdir()
    os.chmod(d, 0o1777)
    pem = lab.pem
    location = 'location / { default_type text/plain; return 200 "verify=$ssl_client_verify dn=$ssl_client_s_dn auth=$http_authorization host=$host\\n"; }'
    tls = f"ssl_certificate {pem('server.pem')}; ssl_certificate_key {pem('server.key')}; ssl_client_certificate {pem('ca.pem')}; ssl_verify_client optional;"
    (d / "nginx.conf").write_text(
        f"worker_processes 1; pid {d}/pid; error_log {d}/error.log; daemon off; events {{}} http {{ access_log off; client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;"
        f"server {{ listen 10.200.0.1:443 ssl http2; listen [fd00:200::1]:443 ssl http2; {tls} {location} }} server {{ listen 10.200.0.1:80; {location} }} }}"
    )

    def start(argv, name, env=None):
        process = lab.start([*inside, *argv], name, env=env)
        process.in_namespace = True
        return process

    start(["nginx", "-p", d, "-c", d / "nginx.conf"], "transparent-nginx")
    greeter = "import socket\ns = socket.create_server(('10.200.0.1', 7000))\nwhile True:\n  c, _ = s.accept(); c.sendall(b'220 server speaks first\\r\\n'); c.close()"
    start([PY, "-c", greeter], "transparent-greeter")
    ours = {"ca_bundle": {"files": [str(pem("ca.pem"))]}}
    import json

    config = {
        "listeners": [{"listen": f"{address}:15001", "mode": "transparent"} for address in ("127.0.0.1", "[::1]")],
        "limits": {"connect": "2s"},
        "rules": [
            {"host": "api.gp.test", "connect_to": "10.200.0.1", "client_certificate": certificate(lab, "alice"), "bearer": "real-token", "echo": "pass", **ours},
            {"host": "plain.gp.test", "scheme": "http", "connect_to": "10.200.0.1", "bearer": "plain-token", "echo": "pass"},
            {"host": "denied.gp.test", "action": "deny"},
        ],
    }
    (d / "gatepass.yaml").write_text(json.dumps(config))
    home = d / "home"
    start([GATEPASS, "run", "-c", d / "gatepass.yaml"], "transparent-gatepass", env={"GATEPASS_HOME": str(home)})
    log = lambda: (lab.dir / "transparent-gatepass.log").read_text()
    for _ in range(100):
        if "redirected to it" in log():
            break
        time.sleep(0.1)
    os.chmod(home, 0o755)

    def curl(url, host, address="10.200.0.1", *flags):
        at = url.split(":")[0] == "https" and 443 or 80
        return sh(*inside, *as_other("curl", "-sS", "--max-time", "10", "--resolve", f"{host}:{at}:{address}", *flags, url))

    ca = ["--cacert", str(home / "ca.pem")]
    for version in ("--http1.1", "--http2"):
        code, out = curl("https://api.gp.test/", "api.gp.test", "10.200.0.1", *ca, version)
        r.check(f"redirected TLS {version}: certificate and token are added", "verify=SUCCESS dn=CN=alice" in out and "auth=Bearer real-token" in out, out)
    code, out = curl("https://api.gp.test/", "api.gp.test", "[fd00:200::1]", *ca)
    r.check("redirected IPv6", "verify=SUCCESS dn=CN=alice" in out, out)
    code, out = curl("http://plain.gp.test/", "plain.gp.test")
    r.check("redirected plain HTTP, the host from its Host field", "auth=Bearer plain-token host=plain.gp.test" in out, out)
    code, out = curl("https://other.gp.test/", "other.gp.test", "10.200.0.1", "--cacert", str(pem("ca.pem")))
    r.check("a host without a rule is passed to the address it dialled, with the server's own certificate", "verify=NONE" in out and "auth= " in out, out)
    code, out = curl("http://other.gp.test/", "other.gp.test")
    r.check("also in clear, without a credential", "auth= host=other.gp.test" in out, out)
    code, out = curl("https://api.gp.test/", "api.gp.test", "10.200.0.1", *ca, "-H", "Host: plain.gp.test")
    r.check("another Host than the server name is 421", "not where this connection goes" in out and "Bearer" not in out, out)
    code, out = curl("https://denied.gp.test/", "denied.gp.test", "10.200.0.1", *ca)
    r.check("a denied host is told so", "a rule denies" in out, out)
    code, out = sh(*inside, *as_other(PY, "-c", "import socket; s = socket.create_connection(('10.200.0.1', 7000), 10); print(s.recv(100))"))
    r.check("a protocol whose server speaks first passes", "server speaks first" in out, out)
    code, out = sh(*inside, "curl", "-sS", "--max-time", "5", "http://127.0.0.1:15001/")
    r.check("who comes without a redirection is refused", code != 0 and "no firewall redirected" in log(), out)

    # A gatepass that runs as a user whose connections are redirected as well.
    looped = lab.dir / "looped"
    looped.mkdir()
    os.chown(looped, int(OTHER), int(OTHER))
    sh(*inside, "nft", "add rule inet gatepass out tcp dport 8443 redirect to :15002")
    rules = [{"host": "loop.gp.test", "scheme": "any", "port": "any", "connect_to": "10.200.0.1"}]
    (looped / "gatepass.yaml").write_text(json.dumps({"listeners": [{"listen": "127.0.0.1:15002", "mode": "transparent"}], "rules": rules}))
    start(as_other(GATEPASS, "run", "-c", looped / "gatepass.yaml"), "looped", env={"GATEPASS_HOME": str(looped / "home")})
    told = lambda: (lab.dir / "looped.log").read_text()
    for _ in range(100):
        if "redirected to it" in told():
            break
        time.sleep(0.1)
    code, out = sh(*inside, *as_other("curl", "-sS", "--max-time", "10", "-k", "--resolve", "loop.gp.test:8443:10.200.0.1", "https://loop.gp.test:8443/"))
    r.check("a loop is broken at once, and said", "own connection was redirected" in told() and told().count("own connection was redirected") < 4, (out, told()[-600:]))


def borrowed(lab, r):
    "what `gatepass exec` adds is for its own command: other users of the machine cannot borrow it"
    need_root()
    import json

    port, _ = servers(lab)
    config = lab.dir / "borrowed.yaml"
    config.write_text(json.dumps({"rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"), bearer="real-token")]}))
    env = {"GATEPASS_HOME": str(lab.dir / "borrowed-home")}
    fetch = 'curl -sS -k --max-time 10 -x "%s" https://api.gp.test/secret'
    bare = "http://${https_proxy##*@}"

    def run(script, *flags):
        return sh(GATEPASS, "exec", *flags, "-c", config, "--", "sh", "-c", script, env=env)[1]

    other = " ".join(as_other())
    out = run(fetch % "$https_proxy")
    r.check("with the password of the run: welcomed", "welcome CN=alice" in out, out)
    out = run(fetch % bare)
    r.check("a process of the same user without it: welcomed", "welcome CN=alice" in out, out)
    out = run(f"{other} " + fetch % bare)
    r.check("another user without it: refused, and exec says so", "welcome" not in out and "407" in out and "this run's password" in out, out)
    out = run(f"{other} " + fetch % "$https_proxy")
    r.check("the password is what lets another user in", "welcome CN=alice" in out, out)
    out = run(f"{other} " + fetch % bare, "--no-token")
    r.check("--no-token does not let another user in either", "welcome" not in out, out)
    out = run("curl -sS --cacert /etc/ssl/certs/ca-certificates.crt https://api.gp.test/secret")
    r.check("a client that does not trust the CA is told of on stderr", "does not trust gatepass's CA" in out, out)
    out = run("curl -sS https://nowhere.invalid/; curl -sS -o /dev/null https://nowhere.invalid/")
    r.check("what gatepass refuses is said once", out.count("nowhere.invalid:443: cannot") <= 1 and "nowhere.invalid" in out, out)


SEND_AND_CLOSE = """
import socket, sys, time
to = ('127.0.0.1', int(sys.argv[1]))
for _ in range(40):
    s = socket.create_connection(to)
    s.sendall(b'GET http://api.gp.test/closed HTTP/1.1\\r\\nHost: api.gp.test\\r\\n\\r\\n')
    s.close()
held = []
for _ in range(1500):
    try:
        held.append(socket.create_connection(to, 2))
    except OSError:
        break
print(len(held), flush=True)
time.sleep(20)
"""


def same_user(lab, r):
    "another user that sends its request and closes is nobody, and its connections hold up nobody"
    need_root()
    import http.server, resource, threading
    seen = []

    class Told(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers.get("authorization")))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    port = free_ports(1)[0]
    rules = [rule(lab, "api.gp.test", api.server_address[1], scheme="http", bearer="real-token")]
    gate = lab.gatepass({"listeners": [{"listen": f"127.0.0.1:{port}", "access": {"same_user": True}}], "rules": rules}, name="same-user")
    other = lab.start(as_other(PY, "-c", SEND_AND_CLOSE, str(gate.port)), "same-user-other")
    for _ in range(200):
        time.sleep(0.1)
        if (lab.dir / "same-user-other.log").read_text().strip():
            break
    held = (lab.dir / "same-user-other.log").read_text()
    r.check("the other user holds connections", held.strip().isdigit() and int(held) > 500, held)
    r.check("nothing of 40 requests by another user that closed at once was carried", not seen, seen[:3])
    began = time.time()
    code, out = sh("curl", "-sS", "--max-time", "10", "-x", gate.proxy, "http://api.gp.test/own", "-o", "/dev/null", "-w", "%{http_code}")
    took = time.time() - began
    r.check(f"with {held.strip()} of its connections open, the owner is served in {took * 1000:.0f} ms", out.strip() == "204" and took < 1, out)
    r.check("with the token", seen == [("/own", "Bearer real-token")], seen)
    code, out = sh(*as_other("curl", "-sS", "--max-time", "10", "-x", gate.proxy, "http://api.gp.test/other"))
    r.check("the other user is not", len(seen) == 1, (code, out))
    other.terminate()


GROUPS = {"same-user": same_user, "exec-token": borrowed, "ways-in": every_way, "systemd-socket": systemd, "transparent": transparent}
