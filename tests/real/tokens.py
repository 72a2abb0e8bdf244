"""Client certificates that are in no file: keys on a PKCS#11 token (SoftHSM2)."""
import concurrent.futures
import glob
import json
import os
import pathlib
import signal
import time

from checks import certificate, rule, servers
from kit import GATEPASS, free_ports, need, sh, wait_port, Skip

PIN = "1234"


def module():
    for place in ("/usr/lib/softhsm/libsofthsm2.so", *glob.glob("/usr/lib/*/softhsm/libsofthsm2.so")):
        if pathlib.Path(place).exists():
            return place
    raise Skip("SoftHSM2 is not installed")


class Token:
    """A SoftHSM2 token with a key of each kind; `imported` ones came from files, the others were made inside."""

    def __init__(self, lab):
        need("softhsm2-util", "pkcs11-tool", "p11tool", "openssl")
        self.lab, self.module = lab, module()
        self.dir = lab.dir / "softhsm"
        (self.dir / "tokens").mkdir(parents=True)
        (self.dir / "softhsm2.conf").write_text(f"directories.tokendir = {self.dir}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.env = {"SOFTHSM2_CONF": str(self.dir / "softhsm2.conf")}
        self.run("softhsm2-util", "--init-token", "--free", "--label", "gp card", "--so-pin", "87654321", "--pin", PIN)
        self.number = 0
        for who in ("alice", "bob"):  # alice is P-256, bob RSA
            self.number += 1
            der = self.dir / "key.der"
            self.run("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", lab.pem(f"{who}.key"), "-outform", "DER", "-out", der)
            self.write(der, "privkey", f"imported-{who}", "--usage-sign")
            der.unlink()
            self.certify(lab.pem(f"{who}.pem"), f"imported-{who}")
        for name, kind in (("rsa", "rsa:2048"), ("p256", "EC:prime256v1"), ("p384", "EC:secp384r1"), ("p521", "EC:secp521r1"), ("ed25519", "EC:edwards25519")):
            self.generate(name, kind, "intermediate" if name == "p384" else "ca")

    def run(self, *argv):
        code, out = sh(*argv, env={**self.env, "GNUTLS_PIN": PIN})
        if code:
            raise RuntimeError(f"{argv[0]} failed: {out}")
        return out

    def tool(self, *argv):
        return self.run("pkcs11-tool", "--module", self.module, "--token-label", "gp card", "--login", "--pin", PIN, *argv)

    def write(self, file, kind, label, *more):
        self.tool("--write-object", file, "--type", kind, "--id", f"{self.number:02x}", "--label", label, *more)

    def certify(self, pem, label):
        der = self.dir / "cert.der"
        self.run("openssl", "x509", "-in", pem, "-outform", "DER", "-out", der)
        self.write(der, "cert", label)

    def generate(self, name, kind, issuer):
        """A key pair made inside, and a certificate for its public key."""
        self.number += 1
        self.tool("--keypairgen", "--key-type", kind, "--id", f"{self.number:02x}", "--label", name, "--usage-sign")
        public = self.dir / f"{name}.pub.pem"
        self.run("p11tool", "--provider", self.module, "--login", "--export-pubkey", f"pkcs11:token=gp%20card;id=%{self.number:02x}", "--outfile", public)
        # openssl makes a request only with the private key; a certificate for any public key it makes with -force_pubkey.
        extensions = self.dir / f"{name}.ext"
        extensions.write_text("extendedKeyUsage=clientAuth\n")
        pki = self.lab.dir / "pki"
        self.run("openssl", "req", "-new", "-key", pki / "alice.key", "-subj", f"/CN=token-{name}", "-out", self.dir / "any.csr")
        self.run("openssl", "x509", "-req", "-in", self.dir / "any.csr", "-force_pubkey", public, "-CA", pki / f"{issuer}.pem", "-CAkey", pki / f"{issuer}.key", "-set_serial", f"0x7e57{self.number:02x}", "-days", "30", "-extfile", extensions, "-out", self.dir / f"{name}.pem")
        self.certify(self.dir / f"{name}.pem", name)

    def source(self, name, pin=PIN, **more):
        return {"pkcs11": f"pkcs11:token=gp%20card;object={name}", "pin": pin, "module": self.module, **more}


TOKENS = {}


def token(lab):
    if lab not in TOKENS:
        TOKENS[lab] = Token(lab)
        # carol's intermediate, for the chain of a certificate that it issued
        TOKENS[lab].number = 0x70
        TOKENS[lab].certify(lab.pem("intermediate.pem"), "issuer")
    return TOKENS[lab]


def keys(lab, r):
    "keys of every kind on a token, imported and made inside: nginx on TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2"
    port, _ = servers(lab)
    card = token(lab)
    listed = card.tool("--list-objects", "--type", "privkey")
    r.check("control: keys made inside are never extractable", listed.count("never extractable") == 5, listed)
    code, out = sh("curl", "-sS", "--cacert", lab.pem("ca.pem"), f"https://localhost:{port}/dn")
    r.check("control: nginx refuses a request without a certificate", "400" in out and "CN=" not in out, out)
    subjects = {"imported-alice": "alice", "imported-bob": "bob"} | {n: f"token-{n}" for n in ("rsa", "p256", "p384", "p521", "ed25519")}
    rules = []
    for number, name in enumerate(subjects):
        for version in ("1.2", "1.3"):
            host = f"{name}-{version.replace('.', '')}.gp.test"
            rules.append({"host": host, "connect_to": f"127.0.0.1:{port}", "ca_bundle": str(lab.pem("ca.pem")), "client_certificate": card.source(name), "tls": {"server_name": "api.gp.test", "min_version": version, "max_version": version}})
    gate = lab.gatepass({"rules": rules}, name="token-keys", env=card.env)
    for name, subject in subjects.items():
        for version in ("1.2", "1.3"):
            for http in ("1.1", "2"):
                host = f"{name}-{version.replace('.', '')}.gp.test"
                code, out = gate.curl(f"https://{host}/dn", f"--http{http}")
                want = f"verify=SUCCESS dn=CN={subject} "
                r.check(f"{name}, TLS {version}, HTTP/{http}", want in out and f"TLSv{version}" in out and f"HTTP/{http}" in out, out + gate.log()[-300:])
    code, out = sh(GATEPASS, "certs", "list", "-c", gate.file, env={**card.env, **gate.env})
    r.check("certs list shows the certificates on the token", "CN=token-p521" in out and "CN=alice" in out, out)


def mistakes(lab, r):
    "what can be wrong with a token, found by check: module, token, key, PIN, certificate"
    card = token(lab)
    count = [0]

    def check(source, env=None):
        count[0] += 1
        file = lab.dir / f"token-mistake-{count[0]}.yaml"
        file.write_text("client_certificates:\n  card:\n" + "".join(f"    {k}: \"{v}\"\n" for k, v in source.items()))
        return sh(GATEPASS, "check", "-c", file, env={**card.env, "GATEPASS_HOME": str(lab.dir / "mistakes-home"), **(env or {})})

    def wrong(name, source, *words, env=None):
        code, out = check(source, env)
        r.check(name, code == 1 and all(word in out for word in words) and ".yaml:" in out and "help:" in out and PIN + '"' not in out, out)

    code, out = check(card.source("p256"))
    r.check("control: the right one passes", code == 0, out)
    wrong("a module that is not there", {**card.source("p256"), "module": "/no/such.so"}, "there is no such file")
    wrong("a module that is none", {**card.source("p256"), "module": str(lab.pem("ca.pem"))}, "cannot be used as a PKCS#11 module")
    wrong("no such token", {**card.source("p256"), "pkcs11": "pkcs11:token=other;object=p256"}, "there is no token for", "gp card")
    wrong("no such key", card.source("p257"), "there is no key for", "object=p256;id=%04")
    wrong("several keys", {**card.source("x"), "pkcs11": "pkcs11:token=gp%20card"}, "means 7 keys", "id=%01")
    wrong("no PIN", {k: v for k, v in card.source("p256").items() if k != "pin"}, "asks for a PIN", "pin:")
    wrong("a wrong PIN", card.source("p256", pin="9999"), "refuses the PIN", "not tried again")
    wrong("not a URI", {**card.source("p256"), "pkcs11": "pkcs11:tokn=gp%20card"}, "an attribute that no PKCS#11 URI has")
    wrong("a key in a file beside", {**card.source("p256"), "key": str(lab.pem("alice.key"))}, "the key is on the token")
    r.check("a wrong PIN that two certificates name is tried once", two_wrong(lab, card) == 1)


def two_wrong(lab, card):
    """How often a wrong PIN that two certificates name reaches the token."""
    file = lab.dir / "token-two-wrong.yaml"
    source = card.source("p256", pin="8888")
    text = "client_certificates:\n"
    for name, key in (("a", "p256"), ("b", "p384")):
        text += f"  {name}: {{ pkcs11: \"pkcs11:token=gp%20card;object={key}\", pin: \"8888\", module: {source['module']} }}\n"
    file.write_text(text)
    code, out = sh(GATEPASS, "check", "-c", file, env={**card.env, "GATEPASS_HOME": str(lab.dir / "mistakes-home")})
    return out.count("refuses the PIN") if "has refused this PIN" in out else -1


def many(lab, r):
    "200 requests at once through one token, each on a connection of its own"
    port, _ = servers(lab)
    card = token(lab)
    for name in ("p256", "rsa"):
        own = rule(lab, "api.gp.test", port, client_certificate=card.source(name), tls={"resumption": False, "alpn": ["http/1.1"]})
        gate = lab.gatepass({"rules": [own]}, name=f"token-many-{name}", env=card.env)
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            started = time.time()
            answers = list(pool.map(lambda _: gate.curl("https://api.gp.test/dn", "--http1.1", timeout=60), range(200)))
            took = time.time() - started
        good = sum(f"dn=CN=token-{name} " in out for _, out in answers)
        r.check(f"200 at once, {name}: all accepted ({took:.1f} s)", good == 200, [out for _, out in answers if "verify=SUCCESS" not in out][:2])
        gate.stop()


def gone(lab, r):
    "a token whose service is restarted is opened again; while it is away the request fails and says why"
    port, _ = servers(lab)
    card = token(lab)
    server = pathlib.Path("/usr/libexec/p11-kit/p11-kit-server")
    client = next(iter(glob.glob("/usr/lib/*/pkcs11/p11-kit-client.so")), None)
    if not server.exists() or not client:
        raise Skip("p11-kit's server and client are not installed")
    socket = lab.dir / "p11.sock"

    def serve():
        process = lab.start([server, "--foreground", "--provider", card.module, "-n", socket, "pkcs11:"], "p11-kit", env=card.env)
        end = time.time() + 5
        while not socket.exists() and time.time() < end:
            time.sleep(0.02)
        return process

    service = serve()
    source = {**card.source("p256"), "module": client}
    own = rule(lab, "api.gp.test", port, client_certificate=source, tls={"resumption": False, "alpn": ["http/1.1"]})
    gate = lab.gatepass({"rules": [own], "limits": {"upstream_idle": "1ms"}}, name="token-gone", env={"P11_KIT_SERVER_ADDRESS": f"unix:path={socket}"})
    ask = lambda: gate.curl("https://api.gp.test/dn", "--http1.1", "-i")[1]
    r.check("before", "dn=CN=token-p256 " in ask(), gate.log()[-400:])
    # It serves each connection by a child, which outlives it.
    children = pathlib.Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
    service.terminate()
    service.wait(5)
    for child in children:
        os.kill(int(child), signal.SIGTERM)
    socket.unlink(missing_ok=True)
    out = ask()
    r.check("away: 502, and it says that the token did not sign", "502" in out and "did not sign" in out, out)
    r.check("away: the secret is in no log", PIN not in gate.log(), gate.log())
    serve()
    end = time.time() + 10
    while "dn=CN=token-p256 " not in (out := ask()) and time.time() < end:
        time.sleep(0.3)
    r.check("back: the same gatepass goes on", "dn=CN=token-p256 " in out, out + gate.log()[-600:])


def choice(lab, r):
    "certificates from a file and a token in one rule: the server's list of issuers decides; and by caller, port and path"
    port, _ = servers(lab)
    card = token(lab)
    pki = lab.dir / "pki"
    # A second CA, which issued a certificate for the token's RSA key: in a file beside the token.
    other = lab.dir / "choice"
    other.mkdir()
    card.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", other / "ca.key", "-out", other / "ca.pem", "-days", "30", "-subj", "/CN=Other CA", "-addext", "basicConstraints=critical,CA:TRUE")
    card.run("openssl", "x509", "-req", "-in", card.dir / "any.csr", "-force_pubkey", card.dir / "rsa.pub.pem", "-CA", other / "ca.pem", "-CAkey", other / "ca.key", "-set_serial", "0x07e5", "-days", "30", "-subj", "/CN=other-rsa", "-out", other / "rsa.pem", "-extfile", card.dir / "rsa.ext")
    (picky,) = free_ports(1)
    lab.start(["gnutls-serv", "--http", "--quiet", "-p", picky, "--x509certfile", lab.pem("server.pem"), "--x509keyfile", lab.pem("server.key"), "--x509cafile", other / "ca.pem", "--require-client-cert", "--verify-client-cert"], "gnutls")
    wait_port(picky)
    code, out = sh("curl", "-sS", "--cacert", lab.pem("ca.pem"), "--cert", lab.pem("alice.pem"), "--key", lab.pem("alice.key"), f"https://localhost:{picky}/")
    r.check("control: the GnuTLS server refuses a certificate of the other CA", code != 0, out)

    both = [certificate(lab, "alice"), card.source("rsa", cert=str(other / "rsa.pem"))]
    access = {"users": {"ann": "a", "ben": "b"}}
    (own,) = free_ports(1)
    file, home = other / "gatepass.yaml", other / "home"
    file.write_text(json.dumps({
        "listeners": [{"listen": f"127.0.0.1:{own}", "access": access}],
        "rules": [
            rule(lab, "api.gp.test", port, client_certificate=both),
            rule(lab, "c.gp.test", picky, client_certificate=both),
            {"host": "api.gp.test", "path": "/dn/card", "client_certificate": card.source("p256")},
            {"host": "api.gp.test", "clients": ["ben"], "path": "/dn/caller", "client_certificate": card.source("ed25519")},
            rule(lab, "a.gp.test", port, port=8443, client_certificate=card.source("p521")),
            rule(lab, "a.gp.test", port, client_certificate=card.source("p384")),
        ],
    }))
    lab.start([GATEPASS, "run", "-c", file], "token-choice", env={**card.env, "GATEPASS_HOME": str(home)})
    wait_port(own)
    ask = lambda url, user="ann:a", *more: sh("curl", "-sS", "-x", f"http://{user}@127.0.0.1:{own}", "--cacert", home / "ca.pem", url, *more)[1]
    for http in ("--http1.1", "--http2"):
        out = ask("https://api.gp.test/dn", "ann:a", http)
        r.check(f"nginx names its CA and gets the file's certificate ({http})", "dn=CN=alice " in out, out)
        out = ask("https://api.gp.test/dn/card", "ann:a", http)
        r.check(f"another path: the token's certificate ({http})", "dn=CN=token-p256 " in out, out)
    out = ask("https://c.gp.test/")
    r.check("GnuTLS names the other CA and gets the token's certificate", "reported by the GnuTLS implementation" in out, out)
    r.check("one caller", "dn=CN=alice " in ask("https://api.gp.test/dn/caller"), ask("https://api.gp.test/dn/caller"))
    r.check("the other caller", "dn=CN=token-ed25519 " in ask("https://api.gp.test/dn/caller", "ben:b"), ask("https://api.gp.test/dn/caller", "ben:b"))
    r.check("one port", "dn=CN=token-p384 " in ask("https://a.gp.test/dn"), ask("https://a.gp.test/dn"))
    r.check("the other port", "dn=CN=token-p521 " in ask("https://a.gp.test:8443/dn"), ask("https://a.gp.test:8443/dn"))


GROUPS = {"token-keys": keys, "token-mistakes": mistakes, "token-many": many, "token-gone": gone, "token-choice": choice}
