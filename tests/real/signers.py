"""Schemes that sign: each against a verifier that others wrote."""
import json
import subprocess
import sys

from checks import rule
from kit import FULL, HERE, REAL, Skip, free_ports, need, need_full, wait_port

SERVERS = HERE / "servers"
QUERIES = ["", "?b=2&a=1", "?a=1&a=0&a=", "?x=%20y&z=a+b", "?e=%C3%A9&s=-_.~&slash=%2F", "?eq=%3D&amp=%26&st=%2A%27%28%29%21", "?flag&empty="]
HS_SECRET = "jwt shared secret that is long enough for HS512 ++/==xxxxxxxxxxxxxxxxx"


def modules(*names):
    for name in names:
        if subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True).returncode:
            raise Skip(f"the Python module {name} is not installed")


def serve(lab, name, *arguments):
    """A server of tests/real/servers, by Python or Node; its port."""
    port = free_ports(1)[0]
    program = [sys.executable, f"{name}.py"] if (SERVERS / f"{name}.py").exists() else ["node", f"{name}.js"]
    lab.start([*program, port, *arguments], f"{name}-{port}", cwd=SERVERS)
    wait_port(port)
    return port


def keys(lab):
    """Key pairs by openssl, once: ALG.pem and ALG.pub.pem, and other dresses of the private ones."""
    d = lab.dir / "signers"
    if d.exists():
        return d
    d.mkdir()
    run = lambda *a: subprocess.run(["openssl", *map(str, a)], check=True, capture_output=True, cwd=d)
    run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa.pem")
    for curve, name in (("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512")):
        run("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-out", f"{name}.pem")
    run("genpkey", "-algorithm", "ED25519", "-out", "EdDSA.pem")
    for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"):
        (d / f"{name}.pem").symlink_to("rsa.pem")
    for private in list(d.glob("*.pem")):
        run("pkey", "-in", private.name, "-pubout", "-out", f"{private.stem}.pub.pem")
    run("rsa", "-in", "rsa.pem", "-traditional", "-out", "pkcs1.pem")
    run("ec", "-in", "ES256.pem", "-out", "sec1.pem")
    run("pkcs8", "-topk8", "-in", "rsa.pem", "-v2", "aes256", "-passout", "pass:s3cret pass", "-out", "encrypted.pem")
    run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "other.pem")
    big = d / "2m.bin"
    big.write_bytes(bytes(n % 251 for n in range(2 << 20)))
    return d


def bodies(lab):
    """Request bodies by name, as curl's arguments."""
    return {
        "an empty body": ["-X", "POST"],
        "a form": ["-d", "a=b+c&d=%C3%A9%26%3D%2B&e=&a="],
        "JSON": ["-H", "Content-Type: application/json; charset=utf-8", "-d", '{"a":"é"}'],
        "2 MB": ["--data-binary", f"@{keys(lab) / '2m.bin'}", "-H", "Content-Type: application/octet-stream"],
        "2 MB chunked": ["-T", str(keys(lab) / "2m.bin"), "-X", "POST", "-H", "Transfer-Encoding: chunked", "-H", "Content-Type: text/plain"],
    }


class Tries:
    """Requests through one gatepass, each with the status it must have."""

    def __init__(self, gate, results, scheme="http"):
        self.gate, self.results, self.scheme = gate, results, scheme

    def ask(self, target, *more):
        code, out = self.gate.curl(f"{self.scheme}://{target}", "-w", "\n%{http_code}", *more)
        told, _, status = out.rpartition("\n")
        return status.strip(), told

    def accepted(self, name, target, *more, holds=""):
        status, told = self.ask(target, *more)
        self.results.check(name, status == "200" and '"ok": true' in told.replace('"ok":true', '"ok": true') and holds in told, (status, told))

    def refused(self, name, target, *more, holds=""):
        status, told = self.ask(target, *more)
        self.results.check(name, status == "401" and holds in told, (status, told))

    def logged(self, name, text):
        log = self.gate.log()
        self.results.check(name, text in log, log[-400:])

    def silent(self, *secrets):
        log = self.gate.log()
        self.results.check("the log holds no secret", not any(secret in log for secret in secrets), log[-400:])


def plain(lab, host, port, **auth):
    return rule(lab, host, port, scheme="http", **auth)


def tokens(lab, r):
    "JSON Web Tokens in every algorithm and dress of key, and ASAP: taken by PyJWT and atlassian-jwt-auth"
    modules("jwt", "atlassian_jwt_auth")
    d = keys(lab)
    port = serve(lab, "tokens", d)
    claims = {"iss": "gp", "aud": "gp-api", "sub": "me", "x": {"y": [1, "é"]}}
    algorithms = "HS256 HS384 HS512 RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA".split()
    make = lambda algorithm, **more: {"jwt": {"algorithm": algorithm, "claims": claims, "key_id": "k1", **({"key": HS_SECRET} if algorithm.startswith("HS") else {"private_key": str(d / f"{algorithm}.pem")}), **more}}
    special = {
        "query": make("ES256", **{"in": "query"}),
        "named": make("ES256", name="X-Token", prefix=""),
        "prefix": make("ES256", prefix="JWT"),
        "pkcs1": {"jwt": {"claims": claims, "private_key": str(d / "pkcs1.pem")}},
        "sec1": {"jwt": {"claims": claims, "private_key": str(d / "sec1.pem")}},
        "encrypted": {"jwt": {"claims": claims, "private_key": str(d / "encrypted.pem"), "passphrase": {"env": "KEY_PASS"}}},
        "command": {"jwt": {"claims": claims, "private_key": {"exec": ["cat", str(d / "rsa.pem")]}}},
        "expired": make("RS256") | {"jwt": {**make("RS256")["jwt"], "claims": {**claims, "iat": "now-100", "exp": "now-50"}}},
        "wrong": {"jwt": {"claims": claims, "private_key": str(d / "other.pem")}},
        "once": make("RS256"),
    }
    asap = lambda **more: {"asap": {"issuer": "gp-issuer", "key_id": "gp-issuer/RS256", "audience": "gp-audience", "private_key": str(d / "rsa.pem"), **more}}
    special |= {
        "asap": asap(),
        "asap-ec": asap(key_id="gp-issuer/ES384", algorithm="ES384", private_key=str(d / "ES384.pem")),
        "asap-reuse": asap(reuse=True),
        "asap-wrong": asap(private_key=str(d / "other.pem")),
        "asap-audience": asap(audience="another"),
    }
    settings = {algorithm.lower(): make(algorithm) for algorithm in algorithms} | special
    gate = lab.gatepass({"credentials": settings, "rules": [plain(lab, f"{name}.gp.test", port, auth=name) for name in settings] + [plain(lab, "bare.gp.test", port)]}, name="tokens", env={"KEY_PASS": "s3cret pass"})
    tries = Tries(gate, r)
    tries.refused("without a token PyJWT refuses", "bare.gp.test/jwt/RS256/x", holds="no token")
    tries.refused("and atlassian-jwt-auth", "bare.gp.test/asap/x")
    for algorithm in algorithms:
        tries.accepted(f"{algorithm} is taken", f"{algorithm.lower()}.gp.test/jwt/{algorithm}/x?a=%20", holds='"kid": "k1"')
    tries.accepted("in the query, in place of the client's", "query.gp.test/jwt/ES256/x?a=b&token=old", holds='"sub": "me"')
    tries.accepted("in a named header", "named.gp.test/jwt/ES256/x")
    tries.accepted("behind another word", "prefix.gp.test/jwt/ES256/x", "-H", "Authorization: Bearer old")
    for name, algorithm in (("pkcs1", "RS256"), ("sec1", "ES256"), ("encrypted", "RS256"), ("command", "RS256")):
        tries.accepted(f"a key of the dress `{name}` signs", f"{name}.gp.test/jwt/{algorithm}/x")
    tries.refused("an expired token is refused", "expired.gp.test/jwt/RS256/x", holds="ExpiredSignature")
    tries.refused("a wrong key is refused, in the server's words", "wrong.gp.test/jwt/RS256/x", holds="InvalidSignature")
    tries.logged("and the log names credential and rule", "auth=wrong")
    for n in range(3):
        tries.accepted(f"a server that takes each token once is sent a new one after its 401 ({n})", "once.gp.test/once/RS256/x", "-d", "a body that is sent twice")
    for n in range(3):
        tries.accepted(f"asap: a token of its own for request {n}", "asap.gp.test/asap/x")
    tries.accepted("asap by ES384", "asap-ec.gp.test/asap/x")
    tries.accepted("asap with reuse", "asap-reuse.gp.test/asap/x")
    tries.accepted("asap with reuse where each counts once: sent again with a new one", "asap-reuse.gp.test/asap/x")
    tries.refused("asap: a wrong key is refused", "asap-wrong.gp.test/asap/x", holds="InvalidSignature")
    tries.refused("asap: another audience is refused", "asap-audience.gp.test/asap/x", holds="InvalidAudience")
    tries.silent(HS_SECRET, "s3cret pass", "PRIVATE KEY")


def hawk(lab, r):
    "Hawk: MAC, payload hash and clock against npm's @hapi/hawk"
    need("node")
    folder = REAL / "node/node_modules"
    if not (folder / "@hapi/hawk").exists():
        raise Skip("npm's @hapi/hawk is not installed")
    port = serve(lab, "hawk", folder)
    key = "werxhqb98rpaxn39848xrunpaw3489ruxnpa98w4rxn"
    own = {"id": "gp-hawk", "key": key}
    settings = {
        "hawk": own,
        "hashed": {**own, "payload_hash": True, "ext": "some ext"},
        "sha1": {"id": "gp-hawk1", "key": "sha1 key &+%", "algorithm": "sha1", "payload_hash": True},
        "oz": {**own, "app": "app1", "dlg": "dlg1"},
        "wrong": {**own, "key": "s3cret-wrong"},
        "unknown": {**own, "id": "nobody"},
        "ahead": own,
    }
    gate = lab.gatepass({"credentials": {name: {"hawk": s} for name, s in settings.items()}, "rules": [plain(lab, f"{name}.gp.test", port, auth=name) for name in settings] + [plain(lab, "bare.gp.test", port)]}, name="hawk")
    tries = Tries(gate, r)
    tries.refused("without a MAC it is refused", "bare.gp.test/plain")
    for query in QUERIES:
        tries.accepted(f"the target /plain/%20x{query} is taken", f"hawk.gp.test/plain/%20x/%C3%A9{query}")
    for name, body in bodies(lab).items():
        tries.accepted(f"{name} is taken", "hawk.gp.test/plain", *body)
        tries.accepted(f"{name} with its hash", "hashed.gp.test/payload", *body)
    tries.refused("a body without its hash is refused where one is wanted", "hawk.gp.test/payload", "-d", "x", holds="Missing payload hash")
    tries.accepted("sha1, a key with odd characters, a hash", "sha1.gp.test/payload?a=1", "-d", "x", holds="bob")
    tries.accepted("app and dlg", "oz.gp.test/plain", holds="dlg1")
    tries.refused("a wrong key is refused, in the server's words", "wrong.gp.test/plain", holds="Bad mac")
    tries.logged("and the log names the credential", "auth=wrong")
    tries.refused("an unknown id is refused", "unknown.gp.test/plain", holds="Unknown credentials")
    tries.accepted("a clock an hour ahead is followed: a body is sent once more", "ahead.gp.test/ahead", *bodies(lab)["2 MB"], holds="2097152")
    tries.accepted("and known from then on", "ahead.gp.test/ahead", *bodies(lab)["2 MB chunked"], holds="2097152")
    r.check("answers were signed with the key", "Server-Authorization" not in gate.log(), gate.log()[-400:])
    tries.accepted("an answer signed by another passes", "hawk.gp.test/liar")
    tries.logged("and is told in the log", "the answer's Server-Authorization was not made with the hawk key")
    tries.silent(key, "sha1 key", "s3cret-wrong")


def oauth1(lab, r):
    "OAuth 1.0 in header, query and body against oauthlib and Authlib"
    modules("oauthlib", "authlib")
    d = keys(lab)
    port = serve(lab, "oauth1", d / "rsa.pub.pem")
    own = {"consumer_key": "gp-key", "consumer_secret": "gp secret&+%é", "token": "gp-token", "token_secret": "gp-token secret"}
    rsa = {"consumer_key": "gp-rsa", "token": "gp-token", "private_key": str(d / "rsa.pem")}
    settings = {method.lower(): {**own, "signature_method": method} for method in ("HMAC-SHA1", "HMAC-SHA256", "HMAC-SHA512", "PLAINTEXT")}
    settings |= {method.lower(): {**rsa, "signature_method": method} for method in ("RSA-SHA256", "RSA-SHA512")}
    settings |= {
        "query": {**own, "in": "query"},
        "body": {**own, "in": "body"},
        "hashed": {**own, "body_hash": True},
        "hashed256": {**own, "body_hash": True, "signature_method": "HMAC-SHA256"},
        "realm": {**own, "realm": 'Photos "x"'},
        "two-legged": {"consumer_key": "gp-key", "consumer_secret": "gp secret&+%é"},
        "wrong": {**own, "consumer_secret": "s3cret-wrong"},
        "wrong-token": {**own, "token_secret": "no"},
        "wrong-rsa": {**rsa, "private_key": str(d / "other.pem"), "signature_method": "RSA-SHA256"},
    }
    gate = lab.gatepass({"credentials": {name: {"oauth1": s} for name, s in settings.items()}, "rules": [plain(lab, f"{name}.gp.test", port, auth=name) for name in settings] + [plain(lab, "bare.gp.test", port)]}, name="oauth1")
    tries = Tries(gate, r)
    for library in ("oauthlib", "authlib", "sigonly"):
        tries.refused(f"{library}: refused without a signature", f"bare.gp.test/{library}/x")
    for method in ("hmac-sha1", "hmac-sha256", "hmac-sha512", "plaintext", "rsa-sha256", "rsa-sha512"):
        tries.accepted(f"oauthlib takes {method}", f"{method}.gp.test/oauthlib/x?b=2&a=1")
    for method in ("hmac-sha1", "plaintext", "query", "realm"):
        tries.accepted(f"Authlib takes {method}", f"{method}.gp.test/authlib/x?b=2&a=1")
    for query in QUERIES:
        tries.accepted(f"the target /p%20th{query} is taken, its bytes untouched", f"hmac-sha1.gp.test/oauthlib/p%20th/%C3%A9{query}", holds=json.dumps(f"/oauthlib/p%20th/%C3%A9{query}"))
        tries.accepted(f"and signed in the query ({query})", f"query.gp.test/oauthlib/x{query}")
    for name, body in bodies(lab).items():
        for library in ("oauthlib", "authlib"):
            tries.accepted(f"{library} takes {name}", f"hmac-sha1.gp.test/{library}/x?q=1", *body)
        tries.accepted(f"{name}, signed in the body if it is a form", "body.gp.test/oauthlib/x?q=1", *body, holds='"authorization": ' + ("false" if name == "a form" else "true"))
        tries.accepted(f"{name}, its hash signed unless it is a form", "hashed.gp.test/oauthlib/x", *body, holds='"body_hash": ' + ("false" if name == "a form" else "true"))
    tries.accepted("a SHA-256 hash", "hashed256.gp.test/oauthlib/x", *bodies(lab)["JSON"], holds='"body_hash": true')
    tries.accepted("a form signed in the body arrives as it was", "body.gp.test/authlib/x", *bodies(lab)["a form"], holds="a=b+c&d=%C3%A9%26%3D%2B&e=&a=&oauth_consumer_key")
    tries.accepted("without a token", "two-legged.gp.test/sigonly/x?a=1")
    tries.accepted("the client's own signature is replaced", "query.gp.test/oauthlib/x?oauth_signature=old&oauth_nonce=old&a=1")
    tries.refused("a wrong consumer secret is refused", "wrong.gp.test/oauthlib/x")
    tries.logged("and the log names the credential", "auth=wrong")
    tries.refused("a wrong token secret is refused", "wrong-token.gp.test/oauthlib/x")
    tries.refused("another RSA key is refused", "wrong-rsa.gp.test/oauthlib/x")
    tries.refused("a server an hour ahead refuses, and the client is told in its words", "hmac-sha1.gp.test/oauthlib/ahead", holds="timestamp")
    tries.silent("gp secret", "gp-token secret", "s3cret-wrong")


def oauth1_sha1(lab, r):
    "OAuth 1.0 by RSA-SHA1, which builds with OpenSSL sign, against oauthlib and Authlib"
    need_full()
    modules("oauthlib", "authlib")
    d = keys(lab)
    port = serve(lab, "oauth1", d / "rsa.pub.pem")
    own = {"consumer_key": "gp-rsa", "token": "gp-token", "signature_method": "RSA-SHA1"}
    settings = {
        "pkcs8": {**own, "private_key": str(d / "rsa.pem")},
        "encrypted": {**own, "private_key": str(d / "encrypted.pem"), "passphrase": "s3cret pass"},
        "command": {**own, "private_key": {"exec": ["cat", str(d / "pkcs1.pem")]}},
        "wrong": {**own, "private_key": str(d / "other.pem")},
    }
    gate = lab.gatepass({"credentials": {name: {"oauth1": s} for name, s in settings.items()}, "rules": [plain(lab, f"{name}.gp.test", port, auth=name) for name in settings]}, name="oauth1-sha1", binary=FULL)
    tries = Tries(gate, r)
    for library in ("oauthlib", "authlib"):
        for name in ("pkcs8", "encrypted", "command"):
            tries.accepted(f"{library} takes what the key `{name}` signs", f"{name}.gp.test/{library}/x?a=%20", "-d", "b=c+d")
        tries.refused(f"{library} refuses another key", f"wrong.gp.test/{library}/x")


def edgegrid(lab, r):
    "Akamai EdgeGrid against Akamai's own library, over TLS and in clear"
    modules("akamai.edgegrid")
    clear, tls = serve(lab, "edgegrid"), serve(lab, "edgegrid", lab.pem("server"))
    own = {"client_token": "akab-client-token-xxx", "client_secret": "client_secret_xxx+/=", "access_token": "akab-access-token-xxx"}
    file = lab.dir / "edgerc"
    file.write_text("[default]\nclient_token = other\n[papi]\nhost = a.gp.test\n" + "".join(f"{name} = {value}\n" for name, value in own.items()))
    credentials = {
        "edge": own,
        "file": {"edgerc": str(file), "section": "papi"},
        "fields": {**own, "headers_to_sign": ["X-Test1", "X-Test2"]},
        "wrong": {**own, "client_secret": "s3cret-wrong"},
    }
    rules = [rule(lab, "api.gp.test", tls, auth="edge"), rule(lab, "a.gp.test", tls, auth="file"), rule(lab, "b.gp.test", tls, auth="fields"), rule(lab, "other.gp.test", tls, auth="wrong"), rule(lab, "c.gp.test", tls), plain(lab, "clear.gp.test", clear, auth="edge")]
    gate = lab.gatepass({"credentials": {name: {"akamai_edgegrid": s} for name, s in credentials.items()}, "rules": rules}, name="edgegrid")
    tries, in_clear = Tries(gate, r, "https"), Tries(gate, r)
    tries.refused("without a signature it is refused", "c.gp.test/x")
    for query in QUERIES:
        tries.accepted(f"the target /p%20q{query} is taken", f"api.gp.test/p%20q/%C3%A9{query}")
    for name, body in bodies(lab).items():
        tries.accepted(f"POST of {name} is taken", "api.gp.test/x", *body)
        tries.accepted(f"PUT of {name} is taken, its body not hashed", "api.gp.test/x", *body, "-X", "PUT")
    tries.accepted("over HTTP/2 from the client", "api.gp.test/x?a=1", "--http2", "-d", "x")
    in_clear.accepted("in clear", "clear.gp.test/x?a=1", "-d", "x")
    tries.accepted("credentials of an .edgerc file", "a.gp.test/x")
    tries.accepted("header fields are signed, runs of spaces as one", "b.gp.test/h/x", "-H", "X-Test1: a   b ", "-H", "X-Test2: c")
    tries.refused("and refused where they were not", "api.gp.test/h/x", "-H", "X-Test1: a", holds="does not match")
    tries.refused("a wrong secret is refused, in the server's words", "other.gp.test/x", holds="does not match")
    tries.logged("and the log names the credential", "auth=wrong")
    tries.refused("a server an hour ahead refuses, and the client is told in its words", "api.gp.test/ahead", holds="Invalid timestamp")
    tries.silent(own["client_secret"], "s3cret-wrong")


def http_signature(lab, r):
    "HTTP Message Signatures and Content-Digest against PyPI's http-message-signatures"
    modules("http_message_signatures")
    d = keys(lab)
    port = serve(lab, "signatures", d, lab.pem("server"))
    private = {"ed25519": "EdDSA.pem", "rsa-pss-sha512": "rsa.pem", "rsa-v1_5-sha256": "pkcs1.pem", "ecdsa-p256-sha256": "sec1.pem"}
    settings = {name: {"algorithm": name, "key_id": name, "private_key": str(d / file)} for name, file in private.items()}
    settings["hmac-sha256"] = {"key_id": "hmac-sha256", "key": "signature shared secret, 32 or more"}
    settings["more"] = {**settings["ed25519"], "components": ["@method", "@authority", "@target-uri", "@scheme", "@path", "@query", "content-type", "accept", "user-agent"], "content_digest": "sha-512", "label": "mine", "expires": "1m", "nonce": True, "tag": "an app", "alg": True}
    settings["wrong"] = {**settings["rsa-pss-sha512"], "private_key": str(d / "other.pem")}
    hosts = ["api", "a", "b", "c", "basic", "vhost", "git"]
    where = dict(zip(settings, hosts))
    gate = lab.gatepass({"credentials": {name: {"http_signature": s} for name, s in settings.items()}, "rules": [rule(lab, f"{where[name]}.gp.test", port, auth=name) for name in settings] + [rule(lab, "other.gp.test", port)]}, name="signatures")
    tries = Tries(gate, r, "https")
    tries.refused("without a signature it is refused", "other.gp.test/ed25519/x", holds="Signature-Input")
    for name in (*private, "hmac-sha256"):
        tries.accepted(f"{name} is taken", f"{where[name]}.gp.test/{name}/x?a=1", "-d", "x=1")
        tries.accepted(f"{name} is taken from an HTTP/2 client", f"{where[name]}.gp.test/{name}/x", "--http2")
    host = where["ed25519"]
    for query in QUERIES:
        tries.accepted(f"the target /p%20q{query} is taken", f"{host}.gp.test/ed25519/p%20q/%C3%A9{query}")
    for name, body in bodies(lab).items():
        tries.accepted(f"{name} is taken with its digest", f"{host}.gp.test/ed25519/x", *body)
    tries.accepted("more components, SHA-512, nonce, tag, expiry, another label", f"{where['more']}.gp.test/ed25519/x?a=1", *bodies(lab)["JSON"], holds='"label": "mine"')
    tries.accepted("what a request does not have is left out", f"{where['more']}.gp.test/ed25519/x", "-H", "Accept:", "-H", "User-Agent:")
    tries.accepted("the client's signature of that label is replaced", f"{host}.gp.test/ed25519/x", "-H", 'Signature-Input: sig1=("date");created=1', "-H", "Signature: sig1=:b2xk:", "-H", "Content-Digest: sha-256=:b2xk:", "-d", "x")
    tries.refused("a wrong key is refused", f"{where['wrong']}.gp.test/rsa-pss-sha512/x", holds="InvalidSignature")
    tries.logged("and the log names the credential", "auth=wrong")
    tries.silent("signature shared secret", "PRIVATE KEY")


GROUPS = {"tokens": tokens, "hawk": hawk, "oauth1": oauth1, "oauth1-sha1": oauth1_sha1, "edgegrid": edgegrid, "http-signature": http_signature}
