"""Other ways into gatepass: HTTP/2 in clear, clients with another TLS library, more clients under `gatepass exec`."""
import json
import sys

from checks import certificate, rule, servers
from kit import GATEPASS, need, sh

PY = sys.executable


def cleartext(lab, r):
    "plain http: absolute-form, and HTTP/1.1 or HTTP/2 with prior knowledge inside CONNECT"
    servers(lab)
    gate = lab.gatepass({"rules": [{"host": "plain.gp.test", "scheme": "http", "connect_to": f"127.0.0.1:{lab.backend_port}", "bearer": "plain-token"}]}, name="cleartext")
    ways = {"absolute-form": [], "CONNECT, HTTP/1.1": ["-p"], "CONNECT, HTTP/2": ["-p", "--http2-prior-knowledge"]}
    code, out = sh("curl", "-sS", f"http://127.0.0.1:{lab.backend_port}/token")
    r.check("control: no token without gatepass", '"authorization": null' in out, out)
    for way, flags in ways.items():
        code, out = gate.curl("http://plain.gp.test/token", *flags, "-w", "%{http_version}")
        version = "2" if "HTTP/2" in way else "1.1"
        r.check(f"{way}: the token is added", '"authorization": "Bearer plain-token"' in out and out.strip().endswith(version), out)


def tls_libraries(lab, r):
    "clients on other TLS libraries: OpenSSL by itself, GnuTLS"
    need("wget")
    port, _ = servers(lab)
    gate = lab.gatepass({"rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"))]}, name="tls-libraries")
    request = "GET /dn HTTP/1.1\r\nHost: api.gp.test\r\nConnection: close\r\n\r\n"
    for version in ("-tls1_2", "-tls1_3"):
        code, out = sh(
            "openssl", "s_client", "-quiet", "-verify_return_error", version, "-proxy", gate.proxy.removeprefix("http://"),
            "-connect", "api.gp.test:443", "-servername", "api.gp.test", "-CAfile", gate.ca, input=request,
        )
        r.check(f"openssl s_client {version}", "dn=CN=alice " in out, out)
    fetch = lambda ca, url, **env: sh("wget", "-nv", "-O-", "--content-on-error", f"--ca-certificate={ca}", url, env=env)[1]
    out = fetch(gate.ca, "https://api.gp.test/dn", https_proxy=gate.proxy)
    r.check("wget, which has GnuTLS", "dn=CN=alice " in out, out)
    out = fetch(lab.pem("ca.pem"), f"https://localhost:{port}/dn")
    r.check("control: wget without gatepass is refused by nginx", "No required SSL certificate was sent" in out, out)


def exec_clients(lab, r):
    "`gatepass exec` with clients that are told by its variables alone"
    port, _ = servers(lab)
    config = lab.dir / "exec-clients.yaml"
    config.write_text(json.dumps({"rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"), bearer="real-token")]}))
    home = {"GATEPASS_HOME": str(lab.dir / "exec-clients-home")}
    url = "https://api.gp.test/secret"
    clients = {
        "urllib": [PY, "-c", f"import urllib.request as u; print(u.urlopen('{url}').read().decode())"],
        "httpx, HTTP/2": [PY, "-c", f"import httpx; print(httpx.Client(http2=True).get('{url}').text)"],
        "aiohttp": [PY, "-c", f"import aiohttp, asyncio\nasync def f():\n  async with aiohttp.ClientSession(trust_env=True) as s, s.get('{url}') as x: print(await x.text())\nasyncio.run(f())"],
    }
    for name, argv in clients.items():
        need(argv[0])
        code, out = sh(GATEPASS, "exec", "-c", config, "--", *argv, env=home)
        r.check(f"exec {name} is welcomed", "welcome CN=alice" in out, out)


GROUPS = {"cleartext": cleartext, "tls-libraries": tls_libraries, "exec-clients": exec_clients}
