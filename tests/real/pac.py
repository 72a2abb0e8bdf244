"""Ways on by a PAC script, read from a file or fetched, through Squid; mTLS to the origin as ever."""
import functools, http.server, threading, time

from checks import certificate, servers
from kit import FULL, free_ports, need_full, wait_port
from proxies import squid


def folder_server(folder):
    """Serves a folder over http."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def pac(lab, r):
    "A PAC script sends a host by Squid or straight; a proxy that is down is passed over; a changed script comes into force"
    need_full()
    origin, _ = servers(lab)
    port, dead = free_ports(2)
    names = ("api", "broken", "endless", "lost")
    hosts = lab.dir / "hosts"
    hosts.write_text("".join(f"127.0.0.1 {n}.gp.test\n" for n in names))
    log = squid(lab, "squid-pac", f"http_port 127.0.0.1:{port}\nhosts_file {hosts}\nhttp_access allow all")
    wait_port(port)
    folder = lab.dir / "pac"
    folder.mkdir()
    script = folder / "proxy.pac"
    body = """function FindProxyForURL(url, host) {
  if (host == "broken.gp.test") return nothing.here;
  if (host == "endless.gp.test") while (true) {}
  if (host == "lost.gp.test") return "PROXY 127.0.0.1:%d";
  if (isInNet(host, "127.0.0.0", "255.0.0.0") && dnsDomainIs(host, ".gp.test")) return "WAY";
  throw "not looked up";
}
""" % dead
    by_squid = body.replace("WAY", f"PROXY 127.0.0.1:{dead}; PROXY 127.0.0.1:{port}")
    rules = [{"host": f"{n}.gp.test", "port": origin, "ca_bundle": {"files": [str(lab.pem("ca.pem"))]}, "client_certificate": certificate(lab, "alice"), "bearer": "real-token", "tls": {"server_name": "localhost"}} for n in names]
    limits = {"pac_time": "1s", "pac_refresh": "1s", "pac_keep": "1s", "upstream_idle": "100ms"}
    server = folder_server(folder)
    tunnels = lambda: log.read_text().count(f"CONNECT api.gp.test:{origin} 200") if log.exists() else 0
    for way, place in {"file": str(script), "url": f"http://127.0.0.1:{server.server_address[1]}/proxy.pac"}.items():
        script.write_text(by_squid)
        g = lab.gatepass({"resolve": {f"{n}.gp.test": "127.0.0.1" for n in names}, "limits": limits, "upstream_proxy": {"pac": place}, "rules": rules}, name=f"pac-{way}", binary=FULL)
        ask = lambda name, *more: g.curl(f"https://{name}.gp.test:{origin}/secret", *more)[1]
        before = tunnels()
        out = ask("api")
        r.check(f"{way}: by the second proxy, since the first is down, the origin welcomes alice", "welcome CN=alice" in out, out)
        out = ask("broken")
        r.check(f"{way}: a script that fails is told, and in the log with its line", "the PAC script" in out and "line 2: " in g.log() and "nothing is not defined" in g.log(), (out, g.log()[-800:]))
        out = ask("endless")
        r.check(f"{way}: one that runs for ever is ended", "the PAC script" in out and "longer than 1s" in g.log(), (out, g.log()[-800:]))
        out = ask("lost")
        r.check(f"{way}: where no proxy answers nothing leaves", f"127.0.0.1:{dead}" in out and "welcome" not in out, out)
        script.write_text(body.replace("WAY", "PROXY 127.0.0.1:%d" % dead))
        end = time.time() + 20
        while "welcome" in (out := ask("api")) and time.time() < end:
            time.sleep(0.3)
        r.check(f"{way}: changed to a proxy that is down, nothing leaves", f"127.0.0.1:{dead}" in out, out)
        script.write_text(body.replace("WAY", "DIRECT"))
        end = time.time() + 20
        while "welcome CN=alice" not in (out := ask("api")) and time.time() < end:
            time.sleep(0.3)
        r.check(f"{way}: changed to DIRECT, the origin welcomes alice", "welcome CN=alice" in out, out)
        g.stop()
        # Squid logs a tunnel when it ends.
        end = time.time() + 5
        while tunnels() == before and time.time() < end:
            time.sleep(0.1)
        r.check(f"{way}: Squid saw the tunnel and nothing of the credential", tunnels() > before and "real-token" not in log.read_text(), log.read_text())
    server.shutdown()


GROUPS = {"pac": pac}
