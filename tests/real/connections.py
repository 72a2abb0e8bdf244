"""Servers that end connections: at their limit of requests, at a reload, when idle. No request may fail for it."""
import signal
import subprocess
import textwrap
import time

from checks import certificate, rule
from kit import free_ports, need, wait_port

# nginx lets a connection go after so many requests: by `Connection: close` on HTTP/1.1, by GOAWAY on HTTP/2. What was
# already on its way then stays unanswered, for the client to send again (RFC 9113 section 8.7); curl does so by itself.
REQUESTS_A_CONNECTION = 100
WELCOME = "dn=CN=alice"


def fickle_nginx(lab):
    """An nginx with client certificates that lets connections go early; its port and its process."""
    need("nginx")
    port, behind = free_ports(2)
    folder = lab.dir / "fickle"
    folder.mkdir()
    (folder / "nginx.conf").write_text(textwrap.dedent(f"""
        worker_processes 1;
        pid {folder}/pid;
        error_log {folder}/error.log;
        daemon off;
        events {{ worker_connections 4096; }}
        http {{
          access_log off;
          keepalive_requests {REQUESTS_A_CONNECTION};
          keepalive_timeout 1s;
          client_body_temp_path {folder}/b;
          proxy_temp_path {folder}/p;
          fastcgi_temp_path {folder}/f;
          uwsgi_temp_path {folder}/u;
          scgi_temp_path {folder}/s;
          server {{
            listen 127.0.0.1:{port} ssl http2;
            ssl_protocols TLSv1.2 TLSv1.3;
            ssl_certificate {lab.pem('server.pem')};
            ssl_certificate_key {lab.pem('server.key')};
            ssl_client_certificate {lab.pem('ca.pem')};
            ssl_verify_client on;
            # Bodies are read to their end: curl 7.88 now and then fails on an early answer, also straight to nginx.
            location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_set_header X-DN $ssl_client_s_dn; }}
          }}
          server {{
            listen 127.0.0.1:{behind};
            location / {{ default_type text/plain; return 200 "dn=$http_x_dn\\n"; }}
          }}
        }}
    """))
    process = lab.start(["nginx", "-p", folder, "-c", folder / "nginx.conf"], "fickle")
    wait_port(port)
    return port, process


def start_load(lab, requests, base, *flags):
    """One curl process that sends all requests, 20 at a time."""
    urls = lab.dir / "fickle-urls"
    urls.write_text("".join(f'url = "{base}/{n}"\n' for n in range(requests)))
    command = ["curl", "-sS", "--no-progress-meter", "--parallel", "--parallel-max", "20", "-K", urls, *flags]
    return subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def outcome(load):
    """How many were welcomed, and what else was said."""
    lines = load.communicate(timeout=120)[0].splitlines()
    return lines.count(WELCOME), [line for line in lines if line != WELCOME]


def fickle(lab, r):
    "a server that lets connections go, at its limit of requests, at a reload, when idle: no request fails for it"
    port, nginx = fickle_nginx(lab)
    gate = lab.gatepass({"rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"))]}, name="fickle-gate")
    direct = ("--cacert", lab.pem("ca.pem"), "--cert", lab.pem("alice.pem"), "--key", lab.pem("alice.key"))
    through = ("-x", gate.proxy, "--cacert", gate.ca)

    for version in ("--http1.1", "--http2"):
        for method, body in (("GET", ()), ("POST", ("-d", "x=1"))):
            welcomes, rest = outcome(start_load(lab, 2000, f"https://localhost:{port}", version, *body, *direct))
            r.check(f"control: 2,000 {method} by {version[2:]} straight to nginx", welcomes == 2000, rest[:2])
            welcomes, rest = outcome(start_load(lab, 2000, "https://api.gp.test", version, *body, *through))
            r.check(f"2,000 {method} by {version[2:]}, {REQUESTS_A_CONNECTION} a connection: {2000 - welcomes} failed", welcomes == 2000, rest[:2])

    for version in ("--http1.1", "--http2"):
        load = start_load(lab, 3000, "https://api.gp.test", version, *through)
        for _ in range(4):
            time.sleep(0.2)
            nginx.send_signal(signal.SIGHUP)
        welcomes, rest = outcome(load)
        r.check(f"3,000 GET by {version[2:]} while nginx reloads: {3000 - welcomes} failed", welcomes == 3000, rest[:2])

    r.check("a connection that nginx closed as idle is not used again", all(ask_when_idle_ends(gate, n) for n in range(6)), gate.log()[-300:])


def ask_when_idle_ends(gate, n):
    """nginx closes after one second: asks shortly before that and shortly after."""
    time.sleep(0.97 + n * 0.01)
    return WELCOME in gate.curl("https://api.gp.test/", "--http1.1" if n % 2 else "--http2")[1]


GROUPS = {"fickle": fickle}
