"""Servers, certificates, a gatepass and checks. Loopback only; every process started is ended by its pid."""
import hashlib, json, os, pathlib, shutil, signal, socket, subprocess, sys, tempfile, textwrap, time

HERE = pathlib.Path(__file__).resolve().parent
GATEPASS = os.environ.get("GATEPASS", "gatepass")
# A build with every optional part (`--features full`), for the groups that need one.
FULL = os.environ.get("GATEPASS_FULL")
REAL = pathlib.Path(os.environ.get("GATEPASS_REAL", pathlib.Path.home() / ".cache/gatepass-real"))
os.environ["PATH"] += ":/usr/sbin:/sbin"
for name in list(os.environ):
    if name.lower().endswith("_proxy"):
        del os.environ[name]


class Skip(Exception):
    """What a check needs is not on this machine."""


class Results:
    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []
        # Groups that passed only at the second attempt.
        self.unsteady = []

    def add(self, more):
        self.passed += more.passed
        self.failed += more.failed
        self.skipped += more.skipped

    def check(self, name, ok, told=""):
        if ok:
            self.passed += 1
            print(f"PASS {name}", flush=True)
        else:
            self.failed.append(name)
            print(f"FAIL {name}: {str(told).strip()[-600:]}", flush=True)

    def skip(self, name, why):
        self.skipped.append(name)
        print(f"SKIP {name}: {why}", flush=True)


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")


def need_full():
    if not FULL:
        raise Skip("GATEPASS_FULL names no binary; build one with `cargo build --features full`")


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_port(port, seconds=20):
    end = time.time() + seconds
    while time.time() < end:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {port}")


def sh(*argv, timeout=60, env=None, cwd=None, input=None):
    """Runs a command; its output, both streams together, and its code."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})}, cwd=cwd, input=input, errors="replace")
    return done.returncode, done.stdout + done.stderr


class Lab:
    """One temporary folder, the servers in it, and what must be ended."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gatepass-real."))
        self.dir.chmod(0o755)
        self.processes = []
        self.pki()

    def start(self, argv, name, env=None, cwd=None):
        # A session of its own: some servers (Samba's) signal their whole process group when they end.
        log = open(self.dir / f"{name}.log", "w")
        process = subprocess.Popen([str(a) for a in argv], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}, cwd=cwd, start_new_session=True)
        self.processes.append(process)
        return process

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        # What they left behind (Samba's helpers have sessions of their own): it names this folder.
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(self.dir).encode() in entry.read_bytes():
                    os.kill(int(entry.parent.name), signal.SIGTERM)
            except OSError:
                pass
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- certificates, by openssl
    def pki(self):
        need("openssl")
        d = self.dir / "pki"
        d.mkdir()
        run = lambda *a: subprocess.run(["openssl", *map(str, a)], check=True, capture_output=True, cwd=d)
        run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ca.key")
        run("req", "-x509", "-new", "-key", "ca.key", "-days", "30", "-subj", "/CN=Real test CA", "-out", "ca.pem", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

        def issue(name, subject, extensions, rsa=False, by="ca"):
            run(*(["genrsa", "-out", f"{name}.key", "2048"] if rsa else ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key"]))
            run("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", f"{name}.csr")
            (d / f"{name}.ext").write_text(extensions)
            run("x509", "-req", "-in", f"{name}.csr", "-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-CAcreateserial", "-days", "30", "-extfile", f"{name}.ext", "-out", f"{name}.pem")

        issue("server", "/CN=localhost", "subjectAltName=DNS:localhost,DNS:api.gp.test,DNS:other.gp.test,DNS:basic.gp.test,DNS:vhost.gp.test,DNS:git.gp.test,DNS:grpc.gp.test,DNS:a.gp.test,DNS:b.gp.test,DNS:c.gp.test,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        # carol's certificate is an intermediate's, which she must send along.
        issue("intermediate", "/CN=Real test intermediate", "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n")
        issue("carol", "/O=elsewhere/CN=carol", "extendedKeyUsage=clientAuth\n", by="intermediate")
        with open(d / "carol.pem", "a") as chain:
            chain.write((d / "intermediate.pem").read_text())
        for who in ("alice", "bob"):
            issue(who, f"/CN={who}", "extendedKeyUsage=clientAuth\n", rsa=who == "bob")
        os.chmod(d / "server.key", 0o644)  # Apache's workers and nginx read it as another user

    def pem(self, name):
        return self.dir / "pki" / name

    # --- servers
    def nginx(self):
        """Client certificates required on the first port, none on the second; /dn tells what nginx saw."""
        need("nginx")
        port, open_port, backend = free_ports(3)
        self.backend_port = backend
        d = self.dir / "nginx"
        (d / "www").mkdir(parents=True)
        with open(d / "www/2g.bin", "wb") as f:
            f.truncate(2 << 30)
        locations = textwrap.dedent(f"""
            location /dn {{ default_type text/plain; return 200 "verify=$ssl_client_verify dn=$ssl_client_s_dn serial=$ssl_client_serial proto=$ssl_protocol http=$server_protocol auth=$http_authorization\\n"; }}
            location /secret {{ default_type text/plain; if ($http_authorization != "Bearer real-token") {{ return 401 "no valid token\\n"; }} return 200 "welcome $ssl_client_s_dn\\n"; }}
            location /files/ {{ alias {d}/www/; }}
            location /app/ {{ proxy_pass http://127.0.0.1:{backend}/; proxy_http_version 1.1; proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgrade; proxy_set_header X-DN $ssl_client_s_dn; proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 300s; }}
        """)
        server = lambda p, verify: f"server {{ listen 127.0.0.1:{p} ssl http2; server_name _; ssl_protocols TLSv1.2 TLSv1.3; ssl_verify_depth 2; ssl_certificate {self.pem('server.pem')}; ssl_certificate_key {self.pem('server.key')}; ssl_client_certificate {self.pem('ca.pem')}; ssl_verify_client {verify};{locations} }}\n"
        (d / "nginx.conf").write_text(textwrap.dedent(f"""
            worker_processes 1; pid {d}/pid; error_log {d}/error.log; daemon off;
            events {{ worker_connections 4096; }}
            http {{ access_log off; client_max_body_size 0; keepalive_requests 100000; client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
            map $http_upgrade $upgrade {{ default upgrade; '' ''; }}
        """) + server(port, "on") + server(open_port, "off") + "}\n")
        os.chmod(d / "www/2g.bin", 0o644)
        self.start([sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{backend}", "--log-level", "error", "backend:app"], "backend", cwd=HERE)
        self.start(["nginx", "-p", d, "-c", d / "nginx.conf"], "nginx")
        wait_port(port)
        wait_port(backend)
        return port, open_port

    def apache(self):
        """Basic on the first port; client certificate and Basic, and git, on the second. Started once, shared by the groups."""
        if hasattr(self, "_apache"):
            return self._apache
        need("apache2", "htpasswd", "git")
        basic, both = free_ports(2)
        d = self.dir / "apache"
        (d / "www/basic").mkdir(parents=True)
        (d / "www/basic/hello.txt").write_text("hello from apache\n")
        for user, password in (("svc", "s3cret pass"), ("jürgen", "pässwörd")):
            subprocess.run(["htpasswd", "-b", *(["-c"] if user == "svc" else []), str(d / "users"), user, password], check=True, capture_output=True)
        (d / "www/digest").mkdir()
        (d / "www/digest/hello.txt").write_text("hello from digest\n")
        secret = hashlib.md5("svc:real digest:s3cret pass".encode()).hexdigest()
        (d / "digests").write_text(f"svc:real digest:{secret}\n")
        repository = d / "git/demo.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(repository)], check=True)
        subprocess.run(["git", "-C", str(repository), "config", "http.receivepack", "true"], check=True)
        modules = "mpm_event authn_core authz_core authn_file authz_user auth_basic auth_digest alias mime dir env ssl cgid socache_shmcb".split()
        load = "\n".join(f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so" for m in modules if pathlib.Path(f"/usr/lib/apache2/modules/mod_{m}.so").exists())
        tls = f"SSLEngine on\nSSLCertificateFile {self.pem('server.pem')}\nSSLCertificateKeyFile {self.pem('server.key')}\n"
        ask = f"AuthType Basic\nAuthName real\nAuthBasicProvider file\nAuthUserFile {d}/users\nRequire valid-user\n"
        (d / "httpd.conf").write_text(f"""ServerRoot {d}
PidFile {d}/pid
ServerName localhost
ErrorLog {d}/error.log
{load}
User www-data
Group www-data
TypesConfig /etc/mime.types
DocumentRoot {d}/www
Listen 127.0.0.1:{basic}
Listen 127.0.0.1:{both}
ScriptSock {d}/cgisock
Mutex file:{d} default
<Directory />
Require all denied
</Directory>
<VirtualHost 127.0.0.1:{basic}>
{tls}
<Directory {d}/www>
{ask}</Directory>
<Directory {d}/www/digest>
AuthType Digest
AuthName "real digest"
AuthDigestProvider file
AuthUserFile {d}/digests
AuthDigestNonceLifetime 2
Require valid-user
</Directory>
</VirtualHost>
<VirtualHost 127.0.0.1:{both}>
{tls}SSLVerifyClient require
SSLCACertificateFile {self.pem('ca.pem')}
SetEnv GIT_PROJECT_ROOT {d}/git
SetEnv GIT_HTTP_EXPORT_ALL 1
SetEnv GIT_CONFIG_COUNT 1
SetEnv GIT_CONFIG_KEY_0 safe.directory
SetEnv GIT_CONFIG_VALUE_0 *
ScriptAlias /git/ {self.git_backend()}/
<Directory {d}/www>
{ask}</Directory>
<Location /git>
Options +ExecCGI
{ask}</Location>
</VirtualHost>
""")
        shutil.chown(d, "www-data")
        for path in [d / "git", *(d / "git").rglob("*")]:
            shutil.chown(path, "www-data", "www-data")
        self.start(["apache2", "-f", d / "httpd.conf", "-D", "FOREGROUND"], "apache")
        wait_port(basic)
        wait_port(both)
        self._apache = basic, both
        return basic, both

    def git_backend(self):
        return pathlib.Path(subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()) / "git-http-backend"

    # --- gatepass
    def gatepass(self, config, name="gatepass", env=None, binary=GATEPASS):
        return Gatepass(self, config, name, env, binary)


class Gatepass:
    def __init__(self, lab, config, name, env, binary):
        self.lab, self.name = lab, name
        self.port = free_ports(1)[0]
        self.file = lab.dir / f"{name}.yaml"
        self.home = lab.dir / f"{name}-home"
        self.write(config)
        self.env = {"GATEPASS_HOME": str(self.home), **(env or {})}
        self.process = lab.start([binary, "run", "-c", self.file, "--listen", f"127.0.0.1:{self.port}"], name, env=self.env)
        wait_port(self.port)
        self.proxy = f"http://127.0.0.1:{self.port}"
        self.ca = self.home / "ca.pem"

    def write(self, config):
        """Whole or not at all, as an editor saves. The servers here answer with what they were sent, and that is looked at."""
        if not isinstance(config, str):
            for rule in config.get("rules", []):
                rule.setdefault("echo", "pass")
        text = config if isinstance(config, str) else json.dumps(config, indent=1)
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.rename(self.file)

    def log(self):
        return (self.lab.dir / f"{self.name}.log").read_text(errors="replace")

    def memory_peak_mib(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024

    def curl(self, url, *more, timeout=60):
        return sh("curl", "-sS", "--max-time", timeout, "-x", self.proxy, "--cacert", self.ca, url, *more, timeout=timeout + 5)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)
