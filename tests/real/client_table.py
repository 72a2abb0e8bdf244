"""Which unmodified clients work under `gatepass exec`: reached, and still trusting the system's roots. docs/clients.md has the table."""
import json
import os
import shutil
import sys

from checks import certificate
from kit import GATEPASS, HERE, REAL, free_ports, need, sh, wait_port

PY = sys.executable
NODE = {"NODE_PATH": str(REAL / "node/node_modules")}
CLIENTS = HERE / "clients"

PYTHON = {
    "Python urllib": "import urllib.request as u; u.urlopen('{url}').read()",
    "Python requests": "import requests; requests.get('{url}')",
    "Python httpx": "import httpx; httpx.get('{url}')",
    "Python aiohttp, trust_env": "import asyncio, aiohttp\nasync def f():\n  async with aiohttp.ClientSession(trust_env=True) as s, s.get('{url}') as x: await x.text()\nasyncio.run(f())",
    "Python aiohttp": "import asyncio, aiohttp\nasync def f():\n  async with aiohttp.ClientSession() as s, s.get('{url}') as x: await x.text()\nasyncio.run(f())",
    "Python urllib3": "import urllib3; urllib3.PoolManager(retries=False).request('GET', '{url}')",
    "boto3": "import boto3, botocore.config as c; boto3.client('s3', endpoint_url='{url}', region_name='us-east-1', aws_access_key_id='x', aws_secret_access_key='x', config=c.Config(retries=dict(max_attempts=0))).list_buckets()",
}
NODE_SCRIPTS = {
    "Node http": "require('http').get('{url}'.replace('https://api', 'http://plain'), (r) => r.resume())",
    "Node https": "require('https').get('{url}', (r) => r.resume())",
    "Node https, an agent of its own": "const h = require('https'); h.get('{url}', {{ agent: new h.Agent({{ keepAlive: false }}) }}, (r) => r.resume())",
    "Node fetch": "fetch('{url}').then((r) => r.text())",
    "axios": "require('axios').get('{url}')",
    "Node ws": "const W = require('ws'); new W('{url}'.replace('https:', 'wss:')).on('error', () => {{}})",
    "undici EnvHttpProxyAgent": "const u = require('undici'); u.fetch('{url}', {{ dispatcher: new u.EnvHttpProxyAgent() }}).then((r) => r.text())",
}
# Nothing tells these of a proxy, or of a CA: they go by a reverse listener.
UNREACHED = {"Python aiohttp", "Python urllib3", "reqwest, webpki-roots", "ureq"}
# Plain HTTP shows no trust; these two know no exceptions.
NOT_JUDGED = {"Node http", "PHP streams", "grpcio", "uv", "apt"}


def commands(d):
    """Name to a function from URL to the command line."""
    table = {
        "curl": lambda url: ["curl", "-sS", url],
        "wget": lambda url: ["wget", "-qO-", "--tries=1", url],
        "git": lambda url: ["git", "ls-remote", url],
        "pip": lambda url: [PY, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "--retries", "0", "--index-url", f"{url}/simple", "-d", str(d), "six"],
        "uv": lambda url: [str(REAL / "venv/bin/uv"), "pip", "install", "-q", "--no-cache", "--index-url", f"{url}/simple", "--target", str(d / "uv"), "six"],
        "npm": lambda url: ["npm", "view", "six", "--registry", f"{url}/", "--fetch-retries=0", "--cache", str(d / "npm-cache")],
        "Java HttpClient": lambda url: ["java", "-cp", str(d), "Client", "HttpClient", url],
        "Java HttpURLConnection": lambda url: ["java", "-cp", str(d), "Client", "URLConnection", url],
        "Go net/http": lambda url: [str(d / "go-client"), url],
        "Ruby net/http": lambda url: ["ruby", "-rnet/http", "-e", f"Net::HTTP.get(URI('{url}'))"],
        "Ruby open-uri": lambda url: ["ruby", "-ropen-uri", "-e", f"URI.open('{url}').read"],
        "Perl LWP": lambda url: ["perl", "-MLWP::UserAgent", "-e", f"print LWP::UserAgent->new->get('{url}')->status_line"],
        "Perl HTTP::Tiny": lambda url: ["perl", "-MHTTP::Tiny", "-e", f"print HTTP::Tiny->new(verify_SSL => 1)->get('{url}')->{{status}}"],
        "PHP curl": lambda url: ["php", "-r", f"$c = curl_init('{url}'); curl_setopt($c, CURLOPT_RETURNTRANSFER, true); echo curl_exec($c), curl_error($c);"],
        "PHP streams": lambda url: ["php", str(CLIENTS / "streams.php"), url],
        "cargo": lambda url: ["env", f"CARGO_REGISTRIES_GP_INDEX=sparse+{url}/", f"CARGO_HOME={d}/cargo-home", "cargo", "info", "--registry", "gp", "itoa"],
        "apt": lambda url: ["sh", "-c", f"echo 'deb [trusted=yes] {url} ./' > {d}/sources.list; exec apt-get update -o Dir::Etc::sourcelist={d}/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists={d}/lists -o Dir::Cache={d} -o Acquire::Retries=0"],
    }
    for name, script in PYTHON.items():
        table[name] = lambda url, script=script: [PY, "-c", script.format(url=url)]
    for name, script in NODE_SCRIPTS.items():
        table[name] = lambda url, script=script: ["node", "-e", script.format(url=url)]
    rust = REAL / "rust/debug/rust-clients"
    for name, kind in {"reqwest, native-tls": "native-tls", "reqwest, rustls and native roots": "native-roots", "reqwest, webpki-roots": "webpki-roots", "ureq": "ureq"}.items():
        table[name] = lambda url, kind=kind: [str(rust), kind, url]
    return table


def compile_clients(d):
    need("javac", "go", "ruby", "php", "perl", "node", "npm", "wget", "git", "cargo")
    for argv in (["javac", "-d", d, CLIENTS / "Client.java"], ["go", "build", "-o", d / "go-client", CLIENTS / "client.go"]):
        code, out = sh(*argv, timeout=180, env={"GOCACHE": str(d / "go-cache"), "GOFLAGS": "-mod=mod", "GO111MODULE": "off"})
        assert code == 0, out
    need(str(REAL / "rust/debug/rust-clients"))


def table(lab, r):
    "every client that can be had, under `gatepass exec` with nothing but its variables"
    d = lab.dir / "clients"
    d.mkdir()
    compile_clients(d)
    mtls, plain, clear, reverse, grpc_port = free_ports(5)
    log = d / "seen"
    log.touch()
    pki = [lab.pem("server.pem"), lab.pem("server.key"), lab.pem("ca.pem")]
    lab.start([PY, CLIENTS / "server.py", log, mtls, plain, clear, *pki], "clients-server")
    lab.start([PY, HERE / "grpc_echo.py", "serve", grpc_port, *pki], "clients-grpc")
    # A system whose roots hold one more: the one that the server on localhost has its certificate from.
    system = d / "system.pem"
    system.write_text(open("/etc/ssl/certs/ca-certificates.crt").read() + lab.pem("ca.pem").read_text())
    ours = {"ca_bundle": {"files": [str(lab.pem("ca.pem"))]}, "client_certificate": certificate(lab, "alice")}
    rules = [
        {"host": "api.gp.test", "connect_to": f"127.0.0.1:{mtls}", "bearer": "real-token", **ours},
        {"host": "plain.gp.test", "scheme": "http", "connect_to": f"127.0.0.1:{clear}", "bearer": "real-token"},
        {"host": "grpc.gp.test", "connect_to": f"127.0.0.1:{grpc_port}", "bearer": "grpc-token", **ours},
    ]
    config = d / "gatepass.yaml"
    config.write_text(json.dumps({"rules": rules}))
    env = {"GATEPASS_HOME": str(d / "home"), "SSL_CERT_FILE": str(system), "HOME": str(d / "user"), "XDG_CACHE_HOME": str(d / "cache"), "NODE_EXTRA_CA_CERTS": str(lab.pem("ca.pem")), **NODE}
    env.setdefault("RUSTUP_HOME", os.environ.get("RUSTUP_HOME", os.path.expanduser("~/.rustup")))
    (d / "lists/partial").mkdir(parents=True)
    (d / "archives/partial").mkdir(parents=True)
    (d / "user").mkdir()
    for name in ("NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "AWS_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "PIP_INDEX_URL", "PIP_FIND_LINKS"):
        os.environ.pop(name, None)
    wait_port(mtls), wait_port(plain), wait_port(grpc_port)

    def seen(word):
        return [line for line in map(json.loads, log.read_text().splitlines()) if word in line["path"]]

    def run(argv, wrapped=True):
        return sh(*([GATEPASS, "exec", "-c", config, "--", *argv] if wrapped else argv), timeout=120, env=env)

    rows = []
    for number, (name, command) in enumerate(commands(d).items()):
        tag = f"c{number}x"
        code, out = run(command(f"https://api.gp.test/{tag}"))
        told = [line for line in seen(tag) if line["authorization"] == "Bearer real-token" and (line["subject"] == "alice" or name == "Node http")]
        reached = bool(told)
        trusts = None
        if name not in NOT_JUDGED and reached:
            run(command(f"https://localhost:{plain}/{tag}sys"))
            direct = seen(f"{tag}sys")
            trusts = bool(direct) and all(line["authorization"] != "Bearer real-token" for line in direct)
        rows.append((name, reached, trusts))
        if name in UNREACHED:
            r.check(f"{name}: told of nothing, so not reached (as documented)", not reached, out)
        else:
            r.check(f"{name}: reached", reached, out)
            if trusts is not None:
                r.check(f"{name}: still trusts a system root", trusts, out)
    code, out = run([PY, HERE / "grpc_echo.py", "ask", "grpc.gp.test:443", "-env"])
    rows.append(("grpcio", "unary ok" in out, None))
    r.check("grpcio: reached", "unary ok" in out and "bidi ok" in out, out)

    # The rest by a reverse listener, which needs nothing of them.
    gate = lab.gatepass({"listeners": [{"listen": f"127.0.0.1:{reverse}", "mode": "reverse", "upstream": "https://api.gp.test"}], "rules": rules}, name="clients-reverse")
    for name in sorted(UNREACHED):
        command = commands(d)[name]
        tag = "rev" + "".join(c for c in name if c.isalnum())
        code, out = run(command(f"http://127.0.0.1:{reverse}/{tag}"), wrapped=False)
        r.check(f"{name}: reached by a reverse listener", any(line["subject"] == "alice" for line in seen(tag)), out)
    reached = sum(1 for row in rows if row[1])
    for name, ok, trusts in rows:
        print(f"| {name} | {'yes' if ok else 'no'} | {'–' if trusts is None else 'yes' if trusts else 'no'} |")
    print(f"# {reached} of {len(rows)} clients reached")
    r.check("at least 32 clients are reached", reached >= 32, rows)


GROUPS = {"client-table": table}
