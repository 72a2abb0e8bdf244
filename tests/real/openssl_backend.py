"""What rustls leaves out: explained by the default backend, served by `tls: { backend: openssl }`; and stapled OCSP responses."""
import hashlib
import os
import re
import shutil
import subprocess
import textwrap

import kit
from checks import certificate, rule, servers
from kit import free_ports, need, need_full, sh, wait_port

HOST = "api.gp.test"


def run(lab, *argv):
    subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True, cwd=lab.dir / "pki")


def issue(lab, name, *key, by="ca", usage="clientAuth"):
    """A certificate with a key made by `openssl genpkey KEY`."""
    folder = lab.dir / "pki"
    if not (folder / f"{name}.pem").exists():
        run(lab, "genpkey", *key, "-out", f"{name}.key")
        run(lab, "req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr")
        (folder / f"{name}.ext").write_text(f"extendedKeyUsage={usage}\nsubjectAltName=DNS:{HOST}\n")
        run(lab, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-CAcreateserial", "-days", "30", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
    return certificate(lab, name)


def stranger(lab):
    """A client certificate of a CA that no server here believes."""
    if not lab.pem("else.pem").exists():
        run(lab, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "else.key", "-days", "30", "-subj", "/CN=Other CA", "-out", "else.pem", "-addext", "basicConstraints=critical,CA:TRUE")
    return issue(lab, "mallory", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", by="else")


def apache(lab):
    """Asks for a client certificate below /mtls/ only: by renegotiation on the first port (TLS 1.2), in TLS 1.3 by
    post-handshake authentication on the second (1.2 and 1.3). A script tells whom it saw and what it was sent."""
    need("apache2")
    ports = free_ports(2)
    folder = lab.dir / "per-location"
    (folder / "cgi").mkdir(parents=True)
    script = folder / "cgi/who"
    script.write_text('#!/bin/sh\nprintf "Content-Type: text/plain\\n\\ndn=%s proto=%s body=" "$SSL_CLIENT_S_DN" "$SSL_PROTOCOL"\nsha256sum | cut -d" " -f1\n')
    script.chmod(0o755)
    modules = "mpm_event authn_core authz_core alias env ssl cgid socache_shmcb".split()
    load = "\n".join(f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so" for m in modules)
    host = lambda port, protocols: textwrap.dedent(f"""
        Listen 127.0.0.1:{port}
        <VirtualHost 127.0.0.1:{port}>
        SSLEngine on
        SSLProtocol -all {protocols}
        SSLCertificateFile {lab.pem('server.pem')}
        SSLCertificateKeyFile {lab.pem('server.key')}
        SSLCACertificateFile {lab.pem('ca.pem')}
        SSLOptions +StdEnvVars
        ScriptAlias /open/ {folder}/cgi/
        ScriptAlias /mtls/ {folder}/cgi/
        <Location /mtls/>
        SSLVerifyClient require
        SSLVerifyDepth 3
        SSLRenegBufferSize 16777216
        </Location>
        </VirtualHost>
    """)
    (folder / "httpd.conf").write_text(textwrap.dedent(f"""
        ServerRoot {folder}
        PidFile {folder}/pid
        ServerName localhost
        ErrorLog {folder}/error.log
        {{load}}
        User www-data
        Group www-data
        KeepAlive On
        ScriptSock {folder}/cgisock
        Mutex file:{folder} default
        SSLSessionCache shmcb:{folder}/sessions(512000)
        LogFormat "%{{remote}}p %{{SSL_SESSION_RESUMED}}x %{{SSL_CLIENT_S_DN}}x %U" who
        CustomLog {folder}/access.log who
        <Directory {folder}/cgi>
        Require all granted
        </Directory>
    """).replace("{load}", load) + host(ports[0], "+TLSv1.2") + host(ports[1], "+TLSv1.2 +TLSv1.3"))
    shutil.chown(folder, "www-data")
    lab.start(["apache2", "-f", folder / "httpd.conf", "-D", "FOREGROUND"], "per-location")
    for port in ports:
        wait_port(port)
    return *ports, folder


def ways_in(gate, path, *more):
    return [gate.curl(f"https://{HOST}{path}", version, *more)[1] for version in ("--http1.1", "--http2")]


def asked_late(lab, r):
    "Apache asks for the certificate below one path: explained with rustls, served with OpenSSL, TLS 1.2 and 1.3"
    need_full()
    old, new, folder = apache(lab)
    wrong = stranger(lab)
    body = lab.dir / "late.bin"
    body.write_bytes(os.urandom(3 << 20))
    digest = hashlib.sha256(body.read_bytes()).hexdigest()
    sent = ("--data-binary", f"@{body}", "-H", "Expect:")
    own = ["--cert", lab.pem("alice.pem"), "--key", lab.pem("alice.key")]
    for name, port in (("TLS 1.2", old), ("TLS 1.3", new)):
        direct = lambda path, *more: sh("curl", "-sS", "-i", "--cacert", lab.pem("ca.pem"), "--connect-to", f"{HOST}:443:127.0.0.1:{port}", f"https://{HOST}{path}", *more)
        r.check(f"{name}, control: /open/ asks for nothing", "dn= " in direct("/open/who")[1])
        code, out = direct("/mtls/who")
        r.check(f"{name}, control: /mtls/ refuses without a certificate", code != 0 or "403 Forbidden" in out, out)
        code, out = direct("/mtls/who", *own)
        r.check(f"{name}, control: /mtls/ lets alice in, who is asked for her certificate late", "dn=CN=alice " in out, out)

    plain = lab.gatepass({"rules": [rule(lab, HOST, old, client_certificate=certificate(lab, "alice"))]}, name="late-rustls-12")
    for out in ways_in(plain, "/mtls/who", "-i"):
        r.check("rustls, TLS 1.2: 502 that names the mend", "502" in out and "backend: openssl" in out and "renegotiation" in out, out)
    again = ways_in(plain, "/mtls/who", "-i")
    r.check("rustls, TLS 1.2: also when the session is resumed", all("backend: openssl" in out for out in again), again)
    plain = lab.gatepass({"rules": [rule(lab, HOST, new, client_certificate=certificate(lab, "alice"))]}, name="late-rustls-13")
    for out in ways_in(plain, "/mtls/who", "-i"):
        remark = re.search(r"(?im)^proxy-status: gatepass; details=.*post-handshake authentication.*backend: openssl", out)
        r.check("rustls, TLS 1.3: Apache's own 403, with a line that names the mend", "403" in out and "Apache" in out and remark, out)
    r.check("the log says it once", plain.log().count("answered 403: a client certificate is configured") == 1, plain.log())
    r.check("rustls: what asks for nothing has no remark", "proxy-status" not in plain.curl(f"https://{HOST}/open/who", "-i")[1].lower())

    for name, port in (("TLS 1.2", old), ("TLS 1.2 and 1.3", new)):
        openssl = lambda who, **more: rule(lab, HOST, port, client_certificate=who, tls={"backend": "openssl", **more})
        gate = lab.gatepass({"rules": [openssl(certificate(lab, "alice"))]}, name=f"late-{port}", binary=kit.FULL)
        for out in ways_in(gate, "/mtls/who"):
            r.check(f"openssl, {name}: GET below /mtls/ is alice's", "dn=CN=alice proto=TLSv1.2" in out, out)
        for out in ways_in(gate, "/mtls/who", *sent):
            r.check(f"openssl, {name}: POST of 3 MiB arrives whole", f"dn=CN=alice proto=TLSv1.2 body={digest}" in out, out)
        for out in ways_in(gate, "/open/who", *sent):
            r.check(f"openssl, {name}: and where nothing is asked for", f"body={digest}" in out, out)
        gate = lab.gatepass({"rules": [openssl(wrong)]}, name=f"late-wrong-{port}", binary=kit.FULL)
        out = gate.curl(f"https://{HOST}/mtls/who", "-i")[1]
        r.check(f"openssl, {name}: a wrong certificate is told as such", "502" in out and 'refused the client certificate "mallory" (alert unknown_ca)' in out and "does not know its issuer" in out, out)
        gate = lab.gatepass({"rules": [rule(lab, HOST, port, tls={"backend": "openssl"})]}, name=f"late-none-{port}", binary=kit.FULL)
        out = gate.curl(f"https://{HOST}/mtls/who", "-i")[1]
        r.check(f"openssl, {name}: none at all is told as such", ("502" in out and "no rule names one" in out) or "403 Forbidden" in out, out)
    gate = lab.gatepass({"rules": [rule(lab, HOST, new, client_certificate=certificate(lab, "alice"), tls={"backend": "openssl", "max_version": "1.3"})]}, name="late-13", binary=kit.FULL)
    out = gate.curl(f"https://{HOST}/mtls/who", "-i")[1]
    r.check("openssl, TLS 1.3 asked for: 403 with a line that names the mend", "403" in out and "max_version" in out, out)

    gate = lab.gatepass({"rules": [
        rule(lab, HOST, old, client_certificate=certificate(lab, "alice"), tls={"backend": "openssl"}),
        {"host": HOST, "path": "/mtls/who/bob", "client_certificate": certificate(lab, "bob"), "tls": {"backend": "openssl"}},
    ]}, name="late-two", binary=kit.FULL)
    (folder / "access.log").write_text("")
    asked = [(who, ways_in(gate, "/mtls/who" + path)) for who, path in (("alice", ""), ("bob", "/bob")) * 6]
    r.check("two identities by path: each request has its own", all(f"dn=CN={who} " in out for who, outs in asked for out in outs), asked[:2])
    seen = {}
    for line in (folder / "access.log").read_text().splitlines():
        port, resumed, who, _ = line.split(" ", 3)
        seen.setdefault(who, set()).add(port)
        r.check(f"at the server: no session is resumed ({line})", resumed == "Initial") if resumed != "Initial" else None
    r.check("at the server: no connection carried both", len(seen) == 2 and not set.intersection(*seen.values()), seen)


def s_server(lab, name, *more):
    """`openssl s_server -www`, whose page tells the cipher and the client's certificate. Its port."""
    (port,) = free_ports(1)
    lab.start(["openssl", "s_server", "-www", "-accept", f"127.0.0.1:{port}", *more], name)
    wait_port(port)
    return port


def old_and_odd(lab, r):
    "servers with RSA key exchange only; client certificates with RSA-PSS, Ed448, secp256k1 and short RSA keys"
    need_full()
    issue(lab, "rsa-server", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", usage="serverAuth")
    own = ["-cert", lab.pem("rsa-server.pem"), "-key", lab.pem("rsa-server.key")]
    port = s_server(lab, "rsa-only", *own, "-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-SHA")
    plain = lab.gatepass({"rules": [rule(lab, HOST, port)]}, name="rsa-rustls")
    out = plain.curl(f"https://{HOST}/", "-i")[1]
    r.check("rustls: RSA key exchange only is named, with the mend", "502" in out and "RSA key exchange" in out and "backend: openssl" in out, out)
    gate = lab.gatepass({"rules": [rule(lab, HOST, port, tls={"backend": "openssl"})]}, name="rsa-openssl", binary=kit.FULL)
    out = gate.curl(f"https://{HOST}/")[1]
    r.check("openssl: RSA key exchange", "AES128-GCM-SHA256" in out and "ECDHE-RSA-AES128-GCM" not in out.split("Ciphers common")[-1].split("---")[0], out)

    keys = {
        "pss": ("-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"),
        "ed448": ("-algorithm", "ED448"),
        "koblitz": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"),
        "short": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"),
    }
    strict = [*own, "-CAfile", lab.pem("ca.pem"), "-Verify", "3", "-verify_return_error", "-cipher", "DEFAULT:@SECLEVEL=1", "-groups", "X25519:P-256:secp256k1"]
    versions = {"1.2": s_server(lab, "odd-12", *strict, "-tls1_2"), "1.3": s_server(lab, "odd-13", *strict, "-tls1_3")}
    for name, key in keys.items():
        pair = issue(lab, name, *key)
        for version, port in versions.items():
            if (name, version) == ("koblitz", "1.3"):
                continue  # RFC 8446 §4.2.3 has no signatures with that curve
            tls = {"backend": "openssl", "max_version": version}
            gate = lab.gatepass({"rules": [rule(lab, HOST, port, client_certificate=pair, tls=tls)]}, name=f"odd-{name}-{version}", binary=kit.FULL)
            out = gate.curl(f"https://{HOST}/")[1]
            r.check(f"openssl: a {name} client certificate, TLS {version}", re.search(f"Subject: CN ?= ?{name}", out), out)
        wrong = lab.dir / f"odd-{name}.yaml"
        wrong.write_text(kit.json.dumps({"rules": [rule(lab, HOST, port, client_certificate=pair)]}))
        code, out = sh(kit.FULL, "check", "-c", wrong)
        r.check(f"check finds {name} under rustls, with the mend", code == 1 and "only the OpenSSL backend" in out and "backend: openssl" in out, out)
    mallory = lab.gatepass({"rules": [rule(lab, HOST, versions["1.3"], client_certificate=stranger(lab), tls={"backend": "openssl", "max_version": "1.3"})]}, name="odd-wrong", binary=kit.FULL)
    out = mallory.curl(f"https://{HOST}/", "-i")[1]
    r.check("openssl, TLS 1.3: a wrong certificate is told as such", "502" in out and 'refused the client certificate "mallory"' in out, out)
    both = [stranger(lab), certificate(lab, "alice")]
    gate = lab.gatepass({"rules": [rule(lab, HOST, versions["1.2"], client_certificate=both, tls={"backend": "openssl"})]}, name="odd-both", binary=kit.FULL)
    outs = [gate.curl(f"https://{HOST}/")[1] for _ in range(2)]
    r.check("openssl: of two certificates the one whose issuer the server names", all(re.search("Subject: CN ?= ?alice", out) for out in outs), outs)
    run(lab, "pkcs12", "-export", "-in", "pss.pem", "-inkey", "pss.key", "-passout", "pass:geheim", "-out", "pss.pfx")
    pfx = {"pfx": str(lab.pem("pss.pfx")), "passphrase": "geheim"}
    gate = lab.gatepass({"rules": [rule(lab, HOST, versions["1.2"], client_certificate=pfx, tls={"backend": "openssl"})]}, name="odd-pfx", binary=kit.FULL)
    out = gate.curl(f"https://{HOST}/")[1]
    r.check("openssl: an RSA-PSS key in a PFX", re.search("Subject: CN ?= ?pss", out), out)


def bulk(lab, r):
    "nginx by OpenSSL: TLS 1.2 and 1.3, 256 MB in each direction, every byte"
    need_full()
    port, _ = servers(lab)
    tls = {"backend": "openssl"}
    for version in ("1.2", "1.3"):
        gate = lab.gatepass({"rules": [rule(lab, HOST, port, client_certificate=certificate(lab, "alice"), tls={**tls, "max_version": version})]}, name=f"bulk-{version}", binary=kit.FULL)
        for out in ways_in(gate, "/dn"):
            r.check(f"openssl, nginx, TLS {version}", "verify=SUCCESS dn=CN=alice" in out and f"proto=TLSv{version}" in out, out)
    big = lab.dir / "nginx/www/256m.bin"
    block = os.urandom(1 << 20)
    with open(big, "wb") as file:
        for n in range(256):
            file.write(block[n:] + block[:n])
    big.chmod(0o644)
    digest = hashlib.file_digest(open(big, "rb"), "sha256").hexdigest()
    back = lab.dir / "back.bin"
    code, out = gate.curl(f"https://{HOST}/files/256m.bin", "-o", back, timeout=120)
    r.check("256 MB from nginx, every byte", code == 0 and hashlib.file_digest(open(back, "rb"), "sha256").hexdigest() == digest, out)
    back.unlink()
    code, out = gate.curl(f"https://{HOST}/app/digest", "-T", big, "-H", "Expect:", timeout=120)
    r.check("256 MB to it, every byte", digest in out, out)
    r.check("in constant memory", gate.memory_peak_mib() < 150, gate.memory_peak_mib())


def staples(lab, r):
    "stapled OCSP responses: good, revoked, missing, of another certificate; by both backends"
    need_full()
    pki = lab.dir / "pki"
    issue(lab, "stapling", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", usage="serverAuth")
    serial = sh("openssl", "x509", "-in", lab.pem("stapling.pem"), "-noout", "-serial")[1].strip().split("=")[1]
    run(lab, "ocsp", "-issuer", "ca.pem", "-cert", "stapling.pem", "-no_nonce", "-reqout", "staple.req")
    for status, line in (("good", "V\t361231235959Z\t"), ("revoked", "R\t361231235959Z\t260101000000Z")):
        (pki / "index").write_text(f"{line}\t{serial}\tunknown\t/CN=stapling\n")
        run(lab, "ocsp", "-index", "index", "-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey", "ca.key", "-reqin", "staple.req", "-ndays", "7", "-respout", f"{status}.ocsp")
    server = ["-cert", lab.pem("stapling.pem"), "-key", lab.pem("stapling.key")]
    ports = {status: s_server(lab, f"staple-{status}", *server, *(["-status_file", pki / f"{status}.ocsp"] if status != "missing" else [])) for status in ("good", "revoked", "missing")}
    for backend in ("rustls", "openssl"):
        for setting in ("check", "require"):
            def met(status):
                gate = lab.gatepass({"rules": [rule(lab, HOST, ports[status], tls={"backend": backend, "ocsp": setting})]}, name=f"staple-{backend}-{setting}-{status}", binary=kit.FULL)
                out = gate.curl(f"https://{HOST}/", "-i")[1]
                gate.stop()
                return out
            out = met("good")
            r.check(f"{backend}, ocsp: {setting}: good", " 200" in out, out)
            out = met("revoked")
            r.check(f"{backend}, ocsp: {setting}: revoked is refused", "502" in out and "is revoked, says the OCSP response" in out, out)
            out = met("missing")
            missing = " 200" in out if setting == "check" else "502" in out and "its OCSP response is missing" in out
            r.check(f"{backend}, ocsp: {setting}: missing", missing, out)


GROUPS = {"asked-late": asked_late, "old-and-odd": old_and_odd, "openssl-bulk": bulk, "staples": staples}
