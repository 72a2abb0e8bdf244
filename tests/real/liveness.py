"""Peers that fall silent, and readers that do not read: what they cost, and for how long."""
import os
import socket
import ssl
import textwrap
import time

import h2.config
import h2.connection
from checks import certificate, rule
from kit import FULL, GATEPASS, Skip, free_ports, need, sh, wait_port

LARGE = 4 * 1024 * 1024
WELCOME = "dn=CN=alice"


def origin(lab, address="127.0.0.1"):
    """An nginx with client certificates that has something large, by HTTP/1.1 and HTTP/2; its port."""
    need("nginx")
    port = free_ports(1)[0]
    folder = lab.dir / f"large-{port}"
    (folder / "www").mkdir(parents=True)
    (folder / "www/large").write_bytes(b"x" * LARGE)
    (folder / "nginx.conf").write_text(textwrap.dedent(f"""
        worker_processes 1;
        pid {folder}/pid;
        error_log {folder}/error.log;
        daemon off;
        events {{ worker_connections 8192; }}
        worker_rlimit_nofile 16384;
        http {{
          access_log off;
          send_timeout 600s;
          client_max_body_size 1k;
          client_body_temp_path {folder}/b;
          proxy_temp_path {folder}/p;
          fastcgi_temp_path {folder}/f;
          uwsgi_temp_path {folder}/u;
          scgi_temp_path {folder}/s;
          server {{
            listen {address}:{port} ssl http2;
            ssl_certificate {lab.pem('server.pem')};
            ssl_certificate_key {lab.pem('server.key')};
            ssl_client_certificate {lab.pem('ca.pem')};
            ssl_verify_client on;
            root {folder}/www;
            location = / {{ default_type text/plain; return 200 "dn=$ssl_client_s_dn\\n"; }}
          }}
        }}
    """))
    lab.start(["nginx", "-p", folder, "-c", folder / "nginx.conf"], f"large-{port}")
    wait_port(port)
    return port


def resident(gate):
    for line in open(f"/proc/{gate.process.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024


def open_tls(gate, protocol):
    """A connection to api.gp.test through gatepass, its receive buffer small so that little of it is read unasked."""
    sock = socket.create_connection(("127.0.0.1", gate.port), timeout=60)
    sock.sendall(b"CONNECT api.gp.test:443 HTTP/1.1\r\nHost: api.gp.test:443\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert b" 200 " in head, head
    context = ssl.create_default_context(cafile=str(gate.ca))
    context.set_alpn_protocols([protocol])
    return context.wrap_socket(sock, server_hostname="api.gp.test")


def unread_h1(gate):
    tls = open_tls(gate, "http/1.1")
    tls.sendall(b"GET /large HTTP/1.1\r\nHost: api.gp.test\r\n\r\n")
    return tls


def unread_h2(gate, streams):
    """Streams whose answers are asked for and never read: the windows stay as large as a browser's."""
    tls = open_tls(gate, "h2")
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.local_settings.initial_window_size = 65_535
    connection.initiate_connection()
    for n in range(streams):
        connection.send_headers(2 * n + 1, [(":method", "GET"), (":scheme", "https"), (":authority", "api.gp.test"), (":path", "/large")], end_stream=True)
    tls.sendall(connection.data_to_send())
    return tls


def settle(gate, wanted, within):
    """Waits until `wanted` holds of the memory, and tells the last figure."""
    end = time.monotonic() + within
    while not wanted(resident(gate)) and time.monotonic() < end:
        time.sleep(0.5)
    return resident(gate)


def unread(lab, r):
    "1,500 streams and 300 connections whose readers do not read: memory stays small, and they end"
    port = origin(lab)
    config = {"limits": {"stall": "15s"}, "rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"))]}
    kinds = (
        ("15 connections of 100 streams", lambda gate: [unread_h2(gate, 100) for _ in range(15)]),
        ("300 connections", lambda gate: [unread_h1(gate) for _ in range(300)]),
    )
    binaries = [("glibc", GATEPASS)] + ([("jemalloc", FULL)] if FULL else [])
    for allocator, binary in binaries:
        for kind, opened in kinds:
            hang(lab, r, f"{allocator}, {kind} unread", config, opened, binary, allocator)


def hang(lab, r, what, config, opened, binary, allocator):
    gate = lab.gatepass(config, name=f"unread-{len(what)}{allocator}", binary=binary)
    for version in ("--http1.1", "--http2"):
        r.check(f"{what}: it serves before, {version}", gate.curl("https://api.gp.test/", version)[1].strip() == WELCOME)
    before, peaks = resident(gate), []
    for _ in range(2):
        held = opened(gate)
        time.sleep(8)
        peaks.append(resident(gate))
        end = time.monotonic() + 60
        while len(os.listdir(f"/proc/{gate.process.pid}/fd")) > 60 and time.monotonic() < end:
            time.sleep(0.5)
        r.check(f"{what}: they end after limits.stall", time.monotonic() < end)
        for tls in held:
            tls.close()
    r.check(f"{what}: less than 200 MiB ({before:.0f} before, {peaks[0]:.0f} and {peaks[1]:.0f} while they hang)", max(peaks) < 200)
    # What was loaded once stays: 16 MiB for pages of the binary that the burst touched first (a debug build has many), and
    # the allocators' own tables.
    most = before * 1.2 + 16
    after = settle(gate, lambda now: now <= most, 45)
    r.check(f"{what}: memory is given back ({after:.0f} MiB after two rounds, {before:.0f} before)", after <= most, after)
    r.check(f"{what}: it serves afterwards", gate.curl("https://api.gp.test/")[1].strip() == WELCOME)
    gate.stop()


def early(lab, r):
    "answers that come before the end of an upload are read: our own and an origin's, by HTTP/1.1 and HTTP/2"
    port = origin(lab)
    gate = lab.gatepass({"rules": [
        rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice")),
        {"host": "api.gp.test", "path": "/denied", "action": "deny"},
    ]}, name="early")
    for size in (70_000, 1_000_000):
        body = lab.dir / f"body-{size}"
        body.write_bytes(b"x" * size)
        for version in ("--http1.1", "--http2"):
            for path, expected in (("denied", "403"), ("upload", "413")):
                flags = (version, "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", f"@{body}", "-H", "Expect:")
                got = [gate.curl(f"https://api.gp.test/{path}", *flags) for _ in range(20)]
                good = sum(code == 0 and told.strip().endswith(expected) for code, told in got)
                r.check(f"{size} bytes to /{path}, {version}: {good} of 20 read their {expected}", good == 20, [g for g in got if g[0]][:2])
    script = lab.dir / "client.py"
    script.write_text(textwrap.dedent(f"""
        import http.client, ssl
        good = 0
        for n in range(20):
            client = http.client.HTTPSConnection("127.0.0.1", {gate.port}, context=ssl.create_default_context(cafile={str(gate.ca)!r}), timeout=30)
            client.set_tunnel("api.gp.test", 443)
            client.request("POST", "/denied", body=b"x" * (70_000 + 50_000 * n))
            good += client.getresponse().status == 403
        print(good)
    """))
    code, told = sh("python3", script, timeout=120)
    r.check("Python's http.client, 70 kB to 1 MB: 20 of 20 read their 403", told.strip() == "20", told)


def silent(lab, r):
    "packets to the origin are dropped, as by sleep, a VPN or NAT: the next request is served by another connection"
    need("nft")
    space = f"gp{lab.dir.name[-6:]}"
    if sh("ip", "netns", "add", space)[0] != 0:
        raise Skip("network namespaces need root")
    inside = ["ip", "netns", "exec", space]
    try:
        sh(*inside, "ip", "link", "set", "lo", "up")
        drop(lab, r, inside)
    finally:
        sh("ip", "netns", "del", space)


def drop(lab, r, inside):
    port, listen = free_ports(2)
    folder = lab.dir / "mute"
    folder.mkdir()
    (folder / "nginx.conf").write_text(textwrap.dedent(f"""
        worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; daemon off;
        events {{ }}
        http {{
          access_log off;
          client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
          server {{
            listen 127.0.0.1:{port} ssl http2;
            ssl_certificate {lab.pem('server.pem')}; ssl_certificate_key {lab.pem('server.key')};
            location / {{ default_type text/plain; return 200 "ok $remote_port\\n"; }}
          }}
        }}
    """))
    lab.start([*inside, "nginx", "-p", folder, "-c", folder / "nginx.conf"], "mute")
    time.sleep(1)
    for version in ("--http1.1", "--http2"):
        home = lab.dir / f"mute-home{version}"
        config = lab.dir / f"mute{version}.yaml"
        config.write_text(f"rules:\n  - host: api.gp.test\n    connect_to: 127.0.0.1:{port}\n    ca_bundle: {{ files: [{lab.pem('ca.pem')}], system_roots: false }}\n    bearer: t\n")
        process = lab.start([*inside, GATEPASS, "run", "-c", config, "--listen", f"127.0.0.1:{listen}"], f"mute{version}", env={"GATEPASS_HOME": str(home)})
        time.sleep(2)
        ask = [*inside, "curl", "-sS", "--max-time", "60", version, "-x", f"http://127.0.0.1:{listen}", "--cacert", home / "ca.pem", "https://api.gp.test/"]
        code, told = sh(*ask, timeout=65)
        r.check(f"{version}: it serves before", code == 0 and told.startswith("ok "), told)
        used = told.split()[-1]
        sh(*inside, "nft", f"add table ip gp; add chain ip gp in {{ type filter hook input priority 0; }}; add rule ip gp in tcp sport {used} drop; add rule ip gp in tcp dport {used} drop")
        begun = time.monotonic()
        code, told = sh(*ask, timeout=65)
        took = time.monotonic() - begun
        r.check(f"{version}: a request on the dead connection is served by another, after {took:.1f} s", code == 0 and told.startswith("ok ") and took < 35, told)
        begun = time.monotonic()
        code, told = sh(*ask, timeout=65)
        r.check(f"{version}: the next one at once", code == 0 and time.monotonic() - begun < 2, told)
        process.terminate()
        process.wait(30)


GROUPS = {"unread": unread, "early": early, "silent": silent}
