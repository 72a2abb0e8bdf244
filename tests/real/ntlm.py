"""NTLM toward real servers: gss-ntlmssp in Apache httpd, and Samba's winbind behind Squid, as origin and as proxy."""
import collections, concurrent.futures, os, pathlib, shutil, sys, time

from kit import HERE, Skip, free_ports, need, sh, wait_port

MODULES = pathlib.Path("/usr/lib/apache2/modules")
STATUS = ("-o", "/dev/null", "-w", "%{http_code}")


def backend(lab):
    """The echo behind the servers; one for all groups."""
    if not hasattr(lab, "_echo"):
        lab._echo = free_ports(1)[0]
        lab.start([sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{lab._echo}", "--log-level", "error", "backend:app"], "echo", cwd=HERE)
        wait_port(lab._echo)
    return lab._echo


def apache(lab, name, modules, locations, env=None):
    """Apache httpd with these locations, in clear on the first port, over TLS on the second. Its log has a line a
    request: the client's port, the user, method, path, status."""
    need("apache2")
    for module in modules:
        if not (MODULES / f"mod_{module}.so").exists():
            raise Skip(f"Apache's mod_{module} is not installed")
    plain, tls = free_ports(2)
    d = lab.dir / name
    (d / "www").mkdir(parents=True)
    loaded = [m for m in [*"mpm_event authn_core authz_core authz_user headers ssl socache_shmcb proxy proxy_http".split(), *modules] if (MODULES / f"mod_{m}.so").exists()]
    load = "\n".join(f"LoadModule {m}_module {MODULES}/mod_{m}.so" for m in loaded)
    (d / "httpd.conf").write_text(f"""ServerRoot {d}
PidFile {d}/pid
ServerName localhost
ErrorLog {d}/error.log
{load}
User www-data
Group www-data
DocumentRoot {d}/www
LogFormat "%{{remote}}p %u %m %U %>s" told
CustomLog {d}/access.log told
Mutex file:{d} default
MaxKeepAliveRequests 0
KeepAliveTimeout 60
Listen 127.0.0.1:{plain}
Listen 127.0.0.1:{tls}
<VirtualHost 127.0.0.1:{plain}>
{locations}
</VirtualHost>
<VirtualHost 127.0.0.1:{tls}>
SSLEngine on
SSLCertificateFile {lab.pem('server.pem')}
SSLCertificateKeyFile {lab.pem('server.key')}
{locations}
</VirtualHost>
""")
    shutil.chown(d, "www-data")
    lab.start(["apache2", "-f", d / "httpd.conf", "-D", "FOREGROUND"], name, env=env)
    wait_port(plain)
    wait_port(tls)
    return plain, tls, d / "access.log"


def gssapi(lab):
    """Apache with mod_auth_gssapi and gss-ntlmssp; answers 401 with both `Negotiate` and `NTLM`."""
    if not hasattr(lab, "_gssapi"):
        if not list(pathlib.Path("/usr/lib").glob("*/gssntlmssp/gssntlmssp.so")):
            raise Skip("gss-ntlmssp is not installed")
        users = lab.dir / "ntlm.users"
        users.write_text("GPDOM:alice:s3cret pass\nGPDOM:bob:pässwörd\n")
        location = lambda path, more="": f"""<Location {path}>
AuthType GSSAPI
AuthName "real ntlm"
GssapiAllowedMech ntlmssp
GssapiConnectionBound On
Require valid-user
{more}RequestHeader set X-DN "expr=%{{REMOTE_USER}}"
ProxyPass http://127.0.0.1:{backend(lab)}/
</Location>
"""
        # Some servers offer only the other name.
        only = "Header always edit* WWW-Authenticate ^NTLM$ Negotiate\n"
        locations = location("/ntlm/") + location("/bob/") + location("/negotiate/", only) + f"<Location /open/>\nRequire all granted\nProxyPass http://127.0.0.1:{backend(lab)}/\n</Location>\n"
        lab._gssapi = apache(lab, "gssapi", ["auth_gssapi", "auth_basic"], locations, env={"NTLM_USER_FILE": str(users)})
    return lab._gssapi


def users_by_connection(log):
    """The users that each connection's requests were served as, from Apache's log."""
    served = collections.defaultdict(set)
    for line in log.read_text().splitlines():
        port, user, _, path, status = line.split(" ")
        if status == "200" and not path.startswith("/open/"):
            served[port].add(user)
    return served


def rule(lab, host, to, **more):
    return {"host": host, "connect_to": f"127.0.0.1:{to}", "ca_bundle": {"files": [str(lab.pem("ca.pem"))]}, **more}


ALICE = {"username": "GPDOM\\alice", "password": "s3cret pass"}
BOB = {"username": "bob", "domain": "GPDOM", "password": "pässwörd"}


def ntlm(lab, r):
    "NTLM accepted by gss-ntlmssp in Apache httpd: users, bodies, connections"
    plain, tls, log = gssapi(lab)
    g = lab.gatepass({"rules": [
        rule(lab, "a.gp.test", tls, ntlm=ALICE),
        rule(lab, "b.gp.test", tls, ntlm=BOB),
        rule(lab, "c.gp.test", tls, ntlm={**ALICE, "password": "wrong"}),
        {**rule(lab, "a.gp.test", tls, ntlm=BOB), "path": "/bob/**"},
        {"host": "plain.gp.test", "scheme": "http", "connect_to": f"127.0.0.1:{plain}", "ntlm": ALICE},
        rule(lab, "other.gp.test", tls, ntlm=ALICE, client_certificate={"cert": str(lab.pem("alice.pem")), "key": str(lab.pem("alice.key"))}),
    ]}, name="ntlm-gate")
    code, out = sh("curl", "-sS", *STATUS, "--cacert", lab.pem("ca.pem"), f"https://localhost:{tls}/ntlm/dn")
    r.check("without gatepass Apache refuses", out == "401", out)
    for host, user in (("https://a.gp.test", "alice"), ("https://b.gp.test", "bob (UTF-8 password)"), ("http://plain.gp.test", "alice in clear")):
        code, out = g.curl(f"{host}/ntlm/echo", *STATUS)
        r.check(f"Apache lets {user} in", out == "200", out)
    code, out = g.curl("https://c.gp.test/ntlm/echo", "-i")
    r.check("a wrong password is refused by Apache, and the answer says which credential to mend", " 401 " in out and "refused the credential `ntlm`" in out, out)
    code, out = g.curl("https://a.gp.test/negotiate/echo", *STATUS)
    r.check("the same under `Negotiate`, where a server offers only that", out == "200", out)
    code, out = g.curl("https://a.gp.test/open/echo", "-d", "a=1", *STATUS)
    r.check("a path that asks nothing gets the body", out == "200", out)
    big = lab.dir / "ntlm-big"
    big.write_bytes(os.urandom(32 << 20))
    code, out = g.curl("https://a.gp.test/ntlm/up", "-T", big, "-X", "POST")
    r.check(f"32 MiB in a first POST arrive whole, peak memory {g.memory_peak_mib():.0f} MiB", f'"length": {32 << 20}' in out and g.memory_peak_mib() < 48, out)
    code, out = g.curl("https://a.gp.test/ntlm/up", "-H", "Transfer-Encoding: chunked", "-X", "POST", "-T", big)
    r.check("and chunked, without a length", f'"length": {32 << 20}' in out, out)

    before = len(log.read_text().splitlines())
    urls = lab.dir / "ntlm-urls"
    urls.write_text("".join(f'url = "https://a.gp.test/ntlm/echo?{n}"\noutput = /dev/null\n' for n in range(5)))
    g.curl("https://a.gp.test/ntlm/echo", *STATUS, "-K", urls)
    lines = [line for line in log.read_text().splitlines()[before:]]
    r.check("six requests of one client: one handshake on one connection", len(lines) == 7 and len({line.split(" ")[0] for line in lines}) == 1, lines)

    def ask(n):
        host, path, user = (("a", "/ntlm/", "alice"), ("a", "/bob/", "bob"), ("b", "/ntlm/", "bob"), ("a", "/ntlm/", "alice"))[n % 4]
        return user, g.curl(f"https://{host}.gp.test{path}echo?{n}", *(["-d", "x" * n] if n % 3 == 0 else []), *STATUS)[1]

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(ask, range(128)))
    r.check("128 requests of two users, 64 at once: all served", all(out == "200" for _, out in answers), [a for a in answers if a[1] != "200"][:3])
    time.sleep(0.2)
    served = users_by_connection(log)
    mixed = {port: users for port, users in served.items() if len(users) != 1}
    paths = [line for line in log.read_text().splitlines() if line.split(" ")[4] == "200" and ("/bob/" in line) and "bob" not in line.split(" ")[1]]
    r.check(f"and in Apache's log {len(served)} connections served one user each, /bob/ only bob", not mixed and not paths, (mixed, paths[:3]))


GROUPS = {"ntlm": ntlm}
