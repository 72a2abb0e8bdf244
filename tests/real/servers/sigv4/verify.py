"""An origin that accepts a request only if its AWS signature is what botocore itself computes for the bytes that arrived:
any service, region, path and query; header or presigned URL; session token; signed chunks of aws-chunked uploads, whose
formula stands here since botocore has none.  verify.py PORT [CERTIFICATE KEY]   VERIFY_AHEAD: seconds its clock is ahead."""
import datetime, hashlib, hmac, http.server, json, os, ssl, sys
from email.utils import formatdate
from urllib.parse import parse_qsl, quote, unquote
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEYS = {"AKIDEXAMPLE": ("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None), "ASIASESSION": ("sessionsecret", "session/token+with=odd==")}
AHEAD = float(os.environ.get("VERIFY_AHEAD", "0"))
EXPIRED = os.environ.get("VERIFY_EXPIRED", "")
sha = lambda data: hashlib.sha256(data).hexdigest()


def now():
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=AHEAD)


def chunks(body, seed, secret, date, scope, trailer):
    """Takes an aws-chunked body apart and checks each signature over the one before."""
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    mac = lambda kind, *lines: hmac.new(key, "\n".join([f"AWS4-HMAC-SHA256-{kind}", date, scope, *lines]).encode(), hashlib.sha256).hexdigest()
    previous, at, whole, count = seed, 0, b"", 0
    while True:
        end = body.index(b"\r\n", at)
        size, signature = body[at:end].decode().split(";chunk-signature=")
        data = body[end + 2 : end + 2 + int(size, 16)]
        if mac("PAYLOAD", previous, sha(b""), sha(data)) != signature:
            raise ValueError(f"SignatureDoesNotMatch in chunk {count}")
        previous, count, whole = signature, count + 1, whole + data
        at = end + 2 + len(data)
        if not data:
            break
        if body[at : at + 2] != b"\r\n":
            raise ValueError("chunk without its end")
        at += 2
    lines = [line for line in body[at:].decode().split("\r\n") if line]
    if trailer:
        signature = lines.pop().removeprefix("x-amz-trailer-signature:")
        if mac("TRAILER", previous, sha("".join(line + "\n" for line in lines).encode())) != signature:
            raise ValueError("SignatureDoesNotMatch in the trailer")
    elif lines:
        raise ValueError("trailer not announced")
    return whole, count


def check(method, target, headers, body):
    path, _, query = target.partition("?")
    h = {k.lower(): v.strip() for k, v in headers}
    qs = dict(parse_qsl(query, keep_blank_values=True))
    presigned = bool(qs.get("X-Amz-Signature"))
    if h.get("authorization", "").startswith("AWS4-HMAC-SHA256"):
        parts = dict(p.strip().split("=", 1) for p in h["authorization"][len("AWS4-HMAC-SHA256"):].split(","))
        credential, signed, signature, date, token = parts["Credential"], parts["SignedHeaders"].split(";"), parts["Signature"], h.get("x-amz-date"), h.get("x-amz-security-token")
    elif presigned:
        credential, signed, signature, date, token = qs["X-Amz-Credential"], qs["X-Amz-SignedHeaders"].split(";"), qs["X-Amz-Signature"], qs["X-Amz-Date"], qs.get("X-Amz-Security-Token")
        query = "&".join(p for p in query.split("&") if not p.startswith("X-Amz-Signature="))
    else:
        return 403, "MissingAuthenticationToken"
    access_key, day, region, service, end = credential.rsplit("/", 4)
    if EXPIRED and os.path.exists(EXPIRED) and access_key in open(EXPIRED).read().split():
        return 400, "<Error><Code>ExpiredToken</Code></Error>"
    if access_key not in KEYS or end != "aws4_request" or day != date[:8]:
        return 403, "InvalidClientTokenId"
    secret, wanted = KEYS[access_key]
    if wanted != token:
        return 403, "InvalidToken"
    skew = abs((now() - datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)).total_seconds())
    if skew > max(300, int(qs.get("X-Amz-Expires", 0))):
        return 403, "<Error><Code>RequestTimeTooSkewed</Code></Error>"
    missing = [k for k in h if k.startswith("x-amz-") and k not in signed]
    if "host" not in signed or (missing and not presigned):
        return 403, f"unsigned headers {missing or 'host'}"
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    auth = kind(Credentials(access_key, secret, token), service, region)
    told, real = h.get("x-amz-content-sha256"), sha(body)
    if service == "s3" and not told and not presigned:
        return 400, "x-amz-content-sha256 required for s3"
    if told and told not in (real, "UNSIGNED-PAYLOAD") and not told.startswith("STREAMING-"):
        return 400, "XAmzContentSHA256Mismatch"
    payload = told or ("UNSIGNED-PAYLOAD" if presigned and service == "s3" else real)
    pairs = sorted((quote(unquote(k), safe="-_.~"), quote(unquote(v), safe="-_.~")) for k, _, v in (p.partition("=") for p in query.split("&") if p))
    request = AWSRequest(method=method, url="http://" + h["host"] + path, headers={})
    names = {}
    for k, v in headers:
        names.setdefault(k.lower(), []).append(" ".join(v.split()))
    fields = "".join(f"{name}:{','.join(names[name])}\n" for name in signed)
    canonical = "\n".join([method, auth._normalize_url_path(path), "&".join(f"{k}={v}" for k, v in pairs), fields, ";".join(signed), payload])
    request.context["timestamp"] = date
    if not hmac.compare_digest(auth.signature(auth.string_to_sign(request, canonical), request), signature):
        return 403, "SignatureDoesNotMatch\n--- canonical request expected\n" + canonical
    count = 0
    if payload.startswith("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
        body, count = chunks(body, signature, secret, date, f"{day}/{region}/{service}/{end}", payload.endswith("-TRAILER"))
        if len(body) != int(h["x-amz-decoded-content-length"]):
            return 400, "IncompleteBody"
    return 200, json.dumps({"ok": True, "access_key": access_key, "service": service, "region": region, "payload": payload, "length": len(body), "sha256": sha(body), "chunks": count, "framed": "content-length" in h, "session": bool(token), "signed": signed})


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    break
        else:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            status, text = check(self.command, self.path, self.headers.items(), body)
        except Exception as cause:
            status, text = 403, repr(cause)
        out = (text + "\n").encode()
        self.send_response_only(status)
        self.send_header("date", formatdate(now().timestamp(), usegmt=True))
        self.send_header("content-length", str(len(out)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(out)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = do

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
