"""Checks HTTP Message Signatures with PyPI's http-message-signatures, and Content-Digest. argv: port, folder of public keys,
certificate. /ALGORITHM/…; the signature must cover @method, @authority, @path, @query, and content-digest where there is a body."""
import base64, datetime, hashlib, pathlib, sys
from types import SimpleNamespace

from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms
from http_message_signatures.structures import CaseInsensitiveDict

from serving import serve

KEYS = pathlib.Path(sys.argv[2])
ALGORITHMS = {
    "hmac-sha256": algorithms.HMAC_SHA256,
    "ed25519": algorithms.ED25519,
    "rsa-pss-sha512": algorithms.RSA_PSS_SHA512,
    "rsa-v1_5-sha256": algorithms.RSA_V1_5_SHA256,
    "ecdsa-p256-sha256": algorithms.ECDSA_P256_SHA256,
}
FILES = {"ed25519": "EdDSA", "rsa-pss-sha512": "RS256", "rsa-v1_5-sha256": "RS256", "ecdsa-p256-sha256": "ES256"}


class Resolver(HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id):
        return b"signature shared secret, 32 or more" if key_id == "hmac-sha256" else (KEYS / f"{FILES[key_id]}.pub.pem").read_bytes()


def check(method, target, headers, body, scheme):
    algorithm = target.split("/")[1]
    message = SimpleNamespace(method=method, url=f"{scheme}://{headers['host']}{target}", headers=CaseInsensitiveDict(headers.items()))
    verifier = HTTPMessageVerifier(signature_algorithm=ALGORITHMS[algorithm], key_resolver=Resolver())
    result = verifier.verify(message, max_age=datetime.timedelta(minutes=5))[0]
    covered = [name.strip('"') for name in result.covered_components]
    wanted = {"@method", "@authority", "@path", "@query"} | ({"content-digest"} if body else set())
    assert wanted <= set(covered), f"not covered: {wanted - set(covered)}"
    if body:
        kind, _, value = headers["content-digest"].partition("=:")
        assert base64.b64decode(value.rstrip(":")) == hashlib.new(kind.replace("-", ""), body).digest(), "content-digest"
    return {"covered": covered, "label": result.label}


serve(int(sys.argv[1]), check, *sys.argv[3:])
