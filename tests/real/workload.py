"""Client certificates and trust from a SPIFFE Workload API: followed as they are renewed, checked by SPIFFE ID."""
import re
import sys
import textwrap
import threading
import time

from checks import rule
from kit import GATEPASS, HERE, Skip, free_ports, need, sh, wait_port

ROTATE = 3


def agent(lab, socket, name="agent"):
    """The test agent, listening."""
    code, out = sh(sys.executable, "-c", "import spiffe, grpc")
    if code:
        raise Skip("the Python package spiffe is not installed")
    process = lab.start([sys.executable, HERE / "servers/spiffe/agent.py", socket, lab.pem("ca.pem"), lab.pem("ca.key"), ROTATE], name)
    end = time.time() + 20
    while not socket.exists() and time.time() < end:
        time.sleep(0.05)
    return process


def nginx(lab):
    """nginx whose certificate has a SPIFFE ID and no host name, and which wants a client certificate. Its port."""
    need("nginx", "openssl")
    (port,) = free_ports(1)
    d = lab.dir / "workload"
    (d / "t").mkdir(parents=True)
    run = lambda *argv: sh("openssl", *argv, cwd=d)
    run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "api.key")
    run("req", "-new", "-key", "api.key", "-subj", "/O=SPIRE", "-out", "api.csr")
    (d / "api.ext").write_text("subjectAltName=URI:spiffe://gp.test/api\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n")
    run("x509", "-req", "-in", "api.csr", "-CA", lab.pem("ca.pem"), "-CAkey", lab.pem("ca.key"), "-set_serial", "0x5f1ffe", "-days", "30", "-extfile", "api.ext", "-out", "api.pem")
    (d / "nginx.conf").write_text(textwrap.dedent(f"""
        worker_processes 1;
        pid {d}/pid;
        error_log {d}/error.log;
        daemon off;
        events {{ worker_connections 1024; }}
        http {{
          access_log off;
          client_body_temp_path {d}/t/b; proxy_temp_path {d}/t/p; fastcgi_temp_path {d}/t/f; uwsgi_temp_path {d}/t/u; scgi_temp_path {d}/t/s;
          server {{
            listen 127.0.0.1:{port} ssl http2;
            ssl_certificate {d}/api.pem;
            ssl_certificate_key {d}/api.key;
            ssl_client_certificate {lab.pem("ca.pem")};
            ssl_verify_client on;
            default_type text/plain;
            location / {{ return 200 "verify=$ssl_client_verify dn=$ssl_client_s_dn serial=$ssl_client_serial\\n"; }}
          }}
        }}
    """))
    lab.start(["nginx", "-p", d, "-c", d / "nginx.conf"], "workload-nginx")
    wait_port(port)
    return port


def svid(lab, r):
    "an SVID and trust from the Workload API: accepted by nginx, renewed under load, kept while the agent is away"
    port, socket = nginx(lab), lab.dir / "agent.sock"
    serving = agent(lab, socket)
    code, out = sh("curl", "-sSk", f"https://localhost:{port}/")
    r.check("control: nginx refuses a request without a certificate", "400" in out and "verify=SUCCESS" not in out, out)

    source = {"spiffe": {"socket": f"unix://{socket}"}}
    base = {"connect_to": f"127.0.0.1:{port}", "ca_bundle": "domain", "client_certificate": "gate"}
    config = {
        "client_certificates": {"gate": source, "second": {"spiffe": {"socket": str(socket), "spiffe_id": "spiffe://gp.test/second"}}},
        "ca_bundles": {"domain": source},
        "rules": [
            {"host": "api.gp.test", **base, "tls": {"spiffe_id": "spiffe://gp.test/api"}},
            {"host": "member.gp.test", **base, "tls": {"spiffe_id": "spiffe://gp.test"}, "client_certificate": "second"},
            {"host": "foreign.gp.test", **base, "tls": {"spiffe_id": "spiffe://gp.test/other"}},
            {"host": "byname.gp.test", **base},
        ],
    }
    gate = lab.gatepass(config, name="workload", env={"SPIFFE_ENDPOINT_SOCKET": "unix:/no/such"})
    for http in ("--http1.1", "--http2"):
        out = gate.curl("https://api.gp.test/", http)[1]
        r.check(f"the agent's first SVID is accepted ({http})", "verify=SUCCESS dn=CN=gate,O=SPIRE" in out, out)
    out = gate.curl("https://member.gp.test/")[1]
    r.check("another SVID by its ID; a server of the trust domain", "dn=CN=second,O=SPIRE" in out, out)
    out = gate.curl("https://foreign.gp.test/")[1]
    r.check("a server with another SPIFFE ID is refused", "has the SPIFFE ID spiffe://gp.test/api, and spiffe://gp.test/other is expected" in out, out)
    out = gate.curl("https://byname.gp.test/")[1]
    r.check("without the setting its host name is checked, and the line to add is told", 'spiffe_id: "spiffe://gp.test/api"' in out, out)
    code, out = sh(GATEPASS, "certs", "list", "-c", gate.file, env=gate.env)
    r.check("certs list shows SVIDs and trust", "O=SPIRE, CN=second" in out and "CA  domain" in out, out)

    answers, stop = [], time.time() + 3.5 * ROTATE
    def load(http):
        while time.time() < stop:
            answers.append(gate.curl(*["https://api.gp.test/"] * 20, http)[1])
    threads = [threading.Thread(target=load, args=(http,)) for http in ("--http1.1", "--http2") * 2]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    lines = [line for answer in answers for line in answer.splitlines() if line]
    serials = set(re.findall(r"serial=([0-9A-F]+)", "\n".join(lines)))
    bad = [line for line in lines if "verify=SUCCESS dn=CN=gate" not in line]
    r.check(f"{len(lines)} requests while it is renewed every {ROTATE} s: none failed", lines and len(lines) == 20 * len(answers) and not bad, bad[:3])
    r.check(f"the server saw {len(serials)} serial numbers", len(serials) >= 3, serials)

    serving.terminate()
    serving.wait(10)
    out = gate.curl("https://api.gp.test/")[1]
    r.check("the agent is away: its last SVID is used", "verify=SUCCESS dn=CN=gate" in out, out)
    end = time.time() + 5
    while "is used until it ends" not in gate.log() and time.time() < end:
        time.sleep(0.1)
    r.check("and the log says so", "is used until it ends" in gate.log(), gate.log()[-600:])
    last = re.search(r"serial=([0-9A-F]+)", out).group(1)
    socket.unlink(missing_ok=True)
    agent(lab, socket, "agent-again")
    end, out = time.time() + 20, ""
    while (not (found := re.search(r"serial=([0-9A-F]+)", out)) or found.group(1) == last) and time.time() < end:
        time.sleep(0.2)
        out = gate.curl("https://api.gp.test/")[1]
    r.check("the agent is back: its new SVID is taken up", found and found.group(1) != last and "agent is back" in gate.log(), out + gate.log()[-400:])


def svid_mistakes(lab, r):
    "what can be wrong with a Workload API, found by check"
    socket = lab.dir / "agent-mistakes.sock"
    serving = agent(lab, socket, "agent-mistakes")

    def check(name, spiffe, *words, env=None, code=1):
        file = lab.dir / "svid-mistake.yaml"
        file.write_text(f"client_certificates:\n  svc: {{ spiffe: {spiffe} }}\n")
        got, out = sh(GATEPASS, "check", "-c", file, env={"GATEPASS_HOME": str(lab.dir / "svid-home"), **(env or {})})
        r.check(name, got == code and all(word in out for word in words) and (not code or ".yaml:2:" in out and "help:" in out), out)

    check("control: the right one passes", f"{{ socket: {socket} }}", code=0)
    check("the socket from SPIFFE_ENDPOINT_SOCKET", "{}", env={"SPIFFE_ENDPOINT_SOCKET": f"unix://{socket}"}, code=0)
    check("no socket at all", "{}", "nothing says where the SPIFFE agent listens", "SPIFFE_ENDPOINT_SOCKET")
    check("nobody there", "{ socket: unix:/no/such.sock }", "there is no such socket")
    check("an ID that the agent does not have", f"{{ socket: {socket}, spiffe_id: spiffe://gp.test/none }}", "does not have spiffe://gp.test/none", "spiffe://gp.test/gate, spiffe://gp.test/second")
    check("an ID that is none", f"{{ socket: {socket}, spiffe_id: https://gp.test }}", "is not a SPIFFE ID")
    check("an agent behind TCP", "{ socket: tcp://127.0.0.1:8081 }", "is not the path of a Unix socket")
    serving.terminate()


GROUPS = {"svid": svid, "svid-mistakes": svid_mistakes}
