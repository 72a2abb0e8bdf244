"""AWS signatures, at moto with its IAM checks on, at botocore's own computation, and at s3s-fs where it is installed."""
import json, os, sys, time

from checks import rule
from kit import GATEPASS, HERE, Skip, free_ports, need, sh, wait_port

PY = sys.executable
KEY = {"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
SESSION = {"access_key": "ASIASESSION", "secret_key": "sessionsecret", "session_token": "session/token+with=odd=="}
DUMMY = {"AWS_ACCESS_KEY_ID": "AKIADUMMYDUMMYDUMMY0", "AWS_SECRET_ACCESS_KEY": "dummy", "AWS_DEFAULT_REGION": "us-east-1"}
WRONG = {**KEY, "secret_key": "s3cret-wrong"}


def modules(*names):
    for name in names:
        if sh(PY, "-c", f"import {name}")[0] != 0:
            raise Skip(f"Python's {name} is not installed")


def verifier(lab, name="verify", tls=True, **env):
    modules("botocore")
    port = free_ports(1)[0]
    pair = [lab.pem("server.pem"), lab.pem("server.key")] if tls else []
    lab.start([PY, HERE / "servers/sigv4/verify.py", port, *pair], name, env=env)
    wait_port(port)
    return port


def amazon(lab, host, port, settings, **more):
    return rule(lab, host, port, aws_sigv4=settings, tls={"server_name": "localhost"}, **more)


def aws_any_service(lab, r):
    "any service, path and query arrives with the signature that botocore computes; none, wrong, elsewhere do not"
    port = verifier(lab)
    gate = lab.gatepass(
        {
            "credentials": {"aws": {"aws_sigv4": KEY}},
            "rules": [
                amazon(lab, "*.amazonaws.com", port, KEY),
                amazon(lab, "sqs.eu-west-1.amazonaws.com", port, WRONG),
                amazon(lab, "sqs.eu-west-2.amazonaws.com", port, SESSION),
                amazon(lab, "sqs.eu-west-3.amazonaws.com", port, {**SESSION, "in": "query"}),
                amazon(lab, "query.s3.eu-west-3.amazonaws.com", port, {**KEY, "in": "query"}),
                amazon(lab, "api.gp.test", port, KEY),
                rule(lab, "other.gp.test", port, tls={"server_name": "localhost"}),
            ],
        },
        name="aws-any",
    )
    api = "https://a1b2.execute-api.eu-central-1.amazonaws.com"
    code, out = gate.curl("https://other.gp.test/x")
    r.check("without a signature the verifier refuses", "MissingAuthenticationToken" in out, out)
    targets = ["/a%20b/c", "/a%2Fb", "/a//b/../c/", "/%E1%88%B4?x=%20y&a=2&a=1", "/x?flag", "/x?a=&b", "/p?s=~-_.'()*!", "/p?x=%2f", "/p?b=2&a=1&k=1&k=0", "/p?q=a+b", "/?e=%C3%A9&n=%0A", "/tilde~star*"]
    for target in targets:
        code, out = gate.curl(api + target, "--path-as-is")
        r.check(f"execute-api {target}", '"ok": true' in out and '"region": "eu-central-1"' in out, out)
    for target in ["/a%20b/c", "/a%2Fb", "/a//b/../c/", "/k?list-type=2&prefix=a%2Fb&delimiter=/"]:
        code, out = gate.curl("https://bucket.s3.eu-north-1.amazonaws.com" + target, "--path-as-is")
        r.check(f"s3 {target}", '"ok": true' in out and '"service": "s3"' in out, out)
    for method in ("--http1.1", "--http2"):
        code, out = gate.curl(api + "/post", method, "-d", "a=b c&d=é", "-H", "X-Amz-Meta-Odd:  two   spaces ")
        r.check(f"a form is hashed ({method[2:]})", '"ok": true' in out and "x-amz-meta-odd" in out, out)
    body = lab.dir / "three.bin"
    body.write_bytes(os.urandom(3 << 20))
    code, out = gate.curl(api + "/post", "--data-binary", f"@{body}")
    r.check("a body past the memory bound is hashed", '"ok": true' in out and f'"length": {3 << 20}' in out, out)
    code, out = gate.curl("https://bucket.s3.eu-north-1.amazonaws.com/k", "-T", str(body))
    r.check("an S3 upload over TLS is unsigned", '"payload": "UNSIGNED-PAYLOAD"' in out and f'"length": {3 << 20}' in out, out)
    code, out = gate.curl("https://sqs.eu-west-2.amazonaws.com/", "-d", "Action=x")
    r.check("a session token comes along, signed", '"session": true' in out and "x-amz-security-token" in out, out)
    code, out = gate.curl("https://sqs.eu-west-3.amazonaws.com/?Action=x+y&B=", "-d", "body")
    r.check("in the query, with the token", '"session": true' in out and '"signed": ["content-type", "host"]' in out, out)
    code, out = gate.curl("https://query.s3.eu-west-3.amazonaws.com/k", "-T", str(body))
    r.check("a presigned upload", '"payload": "UNSIGNED-PAYLOAD"' in out, out)
    code, out = gate.curl(api + "/x", "--aws-sigv4", "aws:amz:us-east-1:iam", "-u", "AKIADUMMY:dummy")
    r.check("a client's own signature is replaced, the host's region and service win", '"access_key": "AKIDEXAMPLE"' in out and '"service": "execute-api"' in out, out)
    code, out = gate.curl("https://sqs.eu-west-1.amazonaws.com/", "-w", "%{http_code}")
    r.check("a wrong secret is the server's 403", "SignatureDoesNotMatch" in out and out.endswith("403"), out)
    time.sleep(0.2)
    r.check("and the log says what to check, without the secret", "check secret_key" in gate.log() and "s3cret-wrong" not in gate.log(), gate.log()[-400:])
    code, out = gate.curl("https://api.gp.test/", "-w", "%{http_code}")
    r.check("a host that tells no service is a 502 that names the setting", "set `service` in `aws_sigv4`" in out and out.endswith("502"), out)
    code, out = gate.curl("https://api.gp.test/", "--aws-sigv4", "aws:amz:us-west-1:bedrock", "-u", "AKIADUMMY:dummy")
    r.check("where a client's own signature tells it, that is enough", '"service": "bedrock"' in out and '"region": "us-west-1"' in out, out)
    file = lab.dir / "aws-vector.yaml"
    file.write_text(json.dumps({"rules": [{"host": "example.amazonaws.com", "aws_sigv4": {**KEY, "region": "us-east-1", "service": "service"}}]}))
    code, out = sh(GATEPASS, "sign", "-c", file, "--at", "2015-08-30T12:36:00Z", "-v", "https://example.amazonaws.com/?Param1=value2&Param1=Value1", env={"GATEPASS_HOME": str(lab.dir / "aws-vector-home")})
    r.check("gatepass sign reproduces a published vector", "Signature=eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1" in out and "Param1=Value1&Param1=value2\n" in out, out)
    r.check("and shows no secret", KEY["secret_key"] not in out, out)


SIGNED_CHUNKS = r"""
import base64, http.client, ssl, sys, zlib
proxy, ca, host, size, chunk, trailer = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6] == "trailer"
c = http.client.HTTPSConnection("127.0.0.1", int(proxy), context=ssl.create_default_context(cafile=ca)); c.set_tunnel(host, 443)
data = bytes(range(256)) * (size // 256); size = len(data)
crc = base64.b64encode(zlib.crc32(data).to_bytes(4, "big"))
def body():
    for at in range(0, size, chunk):
        some = data[at:at + chunk]
        yield b"%x;chunk-signature=%s\r\n%s\r\n" % (len(some), b"0" * 64, some)
    yield b"0;chunk-signature=" + b"0" * 64 + b"\r\n" + (b"x-amz-checksum-crc32:" + crc + b"\r\nx-amz-trailer-signature:" + b"0" * 64 + b"\r\n" if trailer else b"") + b"\r\n"
length = sum(map(len, body()))
kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
h = {"content-encoding": "aws-chunked", "x-amz-content-sha256": kind, "x-amz-decoded-content-length": str(size), "content-length": str(length), "x-amz-date": "20200101T000000Z",
     "authorization": "AWS4-HMAC-SHA256 Credential=AKIADUMMY/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00"}
if trailer: h["x-amz-trailer"] = "x-amz-checksum-crc32"
c.request("PUT", "/bkt/chunked.bin", body=body(), headers=h, encode_chunked=False)
x = c.getresponse(); print(x.status, x.read().decode())
"""


def aws_chunked(lab, r):
    "uploads in signed chunks, signed by the client with dummy keys, are signed anew while they stream"
    port = verifier(lab, "verify-chunked")
    gate = lab.gatepass({"rules": [amazon(lab, "s3.eu-west-1.amazonaws.com", port, KEY), amazon(lab, "s3.eu-west-2.amazonaws.com", port, WRONG)]}, name="aws-chunked")
    send = lambda host, *what: sh(PY, "-c", SIGNED_CHUNKS, gate.port, gate.ca, host, *what, timeout=150)
    for size, chunk, trailer in ((200_704, 65_536, ""), (1_048_576, 1_048_576, "trailer"), (20 << 20, 131_072, "trailer"), (256, 64, "")):
        code, out = send("s3.eu-west-1.amazonaws.com", size, chunk, trailer)
        r.check(f"{size} bytes in chunks of {chunk} {trailer}", out.startswith("200") and f'"length": {size}' in out and '"framed": true' in out, out)
    code, out = send("s3.eu-west-2.amazonaws.com", 200_704, 65_536, "")
    r.check("with a wrong secret they are refused", out.startswith("403"), out)
    r.check("with constant memory", gate.memory_peak_mib() < 60, gate.memory_peak_mib())


def aws_clock(lab, r):
    "a wrong clock, expired credentials and a helper's renewal: one retry each"
    expired = lab.dir / "expired"
    behind = verifier(lab, "verify-clock", VERIFY_AHEAD="-1200")
    port = verifier(lab, "verify-expired", VERIFY_EXPIRED=str(expired))
    helper = lab.dir / "aws-creds"
    told = lambda key: json.dumps({"Version": 1, "AccessKeyId": key["access_key"], "SecretAccessKey": key["secret_key"], "SessionToken": key.get("session_token"), "Expiration": "2099-01-01T00:00:00Z"})
    helper.write_text(f"#!/bin/sh\ncd {lab.dir} && echo x >> aws.runs\nif [ $(wc -l < aws.runs) = 1 ]; then echo '{told(SESSION)}'; else echo '{told(KEY)}'; fi\n")
    helper.chmod(0o755)
    (lab.dir / "aws-config").write_text(f"[profile tool]\ncredential_process = {helper}\nregion = eu-west-3\n[profile sso]\nsso_session = x\n")
    (lab.dir / "aws-credentials").write_text(f"[ci]\naws_access_key_id = {KEY['access_key']}\naws_secret_access_key = {KEY['secret_key']}\n")
    env = {"AWS_CONFIG_FILE": str(lab.dir / "aws-config"), "AWS_SHARED_CREDENTIALS_FILE": str(lab.dir / "aws-credentials"), "AWS_PROFILE": "ci", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    rules = [
        amazon(lab, "sqs.us-east-1.amazonaws.com", behind, KEY),
        amazon(lab, "sqs.us-east-2.amazonaws.com", port, {"profile": "tool"}),
        amazon(lab, "sns.us-east-2.amazonaws.com", port, {}),
        rule(lab, "sqs.us-west-2.amazonaws.com", port, exec={"command": [str(helper)], "format": "aws"}, tls={"server_name": "localhost"}),
        amazon(lab, "sqs.us-west-1.amazonaws.com", port, {"command": ["sh", "-c", "echo s3cret-out; echo 'the vault is sealed' >&2; exit 3"]}),
    ]
    gate = lab.gatepass({"rules": rules}, name="aws-clock", env=env)
    for n in (1, 2):
        code, out = gate.curl("https://sqs.us-east-1.amazonaws.com/", "-d", "x")
        r.check(f"the server's clock is used ({n})", '"ok": true' in out, out)
    r.check("and learnt once", gate.log().count("clock is ahead") == 1, gate.log()[-300:])
    code, out = gate.curl("https://sqs.us-east-2.amazonaws.com/", "-d", "x")
    r.check("credential_process of a profile", '"access_key": "ASIASESSION"' in out and '"session": true' in out, out)
    expired.write_text("ASIASESSION")
    code, out = gate.curl("https://sqs.us-east-2.amazonaws.com/", "-d", "a body sent twice")
    r.check("ExpiredToken has it run again, and the request sent again", '"access_key": "AKIDEXAMPLE"' in out, out)
    r.check("once", (lab.dir / "aws.runs").read_text().count("x") == 2, "")
    code, out = gate.curl("https://sns.us-east-2.amazonaws.com/", "-d", "x")
    r.check("AWS_PROFILE with keys in the shared file", '"access_key": "AKIDEXAMPLE"' in out and '"service": "sns"' in out, out)
    code, out = gate.curl("https://sqs.us-west-2.amazonaws.com/")
    r.check("exec with format aws", '"access_key": "AKIDEXAMPLE"' in out and '"region": "us-west-2"' in out, out)
    code, out = gate.curl("https://sqs.us-west-1.amazonaws.com/", "-i")
    r.check("a failing helper is a 502, and the log says why", " 502" in out and "exit status" in out and "sealed" not in out and "vault is sealed" in gate.log() and "s3cret-out" not in out + gate.log(), out)
    file = lab.dir / "sso.yaml"
    file.write_text(json.dumps({"rules": [{"host": "a.gp.test", "aws_sigv4": {"profile": "sso"}}]}))
    code, out = sh(GATEPASS, "check", "-c", file, env={**env, "GATEPASS_HOME": str(lab.dir / "sso-home")})
    r.check("a profile that signs in through the browser is left to AWS's own tool", code == 1 and "export-credentials" in out, out)


SETUP = r"""
import boto3, json, sys, urllib.request
kw = dict(endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="setup", aws_secret_access_key="setup", verify=False)
import urllib3; urllib3.disable_warnings()
iam = boto3.client("iam", **kw); iam.create_user(UserName="gate"); k = iam.create_access_key(UserName="gate")["AccessKey"]
pol = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
iam.put_user_policy(UserName="gate", PolicyName="all", PolicyDocument=pol)
trust = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]})
iam.create_role(RoleName="gaterole", AssumeRolePolicyDocument=trust); iam.put_role_policy(RoleName="gaterole", PolicyName="all", PolicyDocument=pol)
boto3.client("s3", **kw).create_bucket(Bucket="bkt")
boto3.client("secretsmanager", **kw).create_secret(Name="gp/secret", SecretString="from-secretsmanager")
boto3.client("ssm", **kw).put_parameter(Name="/gp/param", Value="from-ssm", Type="SecureString")
boto3.client("dynamodb", **kw).create_table(TableName="gp", KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}], AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}], BillingMode="PAY_PER_REQUEST")
c = boto3.client("sts", **{**kw, "aws_access_key_id": k["AccessKeyId"], "aws_secret_access_key": k["SecretAccessKey"]}).assume_role(RoleArn="arn:aws:iam::123456789012:role/gaterole", RoleSessionName="gp")["Credentials"]
import ssl
urllib.request.urlopen(urllib.request.Request(sys.argv[1] + "/moto-api/reset-auth", data=b"0", method="POST", headers={"content-type": "text/plain"}), context=ssl._create_unverified_context()).read()
print(json.dumps({"user": {"access_key": k["AccessKeyId"], "secret_key": k["SecretAccessKey"]}, "session": {"access_key": c["AccessKeyId"], "secret_key": c["SecretAccessKey"], "session_token": c["SessionToken"]}}))
"""

BOTO = r"""
import boto3, os, sys
from boto3.s3.transfer import TransferConfig
seen = []
for name, what in {"sts": lambda c: c.get_caller_identity()["Arn"], "dynamodb": lambda c: c.list_tables()["TableNames"], "secretsmanager": lambda c: c.get_secret_value(SecretId="gp/secret")["SecretString"], "ssm": lambda c: c.get_parameter(Name="/gp/param", WithDecryption=True)["Parameter"]["Value"]}.items():
    try: print(name, what(boto3.client(name)))
    except Exception as e: print(name, "FAILED", e)
s3 = boto3.client("s3")
s3.meta.events.register("before-send.s3.*", lambda request, **k: seen.append(request.headers.get("x-amz-content-sha256")))
data = os.urandom(20 << 20)
try:
    s3.put_object(Bucket="bkt", Key="a b/+c.bin", Body=data[:300000]); print("put", s3.get_object(Bucket="bkt", Key="a b/+c.bin")["Body"].read() == data[:300000])
    open(sys.argv[1], "wb").write(data)
    s3.upload_file(sys.argv[1], "bkt", "big", Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=8 << 20)); print("multipart", s3.get_object(Bucket="bkt", Key="big")["Body"].read() == data)
    print("list", [o["Key"] for o in s3.list_objects_v2(Bucket="bkt", Prefix="a b/")["Contents"]])
except Exception as e: print("s3 FAILED", e)
print("kinds", sorted({str(x if isinstance(x, str) else x and x.decode()) for x in seen}))
"""


def aws_moto(lab, r):
    "moto with its IAM checks on: sts, dynamodb, secretsmanager, ssm and s3 by curl and by boto3 with dummy keys"
    modules("boto3", "moto", "flask")
    port = free_ports(1)[0]
    lab.start([PY, "-m", "moto.server", "-H", "127.0.0.1", "-p", port, "-s", "-c", lab.pem("server.pem"), "-k", lab.pem("server.key")], "moto")
    wait_port(port, 40)
    code, out = sh(PY, "-c", SETUP, f"https://127.0.0.1:{port}", timeout=60)
    if code != 0:
        r.check("moto is set up", False, out)
        return
    keys = json.loads(out.strip().splitlines()[-1])
    hosts = "*.amazonaws.com"
    gate = lab.gatepass({"rules": [amazon(lab, hosts, port, keys["user"]), amazon(lab, "sts.eu-west-1.amazonaws.com", port, keys["session"]), amazon(lab, "sts.eu-west-2.amazonaws.com", port, {**keys["user"], "secret_key": "s3cret-wrong"})]}, name="aws-moto")
    who = "Action=GetCallerIdentity&Version=2011-06-15"
    code, out = sh("curl", "-sS", "--cacert", lab.pem("ca.pem"), "-o", "/dev/null", "-w", "%{http_code}", "-d", who, f"https://localhost:{port}/")
    r.check("without gatepass curl gets no answer from moto", out.strip() != "200", out)
    code, out = gate.curl("https://sts.us-east-1.amazonaws.com/", "-d", who)
    r.check("curl is who the key says", "user/gate" in out, out)
    code, out = gate.curl("https://sts.eu-west-1.amazonaws.com/", "-d", who)
    r.check("curl is the role of a session token", "assumed-role/gaterole" in out, out)
    code, out = gate.curl("https://sts.eu-west-2.amazonaws.com/", "-d", who)
    r.check("a wrong secret is moto's refusal", "SignatureDoesNotMatch" in out, out)
    (lab.dir / "aws-roles").write_text(f"[profile base]\naws_access_key_id = {keys['user']['access_key']}\naws_secret_access_key = {keys['user']['secret_key']}\n[profile role]\nrole_arn = arn:aws:iam::123456789012:role/gaterole\nsource_profile = base\n[profile wrong]\nrole_arn = arn:aws:iam::123456789012:role/gaterole\nsource_profile = nokey\n[profile nokey]\naws_access_key_id = {keys['user']['access_key']}\naws_secret_access_key = s3cret-wrong\n")
    roles = {"AWS_CONFIG_FILE": str(lab.dir / "aws-roles"), "AWS_ENDPOINT_URL_STS": f"https://localhost:{port}", "SSL_CERT_FILE": str(lab.pem("ca.pem"))}
    role = lab.gatepass({"rules": [amazon(lab, "sts.us-east-1.amazonaws.com", port, {"profile": "role"}), amazon(lab, "sts.us-east-2.amazonaws.com", port, {"profile": "wrong"})]}, name="aws-role", env=roles)
    code, out = role.curl("https://sts.us-east-1.amazonaws.com/", "-d", who)
    r.check("a profile's role is assumed at moto", "assumed-role/gaterole/gatepass" in out, out)
    code, out = role.curl("https://sts.us-east-2.amazonaws.com/", "-d", who, "-i")
    r.check("with a wrong source it is a 502 with STS's reason", " 502" in out and "SignatureDoesNotMatch" in out and "s3cret" not in out, out)
    env = {**DUMMY, "HTTPS_PROXY": gate.proxy, "AWS_CA_BUNDLE": str(gate.ca), "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"}
    code, out = sh(PY, "-c", BOTO, lab.dir / "big.bin", env=env, timeout=60)
    for name, text in {"sts": "user/gate", "dynamodb": "['gp']", "secretsmanager": "from-secretsmanager", "ssm": "from-ssm", "put": "True", "multipart": "True", "list": "['a b/+c.bin']"}.items():
        r.check(f"boto3 with dummy keys: {name}", any(line.startswith(name) and text in line for line in out.splitlines()), out)
    r.check("boto3's uploads came with trailers", "STREAMING-UNSIGNED-PAYLOAD-TRAILER" in out, out)
    code, out = sh(PY, "-c", "import boto3; boto3.client('sts', verify=False, endpoint_url='https://127.0.0.1:%d').get_caller_identity()" % port, env={**env, "HTTPS_PROXY": ""})
    r.check("boto3 with dummy keys is refused without gatepass", "InvalidClientTokenId" in out, out)


def aws_s3s(lab, r):
    "s3s-fs, an S3 server in Rust: plain uploads, presigned ones, signed chunks; where it is installed"
    need("s3s-fs")
    modules("boto3")
    port = free_ports(1)[0]
    (lab.dir / "s3data/bkt").mkdir(parents=True)
    lab.start(["s3s-fs", "--host", "127.0.0.1", "--port", port, "--access-key", KEY["access_key"], "--secret-key", KEY["secret_key"], lab.dir / "s3data"], "s3s")
    wait_port(port)
    place = {"region": "us-east-1", "service": "s3"}
    plain = lambda name, settings: {"host": name, "scheme": "any", "port": "any", "connect_to": f"127.0.0.1:{port}", "aws_sigv4": {**settings, **place}}
    gate = lab.gatepass({"rules": [plain("s3.gp.test", KEY), plain("query.gp.test", {**KEY, "in": "query"}), plain("wrong.gp.test", WRONG)]}, name="aws-s3s")
    body = lab.dir / "s3s.bin"
    body.write_bytes(os.urandom(5 << 20))
    code, out = sh("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}/bkt/x")
    r.check("without gatepass it refuses", out.strip() == "403", out)
    for host in ("s3", "query"):
        code, out = gate.curl(f"http://{host}.gp.test/bkt/x%20y", "-T", str(body), "-w", "%{http_code}")
        r.check(f"{host}: curl uploads", out.strip() == "200", out)
        code, out = gate.curl(f"http://{host}.gp.test/bkt/x%20y", "-o", str(lab.dir / "back"), "-w", "%{http_code}")
        r.check(f"{host}: and has it back", (lab.dir / "back").read_bytes() == body.read_bytes(), out)
    for query in ("prefix=x+y", "list-type=2&prefix=x%20y", "prefix=x%2fy&delimiter=/", "prefix=!'()*"):
        code, out = gate.curl(f"http://s3.gp.test/bkt?{query}")
        r.check(f"it lists ?{query}", "ListBucketResult" in out, out)
    code, out = gate.curl("http://wrong.gp.test/bkt/x", "-w", "%{http_code}")
    r.check("a wrong secret is refused", out.endswith("403") and "SignatureDoesNotMatch" in out, out)
    boto = "import boto3; from botocore.config import Config; s=boto3.client('s3', endpoint_url='http://s3.gp.test', config=Config(s3={'addressing_style':'path'})); s.put_object(Bucket='bkt', Key='boto', Body=b'x'*300000); print(len(s.get_object(Bucket='bkt', Key='boto')['Body'].read()))"
    code, out = sh(PY, "-c", boto, env={**DUMMY, "HTTP_PROXY": gate.proxy})
    r.check("boto3 over plain http, which hashes its payload", "300000" in out, out)
    raw = SIGNED_CHUNKS.replace('http.client.HTTPSConnection("127.0.0.1", int(proxy), context=ssl.create_default_context(cafile=ca)); c.set_tunnel(host, 443)', 'http.client.HTTPConnection("127.0.0.1", int(proxy))').replace('"/bkt/chunked.bin"', '"http://s3.gp.test/bkt/chunked.bin"').replace('h = {', 'h = {"host": "s3.gp.test", ')
    for trailer in ("", "trailer"):
        code, out = sh(PY, "-c", raw, gate.port, "-", "-", 20 << 20, 131072, trailer)
        r.check(f"20 MiB in signed chunks {trailer}", out.startswith("200"), out)
        r.check("and they are there", (lab.dir / "s3data/bkt/chunked.bin").read_bytes() == bytes(range(256)) * (20 << 12), "")


GROUPS = {"aws-any-service": aws_any_service, "aws-chunked": aws_chunked, "aws-clock": aws_clock, "aws-moto": aws_moto}
# Its server takes minutes to build: cargo install s3s-fs --version 0.14.1 --features binary
EXTRA = {"aws-s3s": aws_s3s}
