"""Every form of client certificate against three servers, TLS 1.2 and 1.3; and every wrong thing that `check` finds. `forms.py TABLE` is in docs/certificates.md."""
import os
import pathlib
import shutil
import subprocess
import textwrap

from kit import GATEPASS, free_ports, need, sh, wait_port

PASS, UMLAUT = "opensesame", "pässwörd"
ALGORITHMS = {
    "rsa2048": ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "rsa4096": ("RSA", "-pkeyopt", "rsa_keygen_bits:4096"),
    "p256": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "p384": ("EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "p521": ("EC", "-pkeyopt", "ec_paramgen_curve:P-521"),
    "ed25519": ("ED25519",),
    "ed448": ("ED448",),
    "koblitz": ("EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"),
    "pss": ("RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"),
}
NAMES = {"rsa2048": "RSA 2048", "rsa4096": "RSA 4096", "p256": "P-256", "p384": "P-384", "p521": "P-521", "ed25519": "Ed25519"}
# OpenSSL here, and GnuTLS, do not know every one of these; what they make is what is tried.


class Maker:
    """Makes the files, by the programs that people make them with."""

    def __init__(self, lab):
        self.lab, self.dir = lab, lab.dir / "forms"
        if not self.dir.exists():
            self.dir.mkdir()
            self.certificates()
        self.forms = []

    def openssl(self, *argv, **more):
        subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True, cwd=self.dir, **more)

    def certificates(self):
        """One of each algorithm, from the intermediate: its chain must be sent."""
        for name, algorithm in ALGORITHMS.items():
            self.openssl("genpkey", "-algorithm", *algorithm, "-out", f"{name}.key")
            self.openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN=form-{name}", "-out", f"{name}.csr")
            (self.dir / "ext").write_text("extendedKeyUsage=clientAuth\nauthorityKeyIdentifier=keyid\n")
            ca = self.lab.pem("intermediate.pem"), self.lab.pem("intermediate.key")
            self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", ca[0], "-CAkey", ca[1], "-set_serial", f"0x{os.urandom(8).hex()}", "-days", "30", "-extfile", "ext", "-out", f"{name}.crt")
            self.write(f"{name}.chain", self.read(f"{name}.crt") + self.lab.pem("intermediate.pem").read_text())

    def read(self, name):
        return (self.dir / name).read_text()

    def write(self, name, text):
        path = self.dir / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o600)
        return path

    def add(self, title, algorithm="rsa2048", passphrase=None, **files):
        own = {kind: str(self.dir / name) for kind, name in files.items()}
        if passphrase is not None:
            own["passphrase"] = passphrase
        self.forms.append((title, f"form-{algorithm}", own))

    def pem(self):
        for name, title in NAMES.items():
            self.add(f"PKCS#8, {title}", name, cert=f"{name}.chain", key=f"{name}.key")
        self.openssl("rsa", "-in", "rsa2048.key", "-traditional", "-out", "pkcs1.key")
        self.add("PKCS#1", cert="rsa2048.chain", key="pkcs1.key")
        self.openssl("ec", "-in", "p256.key", "-out", "sec1.key")
        self.add("SEC1", "p256", cert="p256.chain", key="sec1.key")
        self.openssl("ecparam", "-name", "prime256v1", "-out", "parameters")
        self.write("parameters.key", self.read("parameters") + self.read("sec1.key"))
        self.add("SEC1 after EC PARAMETERS", "p256", cert="p256.chain", key="parameters.key")
        encrypted = {
            "PBES2 AES-256": ("-v2", "aes-256-cbc"),
            "PBES2 AES-192": ("-v2", "aes-192-cbc"),
            "PBES2 AES-128, HMAC-SHA1": ("-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"),
            "PBES2 3DES": ("-v2", "des3"),
            "PBES2 AES-256, scrypt": ("-scrypt",),
            "PBES1 SHA1-3DES": ("-v1", "PBE-SHA1-3DES"),
            "PBES1 MD5-DES": ("-v1", "PBE-MD5-DES", "-provider", "default", "-provider", "legacy"),
        }
        for at, (title, options) in enumerate(encrypted.items()):
            self.openssl("pkcs8", "-topk8", "-in", "rsa2048.key", *options, "-passout", f"pass:{PASS}", "-out", f"pkcs8-{at}.key")
            self.add(f"PKCS#8 {title}", cert="rsa2048.chain", key=f"pkcs8-{at}.key", passphrase=PASS)
        self.openssl("pkcs8", "-topk8", "-in", "p256.key", "-v2", "aes256", "-passout", f"pass:{UMLAUT}", "-out", "umlaut.key")
        self.add("PKCS#8 PBES2, passphrase not ASCII", "p256", cert="p256.chain", key="umlaut.key", passphrase=UMLAUT)
        for cipher in ("aes256", "aes128", "des3"):
            self.openssl("rsa", "-in", "rsa2048.key", "-traditional", f"-{cipher}", "-passout", f"pass:{PASS}", "-out", f"proc-{cipher}.key")
            self.add(f"Proc-Type 4,ENCRYPTED {cipher}, RSA", cert="rsa2048.chain", key=f"proc-{cipher}.key", passphrase=PASS)
        self.openssl("ec", "-in", "p256.key", "-aes256", "-passout", f"pass:{PASS}", "-out", "proc-ec.key")
        self.add("Proc-Type 4,ENCRYPTED aes256, EC", "p256", cert="p256.chain", key="proc-ec.key", passphrase=PASS)
        chain, key = self.read("p256.chain"), self.read("p256.key")
        intermediate = self.lab.pem("intermediate.pem").read_text()
        texts = {
            "one file": chain + key,
            "one file, key first": key + chain,
            "chain out of order, with the root": self.lab.pem("ca.pem").read_text() + intermediate + self.read("p256.crt") + key,
            "Windows line ends": (chain + key).replace("\n", "\r\n"),
            "UTF-8 with a byte-order mark": "\ufeff" + chain + key,
            "UTF-16 (PowerShell's >)": (chain + key).encode("utf-16"),
            "text around the blocks": "Bag Attributes\n    friendlyName: x\n" + chain + "subject=CN = x\nKey Attributes: <No Attributes>\n" + key + "the end",
        }
        for at, (title, text) in enumerate(texts.items()):
            self.write(f"text-{at}.pem", text)
            self.add(f"PEM, {title}", "p256", cert=f"text-{at}.pem")
        self.openssl("pkcs8", "-topk8", "-nocrypt", "-in", "p256.key", "-outform", "DER", "-out", "p256.der.key")
        self.add("certificate in PEM, key in DER", "p256", cert="p256.chain", key="p256.der.key")

    def pfx(self):
        base = ("pkcs12", "-export", "-inkey", "rsa2048.key", "-in", "rsa2048.crt", "-certfile", self.lab.pem("intermediate.pem"))
        everything = self.write("everything.pem", self.lab.pem("ca.pem").read_text() + self.lab.pem("server.pem").read_text() + self.lab.pem("intermediate.pem").read_text())
        made = {
            "PBES2 AES-256, SHA-256 MAC": (PASS, base),
            "several certificates, out of order": (PASS, (*base[:-1], everything)),
            "-legacy: RC2-40, 3DES, SHA-1 MAC": (PASS, (*base, "-legacy")),
            "3DES, SHA-1 MAC": (PASS, (*base, "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1")),
            "certificates not encrypted": (PASS, (*base, "-certpbe", "NONE")),
            "passphrase not ASCII": (UMLAUT, base),
            "-legacy, passphrase not ASCII": (UMLAUT, (*base, "-legacy")),
            "empty passphrase": ("", base),
            "-legacy, empty passphrase": ("", (*base, "-legacy")),
            "nothing encrypted, no MAC": (None, (*base, "-keypbe", "NONE", "-certpbe", "NONE", "-nomac")),
        }
        for at, (title, (passphrase, argv)) in enumerate(made.items()):
            self.openssl(*argv, "-passout", f"pass:{passphrase or ''}", "-out", f"made-{at}.p12")
            (self.dir / f"made-{at}.p12").chmod(0o600)
            self.add(f"PFX, openssl: {title}", pfx=f"made-{at}.p12", passphrase=passphrase)
        run = lambda *argv: subprocess.run([str(a) for a in argv], check=True, capture_output=True, cwd=self.dir)
        run("mkdir", "-p", "nss")
        run("certutil", "-N", "-d", "sql:nss", "--empty-password")
        run("pk12util", "-i", "made-0.p12", "-d", "sql:nss", "-W", PASS)
        # Without a name in the PFX, NSS makes one of its own from the subject.
        listed = subprocess.run(["certutil", "-L", "-d", "sql:nss"], check=True, capture_output=True, text=True, cwd=self.dir).stdout
        nickname = next(line[:-len(line.split()[-1])].strip() for line in listed.splitlines() if line.rstrip().endswith("u,u,u"))
        run("pk12util", "-o", "nss.p12", "-d", "sql:nss", "-n", nickname, "-W", PASS)
        for title, options in (("", ()), (", -J-Dkeystore.pkcs12.legacy", ("-J-Dkeystore.pkcs12.legacy",))):
            name = f"java{len(options)}.p12"
            run("keytool", *options, "-importkeystore", "-noprompt", "-srckeystore", "made-0.p12", "-srcstoretype", "PKCS12", "-srcstorepass", PASS, "-destkeystore", name, "-deststoretype", "PKCS12", "-deststorepass", PASS)
            self.add(f"PFX, Java keytool{title}", pfx=name, passphrase=PASS)
        self.add("PFX, NSS pk12util", pfx="nss.p12", passphrase=PASS)
        for cipher in ("aes-256", "3des-pkcs12", "rc2-40"):
            run("certtool", "--to-p12", "--load-privkey", "rsa2048.key", "--load-certificate", "rsa2048.chain", "--pkcs-cipher", cipher, "--p12-name", "form", "--password", PASS, "--outder", "--outfile", f"gnutls-{cipher}.p12")
            self.add(f"PFX, GnuTLS certtool, {cipher}", pfx=f"gnutls-{cipher}.p12", passphrase=PASS)
        for name in ("nss.p12", "java0.p12", "java1.p12", "gnutls-aes-256.p12", "gnutls-3des-pkcs12.p12", "gnutls-rc2-40.p12"):
            (self.dir / name).chmod(0o600)


def start_servers(lab):
    """nginx, Apache httpd and GnuTLS, each asking for a certificate of the root; name to port."""
    nginx, apache, gnutls = free_ports(3)
    folder = lab.dir / "forms-servers"
    folder.mkdir()
    (folder / "nginx.conf").write_text(textwrap.dedent(f"""
        worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log; daemon off;
        events {{ worker_connections 1024; }}
        http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
        server {{ listen 127.0.0.1:{nginx} ssl; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {lab.pem('server.pem')}; ssl_certificate_key {lab.pem('server.key')};
        ssl_client_certificate {lab.pem('ca.pem')}; ssl_verify_client on; ssl_verify_depth 3; location / {{ return 200 "$ssl_protocol $ssl_client_s_dn\\n"; }} }} }}
    """))
    lab.start(["nginx", "-p", folder, "-c", folder / "nginx.conf"], "forms-nginx")
    modules = "mpm_event authz_core ssl socache_shmcb headers".split()
    load = "\n".join(f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so" for m in modules)
    (folder / "www").mkdir()
    (folder / "www/index.html").write_text("apache\n")
    (folder / "httpd.conf").write_text(f"""ServerRoot {folder}
PidFile {folder}/apache.pid
ServerName localhost
ErrorLog {folder}/apache.log
{load}
User www-data
Group www-data
DocumentRoot {folder}/www
Listen 127.0.0.1:{apache}
Mutex file:{folder} default
SSLEngine on
SSLCertificateFile {lab.pem('server.pem')}
SSLCertificateKeyFile {lab.pem('server.key')}
SSLCACertificateFile {lab.pem('ca.pem')}
SSLVerifyClient require
SSLVerifyDepth 3
Header always set X-Subject "expr=%{{SSL_PROTOCOL}} %{{SSL_CLIENT_S_DN}}"
<Directory {folder}/www>
Require all granted
</Directory>
<Location />
SetHandler default-handler
</Location>
""")
    (folder / "www/index.html").chmod(0o644)
    if os.geteuid() == 0:
        shutil.chown(folder, "www-data")
    lab.start(["apache2", "-f", folder / "httpd.conf", "-D", "FOREGROUND"], "forms-apache")
    lab.start(["gnutls-serv", "--http", "--port", gnutls, "--x509cafile", lab.pem("ca.pem"), "--x509certfile", lab.pem("server.pem"), "--x509keyfile", lab.pem("server.key"), "--require-client-cert", "--verify-client-cert"], "forms-gnutls")
    for port in (nginx, apache, gnutls):
        wait_port(port)
    return {"nginx": nginx, "apache": apache, "gnutls": gnutls}


def ask_all(lab, gate, urls):
    """URL to what came back, head and body; many at a time."""
    folder = lab.dir / "forms-answers"
    folder.mkdir(exist_ok=True)
    lines = []
    for at, url in enumerate(urls):
        lines += [f'url = "{url}"', f'output = "{folder}/{at}"']
    (folder / "curlrc").write_text("\n".join(lines))
    sh("curl", "-s", "-i", "--http1.1", "-Z", "--parallel-max", 16, "--max-time", 60, "-x", gate.proxy, "--cacert", gate.ca, "-K", folder / "curlrc", timeout=120)
    read = lambda at: (folder / str(at)).read_text(errors="replace") if (folder / str(at)).exists() else "no answer"
    return {url: read(at) for at, url in enumerate(urls)}


def verdict(answer, subject, version):
    if "HTTP/1.1 200" in answer.replace("HTTP/1.0 200", "HTTP/1.1 200") and f"CN={subject}" in answer and version in answer.replace("TLS1.", "TLSv1."):
        return "works"
    told = [line for line in answer.lower().splitlines() if line.startswith("proxy-status")]
    return told[0] if told else " ".join(answer.split())[-200:]


def forms(lab, r):
    "every form of certificate and key, made by openssl, NSS, Java and GnuTLS, against nginx, Apache httpd and GnuTLS, TLS 1.2 and 1.3"
    need("nginx", "apache2", "gnutls-serv", "certtool", "certutil", "pk12util", "keytool", "curl")
    made = Maker(lab)
    made.pem()
    made.pfx()
    servers = start_servers(lab)
    columns = [(server, version) for server in servers for version in ("1.2", "1.3")]
    zone = lambda server, version: f"{server}{version.replace('.', '')}.gp.test"
    rules = [
        {"host": f"*.{zone(server, version)}", "connect_to": f"127.0.0.1:{servers[server]}", "ca_bundle": str(lab.pem("ca.pem")), "tls": {"server_name": "localhost", "min_version": version, "max_version": version}}
        for server, version in columns
    ]
    rules += [{"host": [f"f{at}.{zone(*column)}" for column in columns], "client_certificate": own} for at, (_, _, own) in enumerate(made.forms)]
    gate = lab.gatepass({"rules": rules}, name="forms")
    host = lambda at, column: f"https://f{at}.{zone(*column)}/"
    nobody = lambda column: f"https://nobody.{zone(*column)}/"
    answers = ask_all(lab, gate, [host(at, column) for at in range(len(made.forms)) for column in columns] + [nobody(column) for column in columns])
    for column in columns:
        refused = answers[nobody(column)]
        r.check(f"{column[0]}, TLS {column[1]}: nobody is refused without a certificate", "CN=form" not in refused and ("502" in refused or "400" in refused), refused)
    table = [["form", *(f"{server} {version}" for server, version in columns)]]
    for at, (title, subject, _) in enumerate(made.forms):
        cells = [verdict(answers[host(at, column)], subject, column[1]) for column in columns]
        table.append([title, *cells])
        r.check(f"{title}: {len(columns)} of {len(columns)}", cells == ["works"] * len(columns), dict(zip(table[0][1:], cells)))
    (lab.dir / "forms.md").write_text(markdown(table))
    if os.environ.get("GATEPASS_TABLES"):
        pathlib.Path(os.environ["GATEPASS_TABLES"], "forms.md").write_text(markdown(table))


def markdown(table):
    head, *rows = table
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def wrong(lab, r):
    "everything that can be wrong with a certificate is found by `check`, with its place, and told apart"
    need("openssl")
    made = Maker(lab)
    folder, write = made.dir, made.write
    export = lambda out, *more, passphrase=PASS: made.openssl("pkcs12", "-export", "-inkey", "rsa2048.key", "-in", "rsa2048.crt", *more, "-passout", f"pass:{passphrase}", "-out", out)
    export("w.p12")
    whole = (folder / "w.p12").read_bytes()
    write("cut.p12", whole[: len(whole) // 2])
    bent = bytearray(whole)
    bent[-40] ^= 1  # in the MAC: the contents are right
    write("bent.p12", bytes(bent))
    made.openssl("pkcs8", "-topk8", "-in", "rsa2048.key", "-v2", "aes256", "-passout", f"pass:{PASS}", "-out", "locked.key")
    made.openssl("pkcs8", "-topk8", "-in", "rsa2048.key", "-v2", "camellia-256-cbc", "-passout", f"pass:{PASS}", "-out", "camellia.key")
    text = made.read("locked.key")
    write("cut.key", text[: len(text) // 2])
    ca = lab.pem("ca.pem"), lab.pem("ca.key")
    dated = lambda out, start, end: made.openssl(
        "ca", "-batch", "-config", "ca.conf", "-cert", ca[0], "-keyfile", ca[1], "-in", "p256.csr", "-out", out, "-notext", "-startdate", start, "-enddate", end,
    )
    (folder / "issued").mkdir(exist_ok=True)
    for name, content in (("ca.index", ""), ("ca.serial", "77"), ("ca.conf", "[ca]\ndefault_ca=d\n[d]\ndatabase=ca.index\nserial=ca.serial\nnew_certs_dir=issued\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n")):
        (folder / name).write_text(content)
    dated("past.crt", "20200101000000Z", "20210101000000Z")
    dated("future.crt", "20480101000000Z", "20490101000000Z")
    write("ca-with-key.pem", ca[0].read_text() + ca[1].read_text())
    write("key-only.pem", ca[1].read_text())
    write("empty.pem", "")
    at = lambda name: str(folder / name)
    pair = lambda cert, key, **more: {"client_certificate": {"cert": at(cert), "key": at(key), **more}}
    pfx = lambda name, **more: {"client_certificate": {"pfx": at(name), **more}}
    good = {"cert": "p256.crt", "key": "p256.key"}
    cases = {
        "wrong passphrase, PFX": (pfx("w.p12", passphrase="wrong"), "error: the passphrase does not open w.p12"),
        "wrong passphrase, key": (pair("rsa2048.crt", "locked.key", passphrase="wrong"), "error: the passphrase does not open locked.key"),
        "no passphrase, PFX": (pfx("w.p12"), "error: w.p12 is encrypted and no passphrase is given"),
        "no passphrase, key": (pair("rsa2048.crt", "locked.key"), "error: locked.key is encrypted and no passphrase is given"),
        "unsupported cipher": (pair("rsa2048.crt", "camellia.key", passphrase=PASS), "error: camellia.key cannot be used: its cipher or key derivation is not supported"),
        "damaged PFX, cut off": (pfx("cut.p12", passphrase=PASS), "error: cut.p12 cannot be read"),
        "damaged PFX, one bit": (pfx("bent.p12", passphrase=PASS), "error: bent.p12 cannot be read: its contents do not match its checksum"),
        "damaged key, cut off": (pair("rsa2048.crt", "cut.key", passphrase=PASS), "error: cut.key cannot be read: it has no END line"),
        "key of another certificate": (pair("p256.crt", "p384.key"), "error: p384.key is not the key of p256.crt"),
        "expired": (pair("past.crt", good["key"]), "warning: the certificate in past.crt (form-p256) expired on 2021-01-01"),
        "not yet valid": (pair("future.crt", good["key"]), "warning: the certificate in future.crt (form-p256) is valid only from 2048-01-01"),
        "PEM named as pfx": (pfx("p256.crt"), "error: p256.crt is a PEM file, not a PFX"),
        "PFX named as cert": ({"client_certificate": {"cert": at("w.p12"), "passphrase": PASS}}, "error: w.p12 is a PFX (PKCS#12) file"),
        "certificate and key swapped": (pair("p256.key", "p256.crt"), "error: p256.key holds a private key but no certificate"),
        "no such file": (pair("nowhere.crt", good["key"]), "nowhere.crt: there is no such file"),
        "Ed448 key": (pair("ed448.crt", "ed448.key"), "its key is of a kind that is not supported (Ed448)"),
        "secp256k1 key": (pair("koblitz.crt", "koblitz.key"), "its key is of a kind that is not supported (EC secp256k1)"),
        "CA file that holds a key": ({"ca_bundle": at("ca-with-key.pem")}, "warning: the CA file {} also holds a private key".format(at("ca-with-key.pem"))),
        "CA file that holds only a key": ({"ca_bundle": at("key-only.pem")}, f"error: {at('key-only.pem')} holds a private key but no certificate"),
        "PFX named as CA bundle": ({"ca_bundle": at("w.p12")}, f"error: {at('w.p12')} is a PFX (PKCS#12) file, not a CA bundle"),
        "empty CA file": ({"ca_bundle": at("empty.pem")}, f"error: {at('empty.pem')} holds no certificate"),
    }
    lines = ["rules:"]
    for n, (what, _) in enumerate(cases.values()):
        ((key, value),) = what.items()
        lines += [f"  - host: h{n}.test", f"    {key}: {flow(value)}"]
    file = lab.dir / "wrong.yaml"
    file.write_text("\n".join(lines) + "\n")
    code, told = sh(GATEPASS, "check", "-c", file, env={"GATEPASS_HOME": str(lab.dir / "wrong-home")})
    r.check("check exits with 1", code == 1, told)
    for n, (title, (_, message)) in enumerate(cases.items()):
        line = 3 + 2 * n
        blocks = [block for block in told.split("\n\n") if message in block]
        r.check(f"{title}: told, at its line", any(f"wrong.yaml:{line}:" in block for block in blocks), blocks or told[-1500:])
    if os.geteuid() != 0:
        write("closed.key", "x").chmod(0)
        file.write_text(f"rules:\n  - host: h.test\n    client_certificate: {flow({'cert': at('p256.crt'), 'key': at('closed.key')})}\n")
        code, told = sh(GATEPASS, "check", "-c", file, env={"GATEPASS_HOME": str(lab.dir / "wrong-home")})
        r.check("unreadable file: told, at its line", "closed.key: permission denied" in told and "wrong.yaml:3:" in told, told)


def flow(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f'{key}: "{text}"' for key, text in value.items()) + " }"
    return f'"{value}"'


GROUPS = {"forms": forms, "wrong-certificates": wrong}
