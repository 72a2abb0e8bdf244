"""Which certificate goes where: several hosts on one port, one connection for two certificates, a certificate renewed in place."""
import shutil
import sys
import textwrap
import time

from checks import certificate, rule, servers
from kit import HERE, free_ports, need, sh, wait_port

# Who each host on the shared port lets in.
GUESTS = {"a.gp.test": "alice", "b.gp.test": "bob", "c.gp.test": "carol"}


def picky_nginx(lab):
    """One port, three hosts: each lets in one client certificate only. Its port."""
    need("nginx")
    (port,) = free_ports(1)
    folder = lab.dir / "picky"
    folder.mkdir()
    hosts = "".join(textwrap.dedent(f"""
        server {{
          listen 127.0.0.1:{port} ssl http2;
          server_name {host};
          ssl_protocols TLSv1.2 TLSv1.3;
          ssl_certificate {lab.pem('server.pem')};
          ssl_certificate_key {lab.pem('server.key')};
          ssl_client_certificate {lab.pem('ca.pem')};
          ssl_verify_client on;
          ssl_verify_depth 2;
          default_type text/plain;
          if ($ssl_client_s_dn !~ "CN={who}") {{ return 403 "not you, $ssl_client_s_dn\\n"; }}
          location / {{ return 200 "welcome $ssl_client_s_dn\\n"; }}
        }}
    """) for host, who in GUESTS.items())
    (folder / "nginx.conf").write_text(textwrap.dedent(f"""
        worker_processes 1;
        pid {folder}/pid;
        error_log {folder}/error.log;
        daemon off;
        events {{ worker_connections 1024; }}
        http {{
          access_log off;
          client_body_temp_path {folder}/b;
          proxy_temp_path {folder}/p;
          fastcgi_temp_path {folder}/f;
          uwsgi_temp_path {folder}/u;
          scgi_temp_path {folder}/s;
          ssl_session_cache shared:picky:1m;
    """) + hosts + "}\n")
    lab.start(["nginx", "-p", folder, "-c", folder / "nginx.conf"], "picky")
    wait_port(port)
    return port


def hosts(lab, r):
    "three hosts on one port, each with its own client certificate; carol's comes with its intermediate"
    port = picky_nginx(lab)
    direct = lambda host, who: sh(
        "curl", "-sS", "--connect-to", f"{host}:443:127.0.0.1:{port}", "--cacert", lab.pem("ca.pem"),
        "--cert", lab.pem(f"{who}.pem"), "--key", lab.pem(f"{who}.key"), f"https://{host}/",
    )[1]
    r.check("control: a.gp.test lets alice in", "welcome CN=alice" in direct("a.gp.test", "alice"))
    r.check("control: a.gp.test refuses bob", "not you, CN=bob" in direct("a.gp.test", "bob"))

    gate = lab.gatepass({"rules": [rule(lab, host, port, client_certificate=certificate(lab, who)) for host, who in GUESTS.items()]}, name="hosts")
    for host, who in GUESTS.items():
        answers = [gate.curl(f"https://{host}/", version)[1] for version in ("--http1.1", "--http2") * 3]
        r.check(f"{host} meets {who}, six times", all(f"welcome CN={who}" in a for a in answers), answers)

    code, out = gate.curl("https://a.gp.test/", "-i", "-H", "Host: b.gp.test")
    r.check("Host b in the tunnel to a: 421", "421 Misdirected" in out or "HTTP/2 421" in out, out)
    code, out = sh(
        "openssl", "s_client", "-quiet", "-proxy", gate.proxy.removeprefix("http://"), "-connect", "a.gp.test:443",
        "-servername", "b.gp.test", "-CAfile", gate.ca, input="GET / HTTP/1.1\r\nHost: b.gp.test\r\nConnection: close\r\n\r\n",
    )
    r.check("TLS server name b in the tunnel to a: 421", "421 Misdirected" in out, out)


def one_connection(lab, r):
    "one HTTP/2 connection of the client, two client certificates by path"
    port, _ = servers(lab)
    gate = lab.gatepass({
        "client_certificates": {"alice": certificate(lab, "alice"), "bob": certificate(lab, "bob")},
        "rules": [
            rule(lab, "api.gp.test", port, client_certificate="alice"),
            {"host": "api.gp.test", "path": "/dn/bob", "client_certificate": "bob"},
        ],
    }, name="one-connection")
    code, out = sh(sys.executable, HERE / "two_paths.py", gate.proxy, gate.ca)
    r.check("200 streams of one connection: each with the right subject", "alice 100, bob 100" in out, out)
    asked = [gate.curl(f"https://api.gp.test/dn{path}", "--tls-max", "1.2")[1] for path in ("", "/bob") * 10]
    wrong = [a for n, a in enumerate(asked) if f"dn=CN={('alice', 'bob')[n % 2]} " not in a]
    r.check("no TLS session of one identity is resumed by the other", not wrong, wrong[:2])


def renewal(lab, r):
    "a client certificate that is renewed in its files is presented from then on"
    port, _ = servers(lab)
    folder = lab.dir / "renewal"
    folder.mkdir()

    def install(who):
        for kind in ("pem", "key"):
            shutil.copy(lab.pem(f"{who}.{kind}"), folder / f"new.{kind}")
            (folder / f"new.{kind}").rename(folder / f"tls.{kind}")

    install("alice")
    own = {"cert": str(folder / "tls.pem"), "key": str(folder / "tls.key")}
    gate = lab.gatepass({"rules": [rule(lab, "api.gp.test", port, client_certificate=own)]}, name="renewal")
    subject = lambda: gate.curl("https://api.gp.test/dn")[1]
    r.check("before: alice", "dn=CN=alice " in subject(), subject())
    install("bob")
    end = time.time() + 5
    while "dn=CN=bob " not in subject() and time.time() < end:
        time.sleep(0.1)
    r.check("after: bob, without a word to gatepass", "dn=CN=bob " in subject(), gate.log()[-400:])


GROUPS = {"hosts": hosts, "one-connection": one_connection, "renewal": renewal}
