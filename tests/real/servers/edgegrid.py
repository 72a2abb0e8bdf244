"""An EdgeGrid origin: Akamai's own library computes the signature of what arrived. argv: port, certificate or nothing.
/h/… signs X-Test1 and X-Test2 too; /ahead…: its clock is an hour ahead. Timestamps within 30 s, nonces once."""
import calendar, hmac, sys, time
from types import SimpleNamespace

from akamai.edgegrid.edgegrid import EdgeGridAuthHeaders
from requests.structures import CaseInsensitiveDict

from serving import serve

CLIENT_TOKEN, CLIENT_SECRET, ACCESS_TOKEN = "akab-client-token-xxx", "client_secret_xxx+/=", "akab-access-token-xxx"
WORD = "EG1-HMAC-SHA256 "
seen = set()


def check(method, target, headers, body, scheme):
    field = headers["authorization"] or ""
    assert field.startswith(WORD), "no EG1 authorization"
    parts = dict(part.split("=", 1) for part in field[len(WORD):].split(";") if part)
    assert parts["client_token"] == CLIENT_TOKEN and parts["access_token"] == ACCESS_TOKEN, "unknown token"
    clock = time.time() + (3600 if target.startswith("/ahead") else 0)
    assert abs(clock - calendar.timegm(time.strptime(parts["timestamp"], "%Y%m%dT%H:%M:%S+0000"))) < 30, "Invalid timestamp"
    assert parts["nonce"] not in seen, "nonce used"
    request = SimpleNamespace(method=method, url=f"{scheme}://{headers['host']}{target}", body=body, headers=CaseInsensitiveDict(headers.items()))
    signed = ["X-Test1", "X-Test2"] if target.startswith("/h/") else ()
    ours = EdgeGridAuthHeaders(CLIENT_TOKEN, CLIENT_SECRET, ACCESS_TOKEN, headers_to_sign=signed, max_body=131072)
    right = ours.sign_request(request, parts["timestamp"], field[:field.index("signature=")])
    assert hmac.compare_digest(right, parts["signature"]), "The signature does not match"
    seen.add(parts["nonce"])


serve(int(sys.argv[1]), check, *sys.argv[2:])
