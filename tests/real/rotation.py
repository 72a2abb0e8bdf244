"""Client certificates that are renewed under load, in the three ways in which it is done; and two identities of one host that never meet."""
import collections
import os
import re
import sys
import textwrap
import time

from kit import HERE, free_ports, need, sh, wait_port

# The whole run: GATEPASS_LONG=1, a minute for each way and a swap every three seconds. The short one swaps as
# soon as the server has seen the last.
LONG = os.environ.get("GATEPASS_LONG")
SECONDS, RATE, SWAPS = (60, 84, 20) if LONG else (60, 30, 5)


def seen_by_nginx(lab, name, keepalive=1000):
    """An nginx that demands a certificate and writes down what it sees: serial, subject, connection, session. Its port and log."""
    need("nginx")
    (port,) = free_ports(1)
    folder = lab.dir / name
    folder.mkdir()
    (folder / "nginx.conf").write_text(textwrap.dedent(f"""
        worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; daemon off;
        events {{ worker_connections 4096; }}
        http {{ client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
        log_format seen '$ssl_client_serial|$ssl_client_s_dn|$connection|$ssl_session_reused|$ssl_protocol|$server_protocol|$uri';
        access_log {folder}/seen.log seen; keepalive_requests {keepalive}; ssl_session_cache shared:{name}:1m;
        server {{ listen 127.0.0.1:{port} ssl http2; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {lab.pem('server.pem')}; ssl_certificate_key {lab.pem('server.key')};
        ssl_client_certificate {lab.pem('ca.pem')}; ssl_verify_client on; ssl_verify_depth 2; location / {{ return 200 "$ssl_client_serial\\n"; }} }} }}
    """))
    lab.start(["nginx", "-p", folder, "-c", folder / "nginx.conf"], name)
    wait_port(port)
    return port, folder / "seen.log"


def issue(lab, folder, serial):
    """A new key and certificate; texts."""
    run = lambda *a: sh("openssl", *a, cwd=folder)
    (folder / "ext").write_text("extendedKeyUsage=clientAuth\n")
    run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "k", "-out", "r", "-subj", "/CN=worker")
    code, out = run("x509", "-req", "-in", "r", "-CA", lab.pem("ca.pem"), "-CAkey", lab.pem("ca.key"), "-set_serial", serial, "-days", "30", "-extfile", "ext", "-out", "c")
    assert code == 0, out
    return (folder / "c").read_text(), (folder / "k").read_text()


class Pair:
    """tls.crt and tls.key in a folder, and the ways of replacing them."""

    def __init__(self, folder, first):
        self.folder, self.generation = folder, 0
        self.files = [folder / "tls.crt", folder / "tls.key"]
        for file, text in zip(self.files, first):
            file.write_text(text)
            file.chmod(0o600)

    def in_place(self, texts):
        """Truncated, half written, and the key a while after its certificate."""
        for file, text in zip(self.files, texts):
            with open(file, "w") as f:
                f.write(text[: len(text) // 2])
                f.flush()
                time.sleep(0.1)
                f.write(text[len(text) // 2 :])
            time.sleep(0.25)

    def rename(self, texts):
        for file, text in zip(self.files, texts):
            new = file.with_suffix(".new")
            new.write_text(text)
            new.chmod(0o600)
            new.rename(file)

    def kubernetes(self, texts):
        """A new folder, and one link that is swapped (what the kubelet does with secrets)."""
        self.generation += 1
        volume = self.folder / f"..{self.generation}"
        volume.mkdir()
        for file, text in zip(self.files, texts):
            (volume / file.name).write_text(text)
            (volume / file.name).chmod(0o600)
        link = self.folder / "..data_tmp"
        link.symlink_to(volume.name)
        link.rename(self.folder / "..data")
        for file in self.files:
            if not file.is_symlink():
                new = file.with_suffix(".link")
                new.symlink_to(f"..data/{file.name}")
                new.rename(file)


def rotation(lab, r):
    "a pair that is swapped under load, half written in place, renamed over, and by Kubernetes' link: no request fails, the server sees each"
    way = {"in place, half written": Pair.in_place, "renamed over": Pair.rename, "Kubernetes' link": Pair.kubernetes}
    for at, (title, swap) in enumerate(way.items()):
        port, log = seen_by_nginx(lab, f"rotation{at}")
        folder = lab.dir / f"rotation{at}-pair"
        folder.mkdir()
        serials = [100_000 * (at + 1) + n for n in range(SWAPS + 1)]
        pairs = [issue(lab, log.parent, serial) for serial in serials]
        pair = Pair(folder, pairs[0])
        if swap is Pair.kubernetes:
            pair.kubernetes(pairs[0])
        gate = lab.gatepass(
            {"rules": [{"host": "api.gp.test", "connect_to": f"127.0.0.1:{port}", "ca_bundle": str(lab.pem("ca.pem")), "client_certificate": {"cert": str(pair.files[0]), "key": str(pair.files[1])}}]},
            name=f"rotation{at}-gatepass",
        )
        load = lab.start([sys.executable, HERE / "rotation_load.py", gate.proxy, gate.ca, SECONDS, RATE, "https://api.gp.test/"], f"rotation{at}-load")
        seen_now = lambda: {int(line.split("|")[0], 16) for line in log.read_text().splitlines()}
        end = time.time() + 30
        while not seen_now() and time.time() < end:
            time.sleep(0.05)
        started, every = time.time(), (SECONDS - 1) / SWAPS
        for n, texts in enumerate(pairs[1:]):
            if LONG:
                time.sleep(max(0, started + n * every - time.time()))
            else:
                end = time.time() + 10
                while serials[n] not in seen_now() and time.time() < end:
                    time.sleep(0.05)
            swap(pair, texts)
        if not LONG:
            end = time.time() + 10
            while serials[-1] not in seen_now() and time.time() < end:
                time.sleep(0.05)
            load.terminate()
        load.wait(SECONDS + 240)
        told = (lab.dir / f"rotation{at}-load.log").read_text()
        seen = seen_now()
        protocols = {line.split("|")[5] for line in log.read_text().splitlines()}
        print(f"  {title}: {told.splitlines()[0] if told else 'nothing'}; {len(seen)} serials seen of {len(serials)}", flush=True)
        asked = int(told.split()[0]) if told else 0
        r.check(f"{title}: no request failed", asked >= (SECONDS * RATE if LONG else SWAPS) and ", 0 failed" in told, told)
        r.check(f"{title}: the server saw all {len(serials)} serials, over HTTP/1.1 and HTTP/2", seen == set(serials) and protocols == {"HTTP/1.1", "HTTP/2.0"}, f"not seen: {sorted(set(serials) - seen)}; {protocols}")
        complaints = re.findall("ERROR", gate.log())
        r.check(f"{title}: gatepass complained of nothing as an error", not complaints, gate.log()[-800:])
        gate.stop()


def apart(lab, r):
    "one host, two identities by path, HTTP/1.1 and HTTP/2, TLS 1.2 and 1.3: never the other's connection or session, as the server saw it"
    port, log = seen_by_nginx(lab, "apart", keepalive=3)
    own = lambda who: {"cert": str(lab.pem(f"{who}.pem")), "key": str(lab.pem(f"{who}.key"))}
    base = lambda host, version: {"host": host, "connect_to": f"127.0.0.1:{port}", "ca_bundle": str(lab.pem("ca.pem")), "tls": {"max_version": version}, "client_certificate": own("alice")}
    bob = {"host": ["a.gp.test", "b.gp.test"], "path": "/bob/**", "client_certificate": own("bob")}
    gate = lab.gatepass({"rules": [base("a.gp.test", "1.2"), base("b.gp.test", "1.3"), bob]}, name="apart-gatepass")
    urls = [f"https://{host}.gp.test/{who}/x" for host in "ab" for who in ("alice", "bob")]
    code, told = sh(sys.executable, HERE / "rotation_load.py", gate.proxy, gate.ca, 3, 100, *urls)
    r.check("300 requests, none failed", "300 requests" in told and ", 0 failed" in told, told)
    rows = [line.split("|") for line in log.read_text().splitlines()]
    wrong = [row for row in rows if f"CN={row[6].split('/')[1]}" not in row[1]]
    r.check("each path came with its own subject", len(rows) == 300 and not wrong, wrong[:3])
    subjects = collections.defaultdict(set)
    for row in rows:
        subjects[row[2]].add(row[1])
    mixed = {connection: who for connection, who in subjects.items() if len(who) > 1}
    r.check(f"none of {len(subjects)} connections carried both", not mixed, mixed)
    resumed = {(row[1], row[4], row[5]) for row in rows if row[3] == "r"}
    expected = {(f"CN={who}", tls, http) for who in ("alice", "bob") for tls in ("TLSv1.2", "TLSv1.3") for http in ("HTTP/1.1", "HTTP/2.0")}
    r.check("sessions were resumed by both, each its own, in all four ways", resumed == expected, expected ^ resumed)


GROUPS = {"rotation": rotation, "identities-apart": apart}
