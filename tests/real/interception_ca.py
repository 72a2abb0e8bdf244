"""The interception CA: into the stores of clients and out again, renewed, limited to the ruled hosts."""
import os
import pathlib
import shutil
import subprocess
import time

from checks import certificate, rule, servers
from kit import GATEPASS, need, sh

# In a mount namespace of its own, with copies in the places that the system's store consists of.
NAMESPACE = """
set -e
mkdir -p {copies}/local
cp -a /etc/ssl/certs {copies}/certs
mount --bind {copies}/certs /etc/ssl/certs
mount --bind {copies}/local /usr/local/share/ca-certificates
ask() {{ curl -sS --max-time 20 -x {proxy} https://api.gp.test/dn 2>&1 || true; }}
echo "before: $(ask)"
{gatepass} ca install --store system
echo "after: $(ask)"
{gatepass} ca install --store system
{gatepass} ca uninstall --store system
echo "without: $(ask)"
ls /usr/local/share/ca-certificates | wc -l
"""


def own_ca(gate, *argv, env=None):
    return sh(GATEPASS, "ca", *argv, "-c", gate.file, env={"GATEPASS_HOME": str(gate.home), **(env or {})}, timeout=120)


def stores(lab, r):
    "the CA is put into the system's store, NSS databases and Java's cacerts, and taken out again, exactly"
    need("certutil", "keytool", "update-ca-certificates")
    port, _ = servers(lab)
    gate = lab.gatepass({"rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"))]}, name="stores")
    home = lab.dir / "stores-user"
    databases = [home / ".pki/nssdb", home / ".mozilla/firefox/abc.default"]
    for database in databases:
        database.mkdir(parents=True)
        sh("certutil", "-N", "-d", f"sql:{database}", "--empty-password")
        sh("certutil", "-A", "-d", f"sql:{database}", "-t", "C,,", "-n", "gatepass of another machine", "-i", lab.pem("ca.pem"))
    java = home / "java"
    (java / "lib/security").mkdir(parents=True)
    (java / "bin").mkdir()
    real = pathlib.Path(shutil.which("keytool")).resolve()
    (java / "bin/keytool").symlink_to(real)
    shutil.copy(real.parent.parent / "lib/security/cacerts", java / "lib/security/cacerts")
    env = {"HOME": str(home), "JAVA_HOME": str(java)}
    names = lambda database: sh("certutil", "-L", "-d", f"sql:{database}")[1]
    aliases = lambda: sh("keytool", "-list", "-keystore", java / "lib/security/cacerts", "-storepass", "changeit")[1]
    before = aliases()

    code, told = own_ca(gate, "install", "--store", "nss,java", "--dry-run", env=env)
    r.check("--dry-run prints the commands and changes nothing", code == 0 and told.count("would be added to") == 3 and "certutil -A -d" in told and "gatepass CA" not in names(databases[0]), told)
    code, told = own_ca(gate, "install", "--store", "nss,java", env=env)
    r.check("install: both NSS databases and Java", code == 0 and told.count("added to") == 3, told)
    nickname = next((line.split("  ")[0] for line in names(databases[0]).splitlines() if line.startswith("gatepass CA")), "")
    for database in databases:
        valid = sh("certutil", "-V", "-d", f"sql:{database}", "-n", nickname, "-u", "L")[1]
        r.check(f"{database.name}: NSS believes it as a CA of servers", "certificate is valid" in valid, valid)
    r.check("Java's cacerts has it", "gatepass-" in aliases(), aliases()[-300:])
    code, told = own_ca(gate, "install", "--store", "nss,java", env=env)
    r.check("install again: already there", code == 0 and told.count("already in") == 3, told)
    code, told = own_ca(gate, "uninstall", "--store", "nss,java", env=env)
    r.check("uninstall: all three", code == 0 and told.count("removed from") == 3, told)
    others = all("gatepass of another machine" in names(d) and "gatepass CA" not in names(d) for d in databases)
    r.check("what another gatepass put there stays, and Java's is as before", others and aliases().count("trustedCertEntry") == before.count("trustedCertEntry"), names(databases[0]))

    tools = lab.dir / "stores-tools"
    tools.mkdir()
    (tools / "openssl").symlink_to(shutil.which("openssl"))
    code, told = own_ca(gate, "install", "--store", "nss", env={**env, "PATH": str(tools)})
    r.check("without certutil: the package is named", code == 1 and "certutil is not installed (package libnss3-tools" in told, told)

    if os.geteuid() != 0:
        code, told = own_ca(gate, "install", "--store", "system", env=env)
        r.check("without rights: the commands are named", code == 1 and "sudo install -m 644" in told and "update-ca-certificates" in told, told)
        return
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        r.skip("the system's store", "no mount namespaces here")
        return
    gatepass = f"env GATEPASS_HOME={gate.home} {GATEPASS} -c {gate.file}"
    script = NAMESPACE.format(copies=lab.dir / "stores-copies", proxy=gate.proxy, gatepass=gatepass)
    code, told = sh("unshare", "-m", "sh", "-c", script, timeout=240)
    line = lambda start: next((line for line in told.splitlines() if line.startswith(start)), "")
    r.check("system: curl does not believe gatepass before", "dn=" not in line("before:") and "certificate" in line("before:"), told)
    r.check("system: after install it does, without being told", "dn=CN=alice" in line("after:") and "already in the system's store" in told, told)
    r.check("system: after uninstall no more, and no file is left", "dn=" not in line("without:") and told.rstrip().endswith("\n0"), told)


def renewal(lab, r):
    "`ca renew` keeps the key: a running gatepass takes it up, and clients with the old certificate go on; --new-key says what to do"
    port, _ = servers(lab)
    gate = lab.gatepass({"rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"))]}, name="ca-renewal")
    old = lab.dir / "ca-renewal-old.pem"
    shutil.copy(gate.ca, old)
    ask = lambda ca: sh("curl", "-sS", "--max-time", 20, "--retry", 4, "--retry-all-errors", "-x", gate.proxy, "--cacert", ca, "https://api.gp.test/dn")[1]
    shown = lambda: sh("openssl", "s_client", "-proxy", gate.proxy.removeprefix("http://"), "-connect", "api.gp.test:443", "-servername", "api.gp.test", "-showcerts", input="")[1]
    r.check("before: the client reaches the host", "dn=CN=alice" in ask(old), ask(old))
    code, told = own_ca(gate, "renew")
    new = gate.ca.read_text()
    r.check("renew says until when the old one will do", code == 0 and "go on as before, until" in told and new != old.read_text(), told)
    body = new.split("-----")[2].strip()
    end = time.time() + 10
    while body not in shown() and time.time() < end:
        time.sleep(0.2)
    r.check("the running gatepass shows the new one", body in shown(), gate.log()[-400:])
    for name, ca in (("old", old), ("new", gate.ca)):
        r.check(f"a client (OpenSSL) with the {name} certificate goes on", "dn=CN=alice" in ask(ca), ask(ca))
    code, told = own_ca(gate, "renew", "--new-key")
    r.check("--new-key says that clients must trust it", code == 0 and "Clients must trust the new one" in told, told)
    code, told = own_ca(gate, "show")
    r.check("show names the one before", "before it" in told, told)


def limits(lab, r):
    "a CA that is limited to the hosts of the rules: OpenSSL verifies inside, gatepass says it outside"
    port, _ = servers(lab)
    config = {"ca": {"constrain": True}, "unmatched": "intercept", "rules": [rule(lab, "*.gp.test", port, client_certificate=certificate(lab, "alice"))]}
    gate = lab.gatepass(config, name="ca-limits")
    text = sh("openssl", "x509", "-in", gate.ca, "-noout", "-text")[1]
    r.check("name constraints stand in the certificate, critical", "X509v3 Name Constraints: critical" in text and "DNS:gp.test" in text, text)
    code, out = gate.curl("https://api.gp.test/dn")
    r.check("a host inside is reached", "dn=CN=alice" in out, out)
    code, out = gate.curl("https://elsewhere.test/", "-v")
    r.check("a host outside: the error says why", "the interception CA is limited to other hosts than elsewhere.test (gp.test, localhost, 127.0.0.1, ::1)" in out, out[-600:])
    code, told = own_ca(gate, "show")
    r.check("`ca show` says it", "limited to   gp.test" in told, told)
    config["rules"].append({"host": "later.test", "bearer": "x"})
    gate.write(config)
    code, told = sh(GATEPASS, "check", "-c", gate.file, env={"GATEPASS_HOME": str(gate.home)})
    r.check("a rule that was added later: `check` says what to do", "is limited to gp.test, localhost, 127.0.0.1, ::1, which is not all that the rules name" in told and "gatepass ca renew" in told, told)


GROUPS = {"ca-stores": stores, "ca-renewal": renewal, "ca-limits": limits}
