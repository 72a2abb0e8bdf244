"""A client that holds a dummy: real servers get the real secret, the client never does."""
from checks import rule, servers
from kit import need, sh


def placeholders(lab, r):
    "Apache and nginx accept what stands for a dummy; other hosts get the dummy; a wrong value is theirs to refuse"
    need("apache2")
    _, port = servers(lab)
    basic, _ = lab.apache()
    dummy = "gp-dummy-123"
    held = lambda value: {"match": dummy, "value": value}
    near = {"tls": {"server_name": "localhost"}}
    gate = lab.gatepass({"rules": [
        rule(lab, "basic.gp.test", basic, placeholder=held("s3cret pass")),
        rule(lab, "token.gp.test", port, placeholder=held("real-token"), **near),
        rule(lab, "wrong.gp.test", port, placeholder=held("s3cret-wrong"), **near),
        rule(lab, "other.gp.test", port),
    ]}, name="placeholders")
    bearer = ("-H", f"Authorization: Bearer {dummy}")
    code, out = sh("curl", "-sS", "--cacert", lab.pem("ca.pem"), "-u", f"svc:{dummy}", f"https://localhost:{basic}/basic/hello.txt", "-o", "/dev/null", "-w", "%{http_code}")
    r.check("Apache refuses the dummy without gatepass", out.strip() == "401", out)
    code, out = gate.curl("https://basic.gp.test/basic/hello.txt", "-u", f"svc:{dummy}")
    r.check("curl -u with the dummy is let in by Apache's Basic", "hello from apache" in out, out)
    for flag in ("--http1.1", "--http2"):
        code, out = gate.curl("https://token.gp.test/secret", flag, *bearer)
        r.check(f"{flag}: nginx takes the token behind the dummy", "welcome" in out, out)
        code, out = gate.curl("https://token.gp.test/dn", flag, *bearer)
        r.check(f"{flag}: what nginx echoes has the dummy in it again", f"auth=Bearer {dummy}" in out and "real-token" not in out, out)
    code, out = gate.curl("https://token.gp.test/files/2g.bin", *bearer, "-r", "0-1048575", "-o", "/dev/null", "-w", "%{http_code} %{size_download}")
    r.check("a binary answer passes as it is", out.split() == ["206", "1048576"], out)
    code, out = gate.curl("https://wrong.gp.test/secret", *bearer)
    r.check("a wrong value is nginx's to refuse", "no valid token" in out, out)
    code, out = gate.curl("https://other.gp.test/dn", *bearer)
    r.check("a host outside the rules gets the dummy as it is", f"auth=Bearer {dummy}" in out, out)
    r.check("no secret is in the log", not any(s in gate.log() for s in ("real-token", "s3cret pass", "s3cret-wrong")), gate.log()[-300:])


GROUPS = {"placeholders": placeholders}
