"""Checks tokens. argv: port, folder of public keys. /jwt/ALG/… by PyJWT (Authorization: Bearer or JWT, X-Token, ?token=);
/once/ALG/…: each jti once; /asap/… by Atlassian's atlassian-jwt-auth, which takes each jti once."""
import pathlib, sys, urllib.parse

import jwt
from atlassian_jwt_auth import JWTAuthVerifier

from serving import serve

KEYS = pathlib.Path(sys.argv[2])
SECRET = "jwt shared secret that is long enough for HS512 ++/==xxxxxxxxxxxxxxxxx"
seen = set()


class Retriever:
    def retrieve(self, key, **_):
        issuer, _, name = key.key_id.partition("/")
        assert issuer == "gp-issuer", "unknown issuer"
        return (KEYS / f"{name}.pub.pem").read_text()


asap = JWTAuthVerifier(Retriever(), check_jti_uniqueness=True)


def check(method, target, headers, body, scheme):
    url = urllib.parse.urlsplit(target)
    way, algorithm = (url.path.split("/") + [""])[1:3]
    word, _, token = (headers.get("authorization") or "").partition(" ")
    if way == "asap":
        return {"claims": asap.verify_jwt(token, "gp-audience")}
    token = urllib.parse.parse_qs(url.query).get("token", [headers.get("x-token") or (token if word in ("Bearer", "JWT") else None)])[0]
    assert token, "no token"
    key = SECRET if algorithm.startswith("HS") else (KEYS / f"{algorithm}.pub.pem").read_text()
    claims = jwt.decode(token, key, algorithms=[algorithm], audience="gp-api", issuer="gp", options={"require": ["exp", "iat"]})
    if way == "once":
        assert claims["jti"] not in seen, "jti used"
        seen.add(claims["jti"])
    return {"claims": claims, "header": jwt.get_unverified_header(token)}


serve(int(sys.argv[1]), check)
