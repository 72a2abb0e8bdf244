"""An OAuth 1.0 resource server. argv: port, public RSA key. /oauthlib/… is checked by oauthlib's ResourceEndpoint, /authlib/…
by Authlib's ResourceProtector, /sigonly/… by oauthlib without a token; …/ahead: its clock is an hour ahead. Nonces count once."""
import base64, hashlib, os, sys, time
from urllib.parse import unquote

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

from authlib.oauth1.rfc5849 import resource_protector
from oauthlib.oauth1 import RequestValidator, ResourceEndpoint, SignatureOnlyEndpoint

from serving import serve

RSA = open(sys.argv[2]).read()
CLIENTS, TOKENS, seen = {"gp-key": "gp secret&+%é", "gp-rsa": None}, {"gp-token": "gp-token secret"}, set()
HASHES = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}


class Validator(RequestValidator):
    enforce_ssl = False
    allowed_signature_methods = ("HMAC-SHA1", "HMAC-SHA256", "HMAC-SHA512", "RSA-SHA1", "RSA-SHA256", "RSA-SHA512", "PLAINTEXT")
    dummy_client, dummy_access_token = "dummy-client", "dummy-token"
    check_client_key = check_access_token = lambda self, _: True
    check_nonce = lambda self, nonce: len(nonce) >= 6
    validate_client_key = lambda self, key, _: key in CLIENTS
    validate_access_token = lambda self, key, token, _: token in TOKENS
    validate_realms = lambda self, *_, **__: True
    get_client_secret = lambda self, key, _: CLIENTS.get(key) or "dummy"
    get_access_token_secret = lambda self, key, token, _: TOKENS.get(token, "dummy")
    get_rsa_key = lambda self, *_: RSA

    def validate_timestamp_and_nonce(self, key, timestamp, nonce, request, request_token=None, access_token=None):
        clock = time.time() + (3600 if "/ahead" in request.uri else 0)
        if abs(clock - int(timestamp)) > 600 or (key, timestamp, nonce) in seen:
            return False
        seen.add((key, timestamp, nonce))
        return True


class Client:
    def __init__(self, key):
        self.client_id, self.secret = key, CLIENTS[key]

    get_default_redirect_uri = lambda self: ""
    get_client_secret = lambda self: self.secret or ""
    get_rsa_public_key = lambda self: RSA


class Token:
    get_oauth_token = lambda self: "gp-token"
    get_oauth_token_secret = lambda self: TOKENS["gp-token"]


class Protector(resource_protector.ResourceProtector):
    SUPPORTED_SIGNATURE_METHODS = ["HMAC-SHA1", "RSA-SHA1", "PLAINTEXT"]
    get_client_by_id = lambda self, key: Client(key) if key in CLIENTS else None
    get_token_credential = lambda self, request: Token() if request.token == "gp-token" else None

    def exists_nonce(self, nonce, request):
        used = (request.client_id, request.timestamp, nonce)
        hit = used in seen
        seen.add(used)
        return hit


with_token, without_token = ResourceEndpoint(Validator()), SignatureOnlyEndpoint(Validator())


def check(method, target, headers, body, scheme):
    uri, fields = f"{scheme}://{headers['host']}{target}", {name.title(): value for name, value in headers.items()}
    form = (headers.get("content-type") or "").startswith("application/x-www-form-urlencoded")
    text, way = body.decode() if form else "", target.split("/")[1]
    if way == "authlib":
        Protector().validate_request(method, uri, text or None, fields)
    elif way == "oauthlib":
        good, request = with_token.validate_protected_resource_request(uri, method, text, fields)
        assert good, getattr(request, "validator_log", None) or "timestamp or nonce"
    else:
        good, request = without_token.validate_request(uri, method, text, fields)
        assert good, "signature"
    authorization = headers.get("authorization") or ""
    if "oauth_body_hash" in authorization:
        sent = unquote(authorization.split('oauth_body_hash="')[1].split('"')[0])
        kind = authorization.split('oauth_signature_method="')[1].split('"')[0].rsplit("-", 1)[1]
        assert sent == base64.b64encode(HASHES[kind](body).digest()).decode(), "oauth_body_hash"
    return {"target": target, "authorization": bool(authorization), "body_hash": "oauth_body_hash" in authorization, "body": body[:300].decode("utf8", "replace")}


serve(int(sys.argv[1]), check)
