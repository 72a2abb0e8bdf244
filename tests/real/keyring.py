"""Secrets in the system's keyring: a real Secret Service in a D-Bus session of its own."""
import os, subprocess, time

from checks import rule, servers
from kit import need, sh


BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"""


def keyring(lab, r):
    "`{ keyring: service/user }` opens nginx with what gnome-keyring holds; an unknown entry says how to store it"
    need("dbus-daemon", "gnome-keyring-daemon", "secret-tool")
    _, port = servers(lab)
    home = lab.dir / "keyring-home"
    home.mkdir(mode=0o700)
    bus = f"unix:path={home}/bus"
    env = {"DBUS_SESSION_BUS_ADDRESS": bus, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), "XDG_DATA_HOME": str(home / "data")}
    # Starts nothing by itself: else the first question would start a keyring of its own, which is locked.
    (home / "bus.conf").write_text(BUS.format(address=bus))
    lab.start(["dbus-daemon", "--nofork", f"--config-file={home}/bus.conf"], "dbus", env=env)
    end = time.time() + 10
    while not (home / "bus").exists() and time.time() < end:
        time.sleep(0.05)
    log = open(lab.dir / "gnome-keyring.log", "w")
    daemon = subprocess.Popen(["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"], stdin=subprocess.PIPE, stdout=log, stderr=log, env={**os.environ, **env})
    daemon.stdin.write(b"test")
    daemon.stdin.close()
    lab.processes.append(daemon)
    end = time.time() + 10
    code, out = 1, ""
    while code and time.time() < end:
        code, out = sh("secret-tool", "store", "--label=gatepass test", "service", "api/v1", "username", "svc", env=env, input="real-token")
        time.sleep(0.1 if code else 0)
    r.check("the keyring takes the secret", code == 0, out)
    sh("secret-tool", "store", "--label=wrong", "service", "wrong", "username", "svc", env=env, input="s3cret-wrong")
    entry = lambda name: {"bearer": {"token": {"keyring": name}}}
    host = lambda name, key: rule(lab, name, port, auth=entry(key), tls={"server_name": "localhost"})
    gate = lab.gatepass({"rules": [host("good.gp.test", "api/v1/svc"), host("wrong.gp.test", "wrong/svc"), host("none.gp.test", "nothing/svc"), rule(lab, "other.gp.test", port)]}, name="keyring", env=env)
    code, out = gate.curl("https://good.gp.test/secret")
    r.check("what the keyring holds opens nginx", "welcome" in out, out)
    code, out = gate.curl("https://other.gp.test/secret")
    r.check("a host without it is refused", "no valid token" in out, out)
    code, out = gate.curl("https://wrong.gp.test/secret")
    r.check("a wrong secret is nginx's to refuse", "no valid token" in out, out)
    code, out = gate.curl("https://none.gp.test/secret", "-i")
    r.check("what is not there is a 502 that says how to store it", " 502" in out and "secret-tool store" in out and "service nothing username svc" in out, out)
    bare = lab.gatepass({"rules": [host("good.gp.test", "api/v1/svc")]}, name="keyring-without", env={**env, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={home}/nobody"})
    code, out = bare.curl("https://good.gp.test/secret", "-i")
    r.check("without a Secret Service the request does not leave", " 502" in out and "no valid token" not in out, out)
    r.check("no secret is in a log", "real-token" not in gate.log() and "s3cret-wrong" not in gate.log(), gate.log()[-300:])


GROUPS = {"keyring": keyring}
