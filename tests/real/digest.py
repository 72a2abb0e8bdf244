"""Digest in its variants: lighttpd (SHA-256, userhash), httpbin (auth-int), the npm package http-auth (-sess, RFC 2069, counts)."""
import concurrent.futures, hashlib, json, sys, textwrap

from kit import REAL, Skip, free_ports, need, sh, wait_port

USER, PASSWORD, REALM = "alice", "s3cret pass", "real digest"
STATUS = ("-o", "/dev/null", "-w", "%{http_code}")


def lighttpd(lab):
    """/sha256, /userhash, /both (SHA-256 and MD5 offered)."""
    need("lighttpd")
    port = free_ports(1)[0]
    d = lab.dir / "lighttpd"
    for folder in ("sha256", "userhash", "both"):
        (d / "www" / folder).mkdir(parents=True)
        (d / "www" / folder / "x.txt").write_text(f"hello from {folder}\n")
    line = lambda user, password: f"{user}:{REALM}:{hashlib.sha256(f'{user}:{REALM}:{password}'.encode()).hexdigest()}:{hashlib.sha256(f'{user}:{REALM}'.encode()).hexdigest()}\n"
    (d / "users").write_text(line(USER, PASSWORD) + line("jürgen", "pässwörd"))
    ask = lambda path, more: f'"/{path}/" => ( "method" => "digest", "realm" => "{REALM}", "require" => "valid-user", {more} )'
    (d / "conf").write_text(textwrap.dedent(f"""
        server.document-root = "{d}/www"
        server.bind = "127.0.0.1"
        server.port = {port}
        server.errorlog = "{d}/error.log"
        server.modules = ("mod_auth", "mod_authn_file")
        auth.backend = "htdigest"
        auth.backend.htdigest.userfile = "{d}/users"
        auth.require = ( {ask("sha256", '"algorithm" => "SHA-256"')}, {ask("userhash", '"algorithm" => "SHA-256", "userhash" => "enable"')}, {ask("both", '"algorithm" => "MD5|SHA-256"')} )
    """))
    lab.start(["lighttpd", "-D", "-f", d / "conf"], "lighttpd")
    wait_port(port)
    return port


def http_auth(lab):
    """/md5, /md5sess, /noqop; refuses a nonce count that does not rise. /counts tells what came."""
    need("node")
    modules = REAL / "node/node_modules"
    if not (modules / "http-auth").exists():
        raise Skip("http-auth is not installed")
    port = free_ports(1)[0]
    script = lab.dir / "http-auth.js"
    script.write_text(textwrap.dedent(f"""
        const auth = require('http-auth'), http = require('http'), crypto = require('crypto');
        const hash = crypto.createHash('md5').update('{USER}:gate:{PASSWORD}').digest('hex');
        const make = (more) => auth.digest({{ realm: 'gate', ...more }}, (user, done) => done(user === '{USER}' ? hash : ''));
        const kinds = {{ '/md5': make({{}}), '/md5sess': make({{ algorithm: 'MD5-sess' }}), '/noqop': make({{ qop: 'none' }}) }};
        const seen = [];
        http.createServer((request, response) => {{
          const path = request.url.split('?')[0];
          if (path === '/counts') return response.end(JSON.stringify(seen));
          const field = request.headers.authorization || '';
          const nonce = /nonce="([^"]*)"/.exec(field), count = /nc=([0-9a-f]{{8}})/.exec(field);
          if (nonce && count) seen.push(nonce[1] + ' ' + count[1]);
          kinds[path].check((q, s) => {{ let n = 0; q.on('data', (d) => n += d.length).on('end', () => s.end(`hello ${{q.user}} ${{n}}\\n`)); }})(request, response);
        }}).listen({port}, '127.0.0.1');
    """))
    lab.start(["node", script], "http-auth", env={"NODE_PATH": str(modules)})
    wait_port(port)
    return port


def httpbin(lab):
    """/digest-auth/QOP/USER/PASSWORD/ALGORITHM; hashes the body for auth-int, wants its cookies back for stale nonces."""
    if sh(sys.executable, "-c", "import httpbin")[0] != 0:
        raise Skip("httpbin is not installed")
    port = free_ports(1)[0]
    serve = f"from httpbin import app; app.run('127.0.0.1', {port}, threaded=True)"
    lab.start([sys.executable, "-c", serve], "httpbin")
    wait_port(port)
    return port


def digest(lab, r):
    "SHA-256, userhash, auth-int, -sess, RFC 2069 and stale nonces, and counts that never repeat, against servers that check them"
    light, node, bin = lighttpd(lab), http_auth(lab), httpbin(lab)
    credential = {"username": USER, "password": PASSWORD}
    at = lambda host, port, **digest: {"host": f"{host}.gp.test", "scheme": "http", "connect_to": f"127.0.0.1:{port}", "digest": {**credential, **digest}}
    g = lab.gatepass({"rules": [
        at("light", light), at("node", node), at("bin", bin, password="pw"),
        at("utf8", light, username="jürgen", password="pässwörd"),
        at("wrong-light", light, password="no"), at("wrong-node", node, password="no"), at("wrong-bin", bin, password="no"),
    ]}, name="digest-gate")
    paths = [("light", light, f"{kind}/x.txt") for kind in ("sha256", "userhash", "both")] + [("node", node, kind) for kind in ("md5", "md5sess", "noqop")]
    paths += [("bin", bin, f"digest-auth/{qop}/{USER}/pw/{algorithm}") for qop in ("auth", "auth-int") for algorithm in ("MD5", "SHA-256")]
    for name, port, path in paths:
        code, out = sh("curl", "-sS", *STATUS, f"http://127.0.0.1:{port}/{path}")
        refused = out == "401"
        # httpbin lets nobody in who brings no cookie.
        code, out = g.curl(f"http://{name}.gp.test/{path}", "-b", "any=1", *STATUS)
        code, wrong = g.curl(f"http://wrong-{name}.gp.test/{path}", "-b", "any=1", "-i")
        r.check(f"{name} {path}: refused without, let in by gatepass, a wrong password refused and named", refused and out == "200" and " 401 " in wrong and "refused the credential `digest`" in wrong, (out, wrong))
    code, out = g.curl("http://utf8.gp.test/sha256/x.txt")
    r.check("a user and password in UTF-8", "hello from sha256" in out, out)
    code, out = g.curl(f"http://bin.gp.test/digest-auth/auth-int/{USER}/pw/SHA-256", "-b", "any=1", "-X", "GET", "-d", "some body", "-H", "content-type: application/octet-stream", *STATUS)
    r.check("auth-int with a body", out == "200", out)
    code, out = g.curl("http://node.gp.test/md5sess", "-d", "abc")
    r.check("a body after the challenge", "hello alice 3" in out, out)

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda n: g.curl(f"http://node.gp.test/md5?{n}", *STATUS)[1], range(192)))
    r.check("192 requests, 64 at once, to a server that wants counts to rise: all served", set(answers) == {"200"}, sorted(set(answers)))
    code, out = sh("curl", "-sS", f"http://127.0.0.1:{node}/counts")
    seen = json.loads(out)
    r.check(f"{len(seen)} pairs of nonce and count, none twice", len(seen) >= 192 and len(seen) == len(set(seen)), seen[:3])


GROUPS = {"digest": digest}
