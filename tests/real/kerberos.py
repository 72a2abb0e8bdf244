"""Kerberos: a KDC on loopback, Apache httpd with mod_auth_gssapi, Squid with negotiate_kerberos_auth."""
import os, pathlib, shutil, subprocess

import kit
from kit import Skip, free_ports, need, need_full, sh, wait_port
from ntlm import STATUS, apache, backend, rule, users_by_connection
from proxies import squid

REALM = "GP.TEST"


def kdc(lab):
    """A realm with alice and bob, services on localhost and app.gp.test, and what finds it."""
    need("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
    d = lab.dir / "kdc"
    d.mkdir()
    port = free_ports(1)[0]
    (d / "krb5.conf").write_text(f"""[libdefaults]
 default_realm = {REALM}
 dns_lookup_realm = false
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
 default_ccache_name = FILE:{d}/nobody
[realms]
 {REALM} = {{
  kdc = 127.0.0.1:{port}
 }}
[domain_realm]
 localhost = {REALM}
 .gp.test = {REALM}
""")
    (d / "kdc.conf").write_text(f"""[kdcdefaults]
 kdc_listen = 127.0.0.1:{port}
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {REALM} = {{
  database_name = {d}/principal
  key_stash_file = {d}/stash
  acl_file = {d}/acl
  supported_enctypes = aes256-cts:normal aes128-cts:normal
 }}
""")
    env = {"KRB5_CONFIG": str(d / "krb5.conf"), "KRB5_KDC_PROFILE": str(d / "kdc.conf")}
    made = sh("kdb5_util", "create", "-s", "-r", REALM, "-P", "master-pw", env=env)
    wishes = "".join(f"addprinc -pw s3cret-{user} {user}@{REALM}\nktadd -k {d}/{user}.keytab -norandkey {user}@{REALM}\n" for user in ("alice", "bob"))
    wishes += "".join(f"addprinc -randkey HTTP/{host}@{REALM}\nktadd -k {d}/http.keytab HTTP/{host}@{REALM}\n" for host in ("localhost", "app.gp.test"))
    sh("kadmin.local", "-r", REALM, env=env, input=wishes)
    for keytab in d.glob("*.keytab"):
        keytab.chmod(0o644)
    lab.start(["krb5kdc", "-n", "-r", REALM], "krb5kdc", env=env)
    wait_port(port)
    return d, {"KRB5_CONFIG": env["KRB5_CONFIG"]}, made


def kerberos(lab, r):
    "Negotiate accepted by Apache httpd and by Squid, with a ticket from kinit and from a keytab; each trouble with its mend"
    need_full()
    if not list(pathlib.Path("/usr/lib/apache2/modules").glob("mod_auth_gssapi.so")):
        raise Skip("Apache's mod_auth_gssapi is not installed")
    d, env, made = kdc(lab)
    shutil.copy(d / "http.keytab", lab.dir / "http.keytab")
    location = lambda path, who, more="": f"""<Location {path}>
AuthType GSSAPI
AuthName kerberos
GssapiAllowedMech krb5
GssapiCredStore keytab:{lab.dir}/http.keytab
{more}Require {who}
ProxyPass http://127.0.0.1:{backend(lab)}/
</Location>
"""
    locations = location("/krb/", "valid-user") + location("/alice/", f"user alice@{REALM}") + location("/bound/", "valid-user", "GssapiConnectionBound On\n")
    plain, tls, log = apache(lab, "kerberos-apache", ["auth_gssapi", "auth_basic"], locations, env=env)
    proxy = free_ports(1)[0]
    os.environ["KRB5_CONFIG"] = env["KRB5_CONFIG"]  # Squid's helper inherits it
    squid(lab, "squid-kerberos", f"""http_port 127.0.0.1:{proxy}
auth_param negotiate program /usr/lib/squid/negotiate_kerberos_auth -k {lab.dir}/http.keytab -s GSS_C_NO_NAME
auth_param negotiate children 2
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all""")
    wait_port(proxy)
    tickets = lambda name: {**env, "KRB5CCNAME": f"FILE:{d}/{name}.cc"}
    sh("kinit", f"alice@{REALM}", env=tickets("alice"), input="s3cret-alice\n")
    bob = {**env, "KRB5CCNAME": f"FILE:{d}/bob.cc", "KRB5_CLIENT_KTNAME": str(d / "bob.keytab")}
    rules = [
        rule(lab, "app.gp.test", tls, negotiate={}, tls={"server_name": "localhost"}),
        {"host": "localhost", "scheme": "http", "port": plain, "negotiate": {}},
        rule(lab, "other.gp.test", tls, negotiate={"spn": "HTTP/app.gp.test"}, tls={"server_name": "localhost"}),
        rule(lab, "unknown.gp.test", tls, negotiate={}, tls={"server_name": "localhost"}),
        rule(lab, "by.gp.test", tls, negotiate={"spn": f"HTTP/localhost@{REALM}"}, tls={"server_name": "localhost"}, via={"url": f"http://localhost:{proxy}", "auth": "negotiate"}),
    ]
    gate = lambda name, env: lab.gatepass({"rules": rules}, name=f"kerberos-{name}", env=env, binary=kit.FULL)
    alice, keytab, nobody = gate("alice", tickets("alice")), gate("bob", bob), gate("nobody", env)
    code, out = sh("curl", "-sS", *STATUS, f"http://localhost:{plain}/krb/echo")
    r.check("without gatepass Apache refuses", out == "401", (out, made))
    for url, what in ((f"http://localhost:{plain}/krb/echo", "in clear"), ("https://app.gp.test/krb/echo", "over TLS"), ("https://app.gp.test/alice/echo", "as alice"), ("https://app.gp.test/bound/echo", "where the connection is bound"), ("https://other.gp.test/krb/echo", "by a service name of the config")):
        code, out = alice.curl(url, *STATUS)
        r.check(f"Apache lets alice in {what}", out == "200", out)
    before = len(log.read_text().splitlines())
    code, out = alice.curl("https://app.gp.test/krb/up", "-X", "POST", "-d", "x" * 100_000)
    lines = log.read_text().splitlines()[before:]
    r.check("the token goes with the first request, body and all", '"length": 100000' in out and len(lines) == 1, (out, lines))
    code, out = keytab.curl("https://app.gp.test/krb/echo", *STATUS)
    r.check("bob by his keytab", out == "200", out)
    code, out = keytab.curl("https://app.gp.test/alice/echo", "-i")
    r.check("but not where only alice may", " 403 " in out or " 401 " in out, out)
    code, out = nobody.curl("https://app.gp.test/krb/echo")
    r.check("without a ticket: 502, and kinit is named", "kinit" in out and "KRB5_CLIENT_KTNAME" in out, out)
    code, out = alice.curl("https://unknown.gp.test/krb/echo")
    r.check("a service that the KDC does not know: 502, and `spn` is named", "spn: HTTP/NAME" in out, out)
    code, out = sh("curl", "-sS", *STATUS, "-x", f"http://localhost:{proxy}", f"http://localhost:{plain}/krb/echo")
    r.check("without gatepass Squid refuses", out == "407", out)
    code, out = alice.curl("https://by.gp.test/krb/echo", *STATUS)
    r.check("by way of Squid, which wants a ticket too", out == "200", out)
    code, out = nobody.curl("https://by.gp.test/krb/echo")
    r.check("and without one says so", "kinit" in out, out)
    served = users_by_connection(log)
    mixed = {port: users for port, users in served.items() if len(users) != 1}
    r.check("each connection served one user", not mixed and {u for users in served.values() for u in users} == {f"alice@{REALM}", f"bob@{REALM}"}, served)
    code, out = sh(kit.GATEPASS, "check", "-c", alice.file)
    if kit.GATEPASS != kit.FULL:
        r.check("a build without Kerberos says so at the place, and which has it", "Kerberos is not in this build" in out and "--features negotiate" in out, out)


GROUPS = {"kerberos": kerberos}
