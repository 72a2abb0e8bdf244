"""NTLM toward real servers: gss-ntlmssp in Apache httpd, and Samba's winbind behind Squid, as origin and as proxy."""
import base64, collections, concurrent.futures, json, os, pathlib, shutil, sys, time

from kit import GATEPASS, HERE, Skip, free_ports, need, sh, wait_port

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

    vector = json.loads((HERE.parent / "vectors/ntlm.json").read_text())["modern_vectors_ours"][0]
    signing = lab.dir / "ntlm-sign.json"
    signing.write_text(json.dumps({"rules": [{"host": "v.gp.test", "ntlm": {"username": "Domain\\User", "password": "Password", "workstation": "COMPUTER", "spn": ""}}]}))
    challenge = base64.b64encode(bytes.fromhex(vector["challenge_message_hex"])).decode()
    code, out = sh(GATEPASS, "sign", "-c", signing, "https://v.gp.test/", "--challenge", f"NTLM {challenge}", "--nonce", "ntlm_challenge=" + "aa" * 8, "--nonce", "ntlm_session_key=" + "55" * 16)
    r.check("`gatepass sign` reproduces a vector with pinned nonces", f"authorization: {vector['expected']['header']}" in out, out)

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


SAMBA_USER = {"username": "GPSRV\\alice", "password": "s3cret pass"}


def samba(lab):
    """A standalone Samba that takes NTLMv2 only; how to run its programs, whose accounts are in no /etc/passwd."""
    need("smbd", "winbindd", "pdbedit", "wbinfo", "ntlm_auth", "squid")
    wrapper = next(iter(sorted(pathlib.Path("/usr/lib").glob("*/libnss_wrapper.so"))), None)
    if not wrapper:
        raise Skip("libnss-wrapper is not installed")
    d = lab.dir / "samba"
    for folder in ("private", "state", "cache", "lock", "pid", "log", "ncalrpc", "winbindd"):
        (d / folder).mkdir(parents=True)
    (d / "smb.conf").write_text(f"""[global]
workgroup = GPDOM
netbios name = GPSRV
server role = standalone server
interfaces = 127.0.0.1
bind interfaces only = yes
disable netbios = yes
smb ports = {free_ports(1)[0]}
private dir = {d}/private
state directory = {d}/state
cache directory = {d}/cache
lock directory = {d}/lock
pid directory = {d}/pid
ncalrpc dir = {d}/ncalrpc
winbindd socket directory = {d}/winbindd
log file = {d}/log/%m.log
logging = file
ntlm auth = ntlmv2-only
passdb backend = tdbsam
load printers = no
printing = bsd
""")
    for file, line in (("passwd", "alice:x:40001:40001::/nonexistent:/bin/false\n"), ("group", "alice:x:40001:\n")):
        (d / file).write_text(pathlib.Path(f"/etc/{file}").read_text() + line)
    run = d / "run"
    run.write_text(f"#!/bin/sh\nexport LD_PRELOAD={wrapper} NSS_WRAPPER_PASSWD={d}/passwd NSS_WRAPPER_GROUP={d}/group SELFTEST_WINBINDD_SOCKET_DIR={d}/winbindd\nexec \"$@\"\n")
    run.chmod(0o755)
    sh(run, "pdbedit", "-s", d / "smb.conf", "-a", "-u", "alice", "-t", input="s3cret pass\ns3cret pass\n")
    for server in ("smbd", "winbindd"):
        lab.start([run, server, "-s", d / "smb.conf", "-F", "--no-process-group"], server)
    end = time.time() + 15
    while sh(run, "wbinfo", "-p")[0] != 0 and time.time() < end:
        time.sleep(0.1)
    code, out = sh(run, "wbinfo", "-a", "GPSRV\\alice%s3cret pass")
    assert code == 0, out
    (d / "state").chmod(0o755)
    shutil.chown(d / "state/winbindd_privileged", group="proxy")
    return f"{run} /usr/bin/ntlm_auth --configfile={d}/smb.conf --helper-protocol=squid-2.5-ntlmssp"


def samba_and_squid(lab, r):
    "NTLM accepted by Samba's winbind, in Squid as origin and as proxy"
    from checks import certificate, servers
    from proxies import squid, told_origin

    helper = samba(lab)
    origin, tls, proxy = free_ports(3)
    behind, mutual = told_origin(), servers(lab)[0]
    squid(lab, "squid-ntlm", f"""http_port 127.0.0.1:{origin} accel defaultsite=localhost:{origin} no-vhost connection-auth=on
https_port 127.0.0.1:{tls} accel defaultsite=localhost:{tls} no-vhost connection-auth=on tls-cert={lab.pem('server.pem')} tls-key={lab.pem('server.key')}
http_port 127.0.0.1:{proxy}
cache_peer 127.0.0.1 parent {behind} 0 no-query originserver name=origin login=PASSTHRU
acl accelerated localport {origin} {tls}
cache_peer_access origin allow accelerated
cache_peer_access origin deny all
never_direct allow accelerated
auth_param ntlm program {helper}
auth_param ntlm children 3
auth_param ntlm keep_alive on
acl known proxy_auth REQUIRED
acl SSL_ports port 1-65535
http_access allow known
http_access deny all""")
    wait_port(proxy)
    wait_port(tls)
    via = lambda **more: {"url": f"http://127.0.0.1:{proxy}", **more}
    name = {"tls": {"server_name": "localhost"}}
    behind_proxy = lambda host, via: rule(lab, host, mutual, via=via, client_certificate=certificate(lab, "alice"), bearer="real-token", **name)
    g = lab.gatepass({"rules": [
        rule(lab, "a.gp.test", tls, ntlm=SAMBA_USER, **name),
        rule(lab, "c.gp.test", tls, ntlm={**SAMBA_USER, "password": "no"}, **name),
        {"host": "plain.gp.test", "scheme": "http", "connect_to": f"127.0.0.1:{origin}", "ntlm": {"username": "alice", "password": "s3cret pass"}},
        behind_proxy("ntlm.gp.test", via(**SAMBA_USER)),
        behind_proxy("told.gp.test", via(**SAMBA_USER, auth="ntlm")),
        behind_proxy("wrong.gp.test", via(**{**SAMBA_USER, "password": "no"})),
        {"host": "localhost", "scheme": "http", "port": behind, "bearer": "origin-token", "via": via(**SAMBA_USER)},
    ]}, name="samba-gate")
    code, out = sh("curl", "-sS", *STATUS, "--cacert", lab.pem("ca.pem"), f"https://localhost:{tls}/x")
    r.check("without gatepass the origin refuses", out == "401", out)
    code, out = sh("curl", "-sS", *STATUS, "-x", f"http://127.0.0.1:{proxy}", f"http://localhost:{behind}/x")
    r.check("and so does the proxy", out == "407", out)
    big = lab.dir / "samba-big"
    with open(big, "wb") as f:
        f.truncate(8 << 20)
    for url in ("https://a.gp.test/x", "http://plain.gp.test/x"):
        code, out = g.curl(url, "-X", "POST", "-T", big)
        r.check(f"{url}: alice and 8 MiB are let in", f"body={8 << 20}" in out, out)
    code, out = g.curl("https://c.gp.test/x", "-i")
    r.check("a wrong password is refused, and named", " 401 " in out and "refused the credential `ntlm`" in out, out)
    for way in ("ntlm", "told"):
        code, out = g.curl(f"https://{way}.gp.test/secret")
        r.check(f"{way}: through the proxy the origin welcomes alice's certificate", "welcome CN=alice" in out, out)
    code, out = g.curl(f"http://localhost:{behind}/y", "-X", "POST", "-T", big)
    r.check("an origin in clear gets its credential and not the proxy's", "Bearer origin-token" in out and f"body={8 << 20}" in out and "proxy-authorization" not in out.lower(), out)
    code, out = g.curl("https://wrong.gp.test/secret")
    r.check("a wrong password for the proxy: 502 with the proxy and the mend", "refuses the user name or password" in out and "upstream proxy" in out, out)


GROUPS = {"ntlm": ntlm, "ntlm-samba": samba_and_squid}
