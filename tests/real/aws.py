"""Credential helpers, at servers that check what they print."""
import json

from checks import rule, servers
from kit import need, sh


def script(lab, name, text):
    """A helper that gatepass runs; it counts its runs in NAME.runs."""
    file = lab.dir / name
    file.write_text(f"#!/bin/sh\ncd {lab.dir} && echo x >> {name}.runs\n{text}\n")
    file.chmod(0o755)
    return str(file)


def runs(lab, name):
    file = lab.dir / f"{name}.runs"
    return len(file.read_text().splitlines()) if file.exists() else 0


def exec_credentials(lab, r):
    "what helpers print in each format opens nginx and Apache; a wrong secret, a failing helper, another host do not"
    need("git")
    _, port = servers(lab)
    basic, _ = lab.apache()
    wrong = json.dumps({"token": "s3cret-wrong"})
    later = "2099-01-01T00:00:00Z"
    kubernetes = json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "real-token", "expirationTimestamp": later}})
    helpers = {
        "raw": "sleep 0.3; echo real-token",
        "json": f"echo '{json.dumps({'access_token': 'real-token', 'expires_in': 3600})}'",
        "headers": "echo 'Authorization: Bearer real-token'",
        "kubernetes": f"echo '{kubernetes}'",
        # Its first token is an old one.
        "renewed": "if [ $(wc -l < renewed.runs) = 1 ]; then echo old-token; else echo real-token; fi",
        "wrong": f"echo '{wrong}'",
        "failing": "echo s3cret-output; echo 'the vault is sealed' >&2; exit 7",
    }
    formats = {"renewed": "raw", "wrong": "json", "failing": "raw"}
    store = lab.dir / "git-credentials"
    store.write_text("https://svc:s3cret%20pass@basic.gp.test\n")
    git = {"command": ["git", "credential-store", "--file", str(store)], "format": "git"}
    rules = [rule(lab, f"{name}.gp.test", port, exec={"command": [script(lab, name, text)], "format": formats.get(name, name)}, tls={"server_name": "localhost"}) for name, text in helpers.items()]
    rules.append(rule(lab, "basic.gp.test", basic, exec=git))
    rules.append(rule(lab, "vhost.gp.test", basic, exec=git))
    rules.append(rule(lab, "other.gp.test", port))
    gate = lab.gatepass({"rules": rules}, name="helpers")

    code, out = gate.curl("https://other.gp.test/secret")
    r.check("without a helper nginx asks for a token", "no valid token" in out, out)
    code, out = gate.curl("https://other.gp.test/dn")
    r.check("and a host without a helper is shown no token", "auth=\n" in out, out)
    urls = [f"https://raw.gp.test/secret?{n}" for n in range(20)]
    code, out = sh("curl", "-sS", "-x", gate.proxy, "--cacert", gate.ca, "--parallel", "--parallel-immediate", *urls)
    r.check("raw: twenty at once are welcomed", out.count("welcome") == 20, out)
    r.check("raw: by one run", runs(lab, "raw") == 1, runs(lab, "raw"))
    for name in ("json", "headers", "kubernetes"):
        code, out = gate.curl(f"https://{name}.gp.test/secret")
        r.check(f"{name}: welcomed", "welcome" in out, out)
    code, out = gate.curl("https://renewed.gp.test/secret", "-d", "a body that is sent twice")
    r.check("a 401 has the helper run again, and the request sent again", "welcome" in out and runs(lab, "renewed") == 2, (out, runs(lab, "renewed")))
    code, out = gate.curl("https://wrong.gp.test/secret")
    r.check("a wrong token is nginx's to refuse, after one more run", "no valid token" in out and runs(lab, "wrong") == 2, (out, runs(lab, "wrong")))
    code, out = gate.curl("https://failing.gp.test/secret", "-i")
    r.check("a failing helper is a 502 that says where to look, and the log says why", " 502" in out and "the vault is sealed" not in out and "by hand" in out and "the vault is sealed" in gate.log(), out)
    r.check("its output is shown nowhere", "s3cret-output" not in out + gate.log(), out)

    code, out = gate.curl("https://basic.gp.test/basic/hello.txt")
    r.check("git's own credential-store opens Apache", "hello from apache" in out, out)
    code, out = gate.curl("https://vhost.gp.test/basic/hello.txt")
    r.check("a host that git's store does not know gets no credential, and the request does not leave", "knows no `username`" in out, out)
    store.write_text("https://svc:wrong@basic.gp.test\n")
    second = lab.gatepass({"rules": [rule(lab, "basic.gp.test", basic, exec=git)]}, name="helpers-wrong")
    code, out = second.curl("https://basic.gp.test/basic/hello.txt", "-o", "/dev/null", "-w", "%{http_code}")
    r.check("a wrong password in the store is Apache's 401", out.strip() == "401", out)


GROUPS = {"exec-credentials": exec_credentials}
