"""What real clients and servers show. Every acceptance has its refusal without gatepass."""
import concurrent.futures, json, os, pathlib, shutil, signal, subprocess, sys, textwrap, time

from kit import GATEPASS, REAL, HERE, Skip, free_ports, need, sh, wait_port

PY = sys.executable


def servers(lab):
    """nginx is started once and shared by the groups."""
    if not hasattr(lab, "_nginx"):
        lab._nginx = lab.nginx()
    return lab._nginx


def rule(lab, host, to, **more):
    return {"host": host, "connect_to": f"127.0.0.1:{to}", "ca_bundle": {"files": [str(lab.pem("ca.pem"))]}, "echo": "pass", **more}


def certificate(lab, who):
    return {"cert": str(lab.pem(f"{who}.pem")), "key": str(lab.pem(f"{who}.key"))}


def shared(lab):
    """One gatepass for the clients: api.gp.test wants alice's certificate and a token."""
    if not hasattr(lab, "_shared"):
        port, _ = servers(lab)
        lab._shared = lab.gatepass({"client_certificates": {"alice": certificate(lab, "alice")}, "rules": [rule(lab, "api.gp.test", port, client_certificate="alice", bearer="real-token")]})
    return lab._shared


def clients(lab, r):
    "unmodified clients arrive with certificate and token at nginx, and are refused without"
    port, _ = servers(lab)
    g = shared(lab)
    ca = lab.pem("ca.pem")
    code, out = sh("curl", "-sS", "--cacert", ca, f"https://localhost:{port}/secret")
    r.check("curl without gatepass is refused by nginx", "400" in out and "welcome" not in out, out)
    for flag, name in (("--http1.1", "h1"), ("--http2", "h2")):
        code, out = g.curl("https://api.gp.test/secret", flag)
        r.check(f"curl {name} is welcomed as alice", "welcome CN=alice" in out, out)
        code, out = g.curl("https://api.gp.test/dn", flag)
        r.check(f"curl {name} reaches nginx by {name}", f"http=HTTP/{'1.1' if name == 'h1' else '2.0'}" in out, out)
    code, out = g.curl("https://api.gp.test/dn", "-H", "Host: other.gp.test")
    r.check("another Host in the tunnel is 421", "421" in out or "not where this connection goes" in out, out)
    code, out = sh("curl", "-sS", "-x", g.proxy, "https://api.gp.test/dn")
    r.check("curl that does not trust the CA refuses", code == 60, out)
    time.sleep(0.3)
    r.check("and gatepass says so", "does not trust gatepass's CA" in g.log(), g.log()[-300:])

    env = {"HTTPS_PROXY": g.proxy, "https_proxy": g.proxy, "REQUESTS_CA_BUNDLE": str(g.ca), "SSL_CERT_FILE": str(g.ca)}
    python = {
        "requests": "import requests; print(requests.get('https://api.gp.test/secret').text)",
        "httpx h1": "import httpx; print(httpx.get('https://api.gp.test/secret').text)",
        "httpx h2": "import httpx; c=httpx.Client(http2=True); x=c.get('https://api.gp.test/secret'); print(x.http_version, x.text)",
        "urllib": "import urllib.request as u; print(u.urlopen('https://api.gp.test/secret').read().decode())",
        "aiohttp trust_env": "import asyncio, aiohttp\nasync def f():\n  async with aiohttp.ClientSession(trust_env=True) as s:\n    async with s.get('https://api.gp.test/secret') as x: print(await x.text())\nasyncio.run(f())",
    }
    for name, script in python.items():
        module = script.split("import ")[1].split(";")[0].split(",")[0].split(" as")[0].split("\n")[0]
        if sh(PY, "-c", f"import {'aiohttp' if 'aiohttp' in name else module.split('.')[0]}")[0] != 0:
            r.skip(f"Python {name}", "not installed")
            continue
        code, out = sh(PY, "-c", script, env=env)
        r.check(f"Python {name} is welcomed", "welcome CN=alice" in out, out)
    direct = f"import ssl, urllib.request as u; print(u.urlopen('https://localhost:{port}/secret', context=ssl.create_default_context(cafile='{ca}')).read())"
    code, out = sh(PY, "-c", direct)
    r.check("Python without gatepass is refused by nginx", "HTTP Error 400" in out, out)


def node(lab, r):
    "Node's https module and fetch"
    need("node")
    g = shared(lab)
    https = textwrap.dedent(f"""
        const http = require('http'), tls = require('tls'), https = require('https');
        http.request({{ port: {g.port}, host: '127.0.0.1', method: 'CONNECT', path: 'api.gp.test:443' }}).on('connect', (res, socket) => {{
          const agent = new https.Agent();
          agent.createConnection = () => tls.connect({{ socket, servername: 'api.gp.test' }});
          https.get('https://api.gp.test/secret', {{ agent }}, (x) => {{ x.on('data', (d) => process.stdout.write(d)); x.on('end', () => process.exit(0)); }});
        }}).end();
    """)
    code, out = sh("node", "-e", https, env={"NODE_EXTRA_CA_CERTS": str(g.ca)})
    r.check("Node https is welcomed", "welcome CN=alice" in out, out)
    code, out = sh("node", "-e", https)
    r.check("Node https without the CA refuses", "welcome" not in out)
    modules = REAL / "node/node_modules"
    if not (modules / "undici").exists():
        raise Skip("undici is not installed")
    fetch = f"const {{ fetch, ProxyAgent }} = require('undici'); fetch('https://api.gp.test/secret', {{ dispatcher: new ProxyAgent('{g.proxy}') }}).then(x => x.text()).then(t => {{ console.log(t); process.exit(0) }})"
    code, out = sh("node", "-e", fetch, env={"NODE_EXTRA_CA_CERTS": str(g.ca), "NODE_PATH": str(modules)})
    r.check("fetch is welcomed", "welcome CN=alice" in out, out)


def java(lab, r):
    "Java's HttpClient with the variables of `gatepass exec`"
    need("java", "javac")
    port, _ = servers(lab)
    source = lab.dir / "Get.java"
    source.write_text("import java.net.*; import java.net.http.*; public class Get { public static void main(String[] a) throws Exception { System.out.println(HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofString()).body()); } }")
    config = lab.dir / "java.yaml"
    config.write_text(json.dumps({"rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"), bearer="real-token")]}))
    env = {"GATEPASS_HOME": str(lab.dir / "java-home")}
    code, out = sh(GATEPASS, "exec", "-c", config, "--", "java", source, "https://api.gp.test/secret", env=env, timeout=120)
    r.check("Java HttpClient is welcomed (h2)", "welcome CN=alice" in out, out)
    trust = lab.dir / "java-trust.p12"
    sh("keytool", "-importcert", "-noprompt", "-alias", "real", "-file", lab.pem("ca.pem"), "-keystore", trust, "-storepass", "changeit")
    code, out = sh("java", f"-Djavax.net.ssl.trustStore={trust}", "-Djavax.net.ssl.trustStorePassword=changeit", source, f"https://localhost:{port}/secret", timeout=120)
    r.check("Java without gatepass is refused by nginx", "No required SSL certificate was sent" in out, out)


def apache(lab, r):
    "Apache httpd with Basic, also UTF-8, and Digest; a virtual host that demands a certificate; git over it"
    basic, both = lab.apache()
    ca = str(lab.pem("ca.pem"))
    code, out = sh("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", ca, f"https://localhost:{basic}/basic/hello.txt")
    r.check("Basic is refused without gatepass", out.strip() == "401", out)
    g = lab.gatepass({
        "rules": [
            rule(lab, "basic.gp.test", basic, basic={"username": "svc", "password": "s3cret pass"}),
            rule(lab, "other.gp.test", basic, basic={"username": "jürgen", "password": "pässwörd"}),
            rule(lab, "vhost.gp.test", both, client_certificate=certificate(lab, "bob"), basic={"username": "svc", "password": "wrong"}),
            rule(lab, "digest.gp.test", basic, digest={"username": "svc", "password": "s3cret pass"}, danger={"accept_invalid_certs": True}),
            rule(lab, "wrong.gp.test", basic, digest={"username": "svc", "password": "wrong"}, danger={"accept_invalid_certs": True}),
            rule(lab, "git.gp.test", both, client_certificate=certificate(lab, "bob"), basic={"username": "svc", "password": "s3cret pass"}),
        ]
    }, name="apache-gate")
    for host in ("basic", "other", "git"):
        code, out = g.curl(f"https://{host}.gp.test/basic/hello.txt")
        r.check(f"Basic by gatepass: {host}.gp.test", "hello from apache" in out, out)
    code, out = g.curl("https://vhost.gp.test/basic/hello.txt", "-o", "/dev/null", "-w", "%{http_code}")
    r.check("a wrong password is refused by Apache", out.strip() == "401", out)
    code, out = sh("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", ca, f"https://localhost:{basic}/digest/hello.txt")
    r.check("Digest is refused without gatepass", out.strip() == "401", out)
    times = [g.curl("https://digest.gp.test/digest/hello.txt?a=%2F", *flags)[1] for flags in (["--http1.1"], ["--http2"], ["-d", "body=1"])]
    r.check("Digest by gatepass, h1, h2 and with a body", all("hello from digest" in t for t in times), times)
    time.sleep(2.5)
    code, out = g.curl("https://digest.gp.test/digest/hello.txt")
    r.check("a stale nonce is renewed unseen", "hello from digest" in out, out)
    code, out = g.curl("https://wrong.gp.test/digest/hello.txt", "-o", "/dev/null", "-w", "%{http_code}")
    r.check("Digest with a wrong password is refused by Apache", out.strip() == "401", out)
    code, out = sh("curl", "-sS", "--cacert", ca, "-u", "svc:s3cret pass", f"https://localhost:{both}/basic/hello.txt")
    r.check("the virtual host refuses without a certificate", "alert" in out, out)
    env = {"https_proxy": g.proxy, "GIT_SSL_CAINFO": str(g.ca), "GIT_TERMINAL_PROMPT": "0", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t", "GIT_CONFIG_GLOBAL": "/dev/null"}
    work = lab.dir / "work"
    code, out = sh("git", "clone", "-q", "https://git.gp.test/git/demo.git", work, env=env)
    r.check("git clones over certificate and Basic", code == 0, out)
    (work / "file.bin").write_bytes(os.urandom(3 << 20))
    sh("git", "checkout", "-q", "-B", "main", cwd=work, env=env)
    sh("git", "add", ".", cwd=work, env=env)
    sh("git", "commit", "-q", "-m", "x", cwd=work, env=env)
    # By HTTP/1.1: the libcurl of Debian 12 (7.88) now and then stops sending an upload over HTTP/2 though its window is open.
    code, out = sh("git", "-c", "http.version=HTTP/1.1", "push", "-q", "origin", "main", cwd=work, env=env)
    r.check("git pushes 3 MiB", code == 0, out)
    code, out = sh("git", "-c", f"http.sslCAInfo={ca}", "ls-remote", f"https://localhost:{both}/git/demo.git", env={"GIT_TERMINAL_PROMPT": "0"})
    r.check("git without gatepass is refused by Apache", code != 0 and ("alert" in out or "certificate" in out.lower()), out)


def identities(lab, r):
    "two certificates for one host, by port and by path: concurrent, h1 and h2, across reloads"
    port, _ = servers(lab)

    def config(n):
        return {
            "vars": {"n": str(n)},
            "client_certificates": {"alice": certificate(lab, "alice"), "bob": certificate(lab, "bob")},
            "rules": [
                rule(lab, "api.gp.test", port, port="any", client_certificate="alice"),
                rule(lab, "api.gp.test", port, port=8443, client_certificate="bob"),
                {"host": "api.gp.test", "port": "any", "path": "/dn/bob", "client_certificate": "bob"},
            ],
        }

    g = lab.gatepass(config(0), name="identities")

    def ask(n):
        where, who = (("https://api.gp.test/dn", "alice"), ("https://api.gp.test:8443/dn", "bob"), ("https://api.gp.test/dn/bob", "bob"))[n % 3]
        return who, g.curl(where, "--http2" if n % 2 else "--http1.1")[1]

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(200)))
    wrong = [a for who, a in answers if f"dn=CN={who}" not in a]
    r.check("200 concurrent mixed requests, h1 and h2: each with the right subject", not wrong, wrong[:2])
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        running = [pool.submit(ask, n) for n in range(100)]
        for n in range(5):
            g.write(config(n + 1))
            time.sleep(0.2)
        answers = [f.result() for f in running]
    wrong = [a for who, a in answers if f"dn=CN={who}" not in a]
    r.check("the same across five reloads", not wrong and "configuration reloaded" in g.log(), (wrong[:2], g.log()[-300:]))


def tunnel(lab, r):
    "a host without a rule: its own certificate, nothing decrypted"
    _, open_port = servers(lab)
    g = shared(lab)
    code, out = sh("curl", "-sS", "-x", g.proxy, "--cacert", lab.pem("ca.pem"), f"https://localhost:{open_port}/dn")
    r.check("curl that trusts only the server's CA reaches it", "verify=NONE" in out, out)
    direct = sh("openssl", "s_client", "-connect", f"127.0.0.1:{open_port}", input="")[1]
    through = sh("openssl", "s_client", "-proxy", f"127.0.0.1:{g.port}", "-connect", f"127.0.0.1:{open_port}", input="")[1]
    pem = lambda text: text[text.find("-----BEGIN"):text.find("-----END")]
    r.check("the certificate is the server's own, byte for byte", pem(direct) and pem(direct) == pem(through))
    r.check("the log names the host and no path", "TUNNEL localhost" in g.log() and f"localhost:{open_port}/dn" not in g.log(), g.log()[-300:])


def streams(lab, r):
    "server-sent events, WebSocket and gRPC, unbuffered and both ways"
    port, _ = servers(lab)
    g = shared(lab)
    first = lambda *a: json.loads(sh(PY, HERE / "first_event.py", *a)[1] or "{}").get("first_ms", 1e9)
    direct = min(first(f"https://localhost:{port}/app/sse", lab.pem("ca.pem"), "-", lab.pem("alice.pem"), lab.pem("alice.key")) for _ in range(3))
    through = min(first("https://api.gp.test/app/sse", g.ca, f"127.0.0.1:{g.port}") for _ in range(3))
    r.check(f"the first event comes within 50 ms of direct ({direct:.0f} ms direct, {through:.0f} ms through)", through - direct < 50)
    code, out = sh(PY, HERE / "websocket.py", "wss://api.gp.test/app/ws", g.ca, g.proxy)
    r.check("a WebSocket greets alice and echoes text and 1 MiB", "CN=alice" in out and "echo ok" in out and "Bearer real-token" in out, out)
    code, out = sh(PY, HERE / "websocket.py", f"wss://localhost:{port}/app/ws", lab.pem("ca.pem"), "-")
    r.check("a WebSocket without gatepass is refused by nginx", "HTTP 400" in out, out)
    if sh(PY, "-c", "import grpc")[0] != 0:
        raise Skip("grpcio is not installed")
    grpc_port = free_ports(1)[0]
    lab.start([PY, HERE / "grpc_echo.py", "serve", grpc_port, lab.pem("server.pem"), lab.pem("server.key"), lab.pem("ca.pem")], "grpc")
    wait_port(grpc_port)
    gate = lab.gatepass({"rules": [rule(lab, "grpc.gp.test", grpc_port, client_certificate=certificate(lab, "alice"), bearer="grpc-token")]}, name="grpc-gate")
    code, out = sh(PY, HERE / "grpc_echo.py", "ask", "grpc.gp.test:443", gate.ca, env={"https_proxy": gate.proxy, "grpc_proxy": gate.proxy, "no_proxy": ""})
    for what in ("unary ok", "stream ok", "bidi ok", "trailers ok", "error ok"):
        r.check(f"gRPC {what[:-3]}", what in out, out)
    code, out = sh(PY, HERE / "grpc_echo.py", "ask", f"localhost:{grpc_port}", lab.pem("ca.pem"), timeout=90)
    r.check("gRPC without gatepass is refused", "UNAVAILABLE" in out and "unary ok" not in out, out)


def bulk(lab, r):
    "2 GiB down and up through interception in constant memory"
    servers(lab)
    g = shared(lab)
    code, out = g.curl("https://api.gp.test/files/2g.bin", "-o", "/dev/null", "-w", "%{size_download}", timeout=180)
    r.check(f"2 GiB down, peak memory {g.memory_peak_mib():.0f} MiB", out.strip() == str(2 << 30) and g.memory_peak_mib() < 64, out)
    code, out = g.curl("https://api.gp.test/app/up", "-T", lab.dir / "nginx/www/2g.bin", timeout=180)
    r.check(f"2 GiB up, peak memory {g.memory_peak_mib():.0f} MiB", f'"length": {2 << 30}' in out and g.memory_peak_mib() < 64, out[-200:])


def reload(lab, r):
    "2,000 requests with a reload every 100; a broken edit keeps the old policy and says so"
    port, _ = servers(lab)
    config = lambda n: {"vars": {"n": str(n)}, "rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"), bearer="real-token", headers={"set": {"X-N": "${n}"}})]}
    g = lab.gatepass(config(0), name="reload")
    urls = lab.dir / "urls"
    failed = 0
    for n in range(20):
        urls.write_text("".join(f'url = "https://api.gp.test/secret?{n}-{k}"\noutput = /dev/null\nwrite-out = "%{{http_code}}\\n"\n' for k in range(100)))
        load = subprocess.Popen(["curl", "-sS", "--parallel", "--parallel-max", "8", "-x", g.proxy, "--cacert", str(g.ca), "-K", str(urls)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        g.write(config(n + 1))
        g.process.send_signal(signal.SIGHUP)
        codes = load.communicate(timeout=60)[0].split("\n")
        failed += 100 - codes.count("200")
        end = time.time() + 3
        while g.log().count("configuration reloaded") <= n and time.time() < end:
            time.sleep(0.02)
    r.check("2,000 requests across 20 reloads: none failed", failed == 0, failed)
    reloads = g.log().count("configuration reloaded")
    r.check(f"{reloads} reloads", reloads >= 20, g.log()[-300:])
    before = reloads
    g.write(config(99))
    time.sleep(1)
    r.check("an edit is taken up by itself", g.log().count("configuration reloaded") > before, g.log()[-300:])
    g.write("rules:\n  - hots: x\n")
    time.sleep(0.8)
    code, out = g.curl("https://api.gp.test/secret")
    r.check("a broken edit keeps the old policy", "welcome" in out, out)
    r.check("and says so, with the place", "the old one stays" in g.log() and "did you mean `host`?" in g.log(), g.log()[-500:])


def errors(lab, r):
    "what goes wrong says why, and what to write"
    port, open_port = servers(lab)
    g = lab.gatepass({"rules": [
        {"host": "api.gp.test", "connect_to": f"127.0.0.1:{port}", "bearer": "x"},
        rule(lab, "other.gp.test", port, bearer="x"),
        rule(lab, "wrong.gp.test", open_port, bearer="x"),
        {"host": "nobody.gp.test", "connect_to": f"127.0.0.1:{free_ports(1)[0]}", "bearer": "x"},
        {"host": "denied.gp.test", "action": "deny"},
    ]}, name="errors")
    ask = lambda host: g.curl(f"https://{host}.gp.test/", "-i")[1]
    for host, parts in {
        "api": ["502", "Real test CA", "ca_bundle", "proxy-status: gatepass; error=tls_certificate_error"],
        "wrong": ["502", "only for", "tls_certificate_error"],
        "nobody": ["502", "nothing listens there", "connection_refused"],
        "denied": ["403", "a rule denies denied.gp.test"],
    }.items():
        out = ask(host)
        r.check(f"{host}.gp.test explains itself", all(p.lower() in out.lower() for p in parts), out)
    out = ask("other")
    r.check("a forgotten client certificate: nginx's own page passes", "No required SSL certificate was sent" in out, out)
    code, out = sh(GATEPASS, "explain", "-c", g.file, "https://other.gp.test/v1", env=g.env)
    r.check("explain names rule and credential, not the secret", "errors.yaml:" in out and "bearer" in out and "Bearer x" not in out, out)


def drain(lab, r):
    "SIGTERM lets what is in flight end, and the process ends well"
    port, _ = servers(lab)
    g = lab.gatepass({"rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"))]}, name="drain")
    running = [subprocess.Popen(["curl", "-sS", "-x", g.proxy, "--cacert", str(g.ca), "https://api.gp.test/app/slow", flag], stdout=subprocess.PIPE, text=True) for flag in ["--http1.1", "--http2"] * 5]
    time.sleep(0.8)
    code = g.stop()
    done = [p.communicate()[0] for p in running]
    r.check("10 of 10 requests in flight finished", all('"length": 0' in d for d in done), done)
    r.check("exit code 0", code == 0, code)


def run_exec(lab, r):
    "gatepass exec: the command's environment, exit code and signals"
    port, _ = servers(lab)
    config = lab.dir / "exec.yaml"
    config.write_text(json.dumps({"rules": [rule(lab, "api.gp.test", port, client_certificate=certificate(lab, "alice"), bearer="real-token")]}))
    env = {"GATEPASS_HOME": str(lab.dir / "exec-home")}
    for name, argv in {
        "curl": ["curl", "-sS", "https://api.gp.test/secret"],
        "requests": [PY, "-c", "import requests; print(requests.get('https://api.gp.test/secret').text)"],
        "httpx": [PY, "-c", "import httpx; print(httpx.get('https://api.gp.test/secret').text)"],
    }.items():
        code, out = sh(GATEPASS, "exec", "-c", config, "--", *argv, env=env)
        r.check(f"exec {name} is welcomed", code == 0 and "welcome CN=alice" in out, out)
    r.check("the exit code is the command's", sh(GATEPASS, "exec", "-c", config, "--", "sh", "-c", "exit 7", env=env)[0] == 7)
    r.check("a signal is 128 and its number", sh(GATEPASS, "exec", "-c", config, "--", "sh", "-c", "kill -9 $$", env=env)[0] == 137)
    process = subprocess.Popen([GATEPASS, "exec", "-c", str(config), "--", "sleep", "60"], env={**os.environ, **env})
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    r.check("SIGTERM reaches the command", process.wait(10) == 143)
    code, out = sh(GATEPASS, "exec", "--bearer", "api.gp.test=TOKEN", "-c", config, "--", "curl", "-sS", "https://api.gp.test/dn", env={**env, "TOKEN": "from-env"})
    r.check("a quick rule wins over the file", "auth=Bearer from-env" in out, out)
    code, out = sh(GATEPASS, "exec", "-c", config, "--", "/no/such/program", env=env)
    r.check("a missing program says so", code == 127 and "there is no such program" in out, out)


def browser(lab, r):
    "a headless Chromium with the proxy set and the CA's key named"
    chromium = next((p for p in ("chromium", "chromium-browser", "google-chrome") if shutil.which(p)), None)
    if not chromium:
        raise Skip("no Chromium is installed")
    g = shared(lab)
    spki = sh("sh", "-c", f"openssl x509 -in {g.ca} -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64")[1].strip()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--user-data-dir={lab.dir}/chromium"]
    code, out = sh(chromium, *flags, f"--proxy-server={g.proxy}", f"--ignore-certificate-errors-spki-list={spki}", "--dump-dom", "https://api.gp.test/secret", timeout=90)
    r.check("Chromium is welcomed", "welcome CN=alice" in out, out)
    code, out = sh(chromium, *flags, "--dump-dom", f"{g.proxy}/", timeout=90)
    r.check("the onboarding page opens in Chromium", "gatepass is running" in out, out)


GROUPS = {"clients": clients, "node": node, "java": java, "apache": apache, "identities": identities, "tunnel": tunnel, "streams": streams, "bulk": bulk, "reload": reload, "errors": errors, "drain": drain, "exec": run_exec, "browser": browser}
