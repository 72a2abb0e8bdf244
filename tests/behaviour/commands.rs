//! What commands promise to shells, scripts and the commands that they start.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::PATIENCE;

/// gatepass with nothing of its own environment but what it needs, at home in a folder.
fn gatepass(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatepass"));
    command.args(arguments).current_dir(home).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    command.env("GATEPASS_HOME", home.join("own")).env("TMPDIR", home);
    command
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn done(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn write(home: &Path, name: &str, text: &str) -> String {
    let path = home.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// What the command of `exec` finds in some variables.
fn seen(home: &Path, arguments: &[&str], env: &[(&str, &str)], names: &[&str]) -> String {
    let script: String = names.iter().map(|name| format!("echo \"{name}=${{{name}-}}\";")).collect();
    let mut all = vec!["exec"];
    all.extend(arguments);
    all.extend(["--", "sh", "-c", &script]);
    let output = done(gatepass(home, &all).envs(env.iter().copied()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_command_inherits_no_variable_that_a_secret_is_read_from() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let env = [("API_TOKEN", "s3cret"), ("OTHER", "harmless")];
    let quick = ["--bearer", "api.test=API_TOKEN"];
    assert_eq!(seen(home, &quick, &env, &["API_TOKEN", "OTHER"]), "API_TOKEN=\nOTHER=harmless\n");
    let kept = ["--bearer", "api.test=API_TOKEN", "--keep-env", "API_TOKEN"];
    assert_eq!(seen(home, &kept, &env, &["API_TOKEN"]), "API_TOKEN=s3cret\n");
    let dummy = ["--bearer", "api.test=API_TOKEN", "--dummy", "API_TOKEN"];
    assert_eq!(seen(home, &dummy, &env, &["API_TOKEN"]), "API_TOKEN=gatepass-dummy\n");
    let named = ["--bearer", "api.test=API_TOKEN", "--dummy", "API_TOKEN=sk_test_1"];
    assert_eq!(seen(home, &named, &env, &["API_TOKEN"]), "API_TOKEN=sk_test_1\n");
    // What the process itself was started with is not to be read from outside either.
    #[cfg(target_os = "linux")]
    if !rustix::process::geteuid().is_root() {
        let output =
            done(gatepass(home, &["exec", "--bearer", "h=API_TOKEN", "--", "sh", "-c", "cat /proc/$PPID/environ"]).envs(env));
        assert!(!text(&output.stdout).contains("s3cret"));
    }
}

#[test]
fn nor_one_that_only_another_profile_or_an_unused_credential_reads_or_that_holds_the_same() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let text = "vars: { shared: \"${SHARED}\" }\ncredentials:\n  spare: { bearer: \"{{shared}}\" }\n\
        rules:\n  - { host: a.test, bearer: \"${USED}\" }\n\
        profiles:\n  other:\n    rules: [{ host: \"${TENANT}.test\", basic: { username: me, password: { env: OTHER } } }]\n";
    let file = write(home, "g.yaml", text);
    let env = [
        ("USED", "s3cret-used"),
        ("SHARED", "s3cret-shared"),
        ("OTHER", "s3cret-other"),
        ("DATABASE_URL", "postgres://me:s3cret-other@db/"),
        ("TENANT", "acme-corp"),
    ];
    let names = env.map(|(name, _)| name);
    let said = seen(home, &["-c", &file], &env, &names);
    assert_eq!(said, "USED=\nSHARED=\nOTHER=\nDATABASE_URL=\nTENANT=acme-corp\n");
    let kept = seen(home, &["-c", &file, "--keep-env", "DATABASE_URL"], &env, &["OTHER", "DATABASE_URL"]);
    assert_eq!(kept, "OTHER=\nDATABASE_URL=postgres://me:s3cret-other@db/\n");
}

#[test]
fn secrets_are_found_in_every_form_and_file_and_paths_and_hosts_stay() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    write(home, "more.yaml", "rules:\n  - host: b.test\n    basic: { username: svc, password: { env: B } }\n");
    let main = "include: [more.yaml]\nvars: { tok: \"${C}\" }\nca: { dir: \"${CA_FOLDER}\" }\ncredentials:\n  d: { api_key: { name: x, value: \"${D:-none}\", in: query } }\nrules:\n  - host: ${A_HOST}\n    headers: { set: { X-A: \"{{tok}}\" } }\n    auth: d\nprofiles:\n  p: { rules: [{ host: p.test, bearer: \"pre-${E}\" }] }\n";
    let file = write(home, "main.yaml", main);
    let folder = home.join("ca").display().to_string();
    let env = [("B", "1"), ("C", "2"), ("D", "3"), ("E", "4"), ("CA_FOLDER", folder.as_str()), ("A_HOST", "a.test")];
    let found = seen(home, &["-c", &file, "--profile", "p"], &env, &["B", "C", "D", "E", "A_HOST", "CA_FOLDER"]);
    assert_eq!(found, format!("B=\nC=\nD=\nE=\nA_HOST=a.test\nCA_FOLDER={folder}\n"));
    // Without the profile nothing reads E; it is secret all the same.
    assert_eq!(seen(home, &["-c", &file], &env, &["D", "E"]), "D=\nE=\n");
}

#[test]
fn printed_variables_take_secrets_away_and_a_failed_command_is_told_what_it_lacks() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let attach = ["exec", "--bearer", "api.test=T", "--attach", "127.0.0.1:9", "--print-env=sh"];
    let output = done(gatepass(home, &attach).env("T", "s3cret"));
    let printed = text(&output.stdout);
    assert!(printed.contains("unset T\n") && !printed.contains("s3cret"), "{printed}");
    let output = done(gatepass(home, &["exec", "--bearer", "api.test=T", "--", "false"]).env("T", "s3cret"));
    let told = text(&output.stderr);
    assert!(told.contains("ran without T") && told.contains("--dummy T") && !told.contains("s3cret"), "{told}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn exceptions_that_cover_a_ruled_host_are_dropped_and_said_once() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let file = write(home, "g.yaml", "rules:\n  - host: \"*.corp.test\"\n    bearer: t\n");
    let lists = [("NO_PROXY", ".corp.test,other.test"), ("no_proxy", ".corp.test,other.test")];
    let script = "echo $NO_PROXY $no_proxy $npm_config_noproxy $JAVA_TOOL_OPTIONS";
    let output = done(gatepass(home, &["exec", "-c", &file, "--", "sh", "-c", script]).envs(lists));
    let (found, told) = (text(&output.stdout), text(&output.stderr));
    assert!(!found.contains("corp.test") && found.matches("other.test").count() >= 4, "{found}");
    assert_eq!(told.matches(".corp.test").count(), 1, "{told}");
    // Clients with a list, or a proxy, of their own.
    let own =
        [("no_grpc_proxy", "x.corp.test,b.test"), ("grpc_proxy", "http://127.0.0.1:9"), ("PIP_PROXY", "http://127.0.0.1:9")];
    let script = "echo $no_grpc_proxy $grpc_proxy $PIP_PROXY [$CARGO_HTTP_PROXY]";
    let found = text(&done(gatepass(home, &["exec", "-c", &file, "--", "sh", "-c", script]).envs(own)).stdout);
    assert!(found.starts_with("b.test http://gatepass:") && !found.contains(":9") && found.ends_with("[]\n"), "{found}");
    let attach = ["exec", "-c", &file, "--attach", "127.0.0.1:9", "--print-env=sh"];
    let printed = text(&done(gatepass(home, &attach).envs(lists)).stdout);
    assert!(printed.contains("NO_PROXY='other.test") && !printed.contains("corp.test"), "{printed}");
}

#[cfg(unix)]
#[test]
fn a_wgetrc_or_curlrc_with_a_proxy_of_its_own_does_not_lead_past() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    write(home, ".curlrc", "silent\nnoproxy = \"*\"\n");
    write(home, ".wgetrc", "no_proxy = .corp.test\n");
    let output = done(&mut gatepass(home, &["exec", "--", "sh", "-c", "cat $CURL_HOME/.curlrc $WGETRC"]));
    let found = text(&output.stdout);
    assert!(found.contains("silent") && found.contains("\nproxy = \"http://gatepass:"), "{found}");
    assert!(found.contains("noproxy = \"localhost,127.0.0.1,::1\"") && found.contains("no_proxy = localhost,127"), "{found}");
    write(home, ".curlrc", "silent\n");
    let output = done(&mut gatepass(home, &["exec", "--", "sh", "-c", "echo \"[$CURL_HOME]\""]));
    assert_eq!(text(&output.stdout), "[]\n");
}

#[cfg(unix)]
#[test]
fn what_cannot_be_run_has_the_codes_of_shells() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let script = write(home, "script", "#!/bin/sh\nexit 7\n");
    let code = |argument: &str| done(&mut gatepass(home, &["exec", "--", argument])).status.code();
    assert_eq!(code("no-such-program"), Some(127));
    assert_eq!(code(&script), Some(126));
    assert_eq!(code("/"), Some(126));
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(code(&script), Some(7));
}

/// Commands with something to print.
const PRINTING: [&[&str]; 9] = [
    &["schema"],
    &["schema", "--format", "markdown"],
    &["man"],
    &["completions", "bash"],
    &["--help"],
    &["explain", "https://a.test/"],
    &["check"],
    &["certs", "list"],
    &["ca", "show"],
];

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let home = tempfile::tempdir().unwrap();
    for arguments in PRINTING {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let errors = writer.try_clone().unwrap();
        let status = gatepass(home.path(), arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert!(!text(&status.stderr).contains("panicked") && status.status.code() == Some(0), "{arguments:?}: {status:?}");
        // Nor where it is stderr that nobody reads.
        let status = gatepass(home.path(), arguments).stdout(Stdio::null()).stderr(errors).status().unwrap();
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_in_one_sentence() {
    let home = tempfile::tempdir().unwrap();
    for arguments in PRINTING {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = gatepass(home.path(), arguments).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let told = text(&output.stderr);
        assert!(told.contains("cannot write to standard output: No space left") && !told.contains("panicked"), "{told}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
}

/// `gatepass run`, ended with the test.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(home: &Path, arguments: &[&str]) -> Served {
    let mut all = vec!["run"];
    all.extend(arguments);
    Served(gatepass(home, &all).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Asks until it says so, or patience ends; then what it said last.
fn health_becomes(home: &Path, arguments: &[&str], ready: bool) -> Output {
    let mut all = vec!["health"];
    all.extend(arguments);
    let started = Instant::now();
    loop {
        let output = done(&mut gatepass(home, &all));
        if output.status.success() == ready || started.elapsed() > PATIENCE {
            return output;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn health_asks_the_process_whatever_became_of_the_file() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let file = write(home, "g.yaml", "listen: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }\nrules: []\n");
    let named: &[&str] = &["-c", &file];
    assert_eq!(done(&mut gatepass(home, &["health"])).status.code(), Some(1), "nothing runs");
    let served = serve(home, named);
    for arguments in [named, &[]] {
        assert!(health_becomes(home, arguments, true).status.success());
    }
    for broken in ["rules: [{ hots: a }]\n", "admin: { listen: 127.0.0.1:1 }\n", "", "listen: [\n"] {
        write(home, "g.yaml", broken);
        let output = done(&mut gatepass(home, &["health", "-c", &file]));
        assert!(output.status.success(), "{broken}: {}", text(&output.stderr));
    }
    std::fs::remove_file(&file).unwrap();
    assert!(done(&mut gatepass(home, &["health"])).status.success(), "the file is gone");
    drop(served);
    let output = health_becomes(home, &[], false);
    assert!(text(&output.stderr).contains("no gatepass of this user runs"), "{}", text(&output.stderr));
}

#[test]
fn health_tells_two_instances_apart() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let [one, two] = ["one.yaml", "two.yaml"].map(|name| write(home, name, "listen: 127.0.0.1:0\nrules: []\n"));
    let first = serve(home, &["-c", &one]);
    let second = serve(home, &["-c", &two]);
    for file in [&one, &two] {
        assert!(health_becomes(home, &["-c", file], true).status.success());
    }
    drop(first);
    assert!(!health_becomes(home, &["-c", &one], false).status.success());
    assert!(done(&mut gatepass(home, &["health", "-c", &two])).status.success());
    drop(second);
}

#[test]
fn health_says_of_a_stopped_process_that_it_does_not_answer() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let file = write(home, "g.yaml", "listen: 127.0.0.1:0\nrules: []\n");
    let served = serve(home, &["-c", &file]);
    assert!(health_becomes(home, &[], true).status.success());
    let signal = |name: &str| assert!(Command::new("kill").args([name, &served.0.id().to_string()]).status().unwrap().success());
    signal("-STOP");
    for arguments in [&["health"][..], &["health", "-c", &file]] {
        let output = done(&mut gatepass(home, arguments));
        let told = text(&output.stderr);
        assert!(output.status.code() == Some(1) && told.contains("runs and does not answer within 2s"), "{told}");
    }
    signal("-CONT");
    assert!(health_becomes(home, &[], true).status.success());
}

#[test]
fn warnings_of_the_start_are_lines_of_json_where_the_log_is() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let rules = "rules: [{ host: a.test, danger: { accept_invalid_certs: true } }]\n";
    let file = write(home, "g.yaml", &format!("listen: 127.0.0.1:0\nlog: {{ format: json }}\n{rules}"));
    let mut run = gatepass(home, &["run", "-c", &file]);
    let mut served = Served(run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let lines = std::io::BufRead::lines(std::io::BufReader::new(served.0.stderr.take().unwrap()));
    let mut warned = false;
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        warned |= line["level"] == "warn" && line["code"].is_string() && line["line"] == 3;
        if line["message"] == "listening" {
            break;
        }
    }
    assert!(warned);
}

#[test]
fn what_is_no_gatepass_is_not_ready() {
    let home = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1_024]);
        stream.write_all(b"HTTP/1.0 200 OK\r\nServer: SimpleHTTP/0.6\r\n\r\nready\n").unwrap();
    });
    let output = done(&mut gatepass(home.path(), &["health", "--address", &address]));
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is not gatepass"), "{}", text(&output.stderr));
}

#[test]
fn a_check_without_a_configuration_says_that_it_checked_nothing() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let output = done(&mut gatepass(home, &["check", "--strict"]));
    if Path::new("/etc/gatepass/gatepass.yaml").exists() {
        return;
    }
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("no configuration was found"), "{}", text(&output.stderr));
    write(home, "gatepass.yml", "rules: []\n");
    let output = done(&mut gatepass(home, &["check"]));
    assert!(text(&output.stderr).contains("gatepass.yml is not read"), "{}", text(&output.stderr));
    write(home, "gatepass.yaml", "rules: [{ host: a.test, bearer: t }]\n");
    let output = done(&mut gatepass(home, &["check", "--strict"]));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("1 rule, 1 credential,"), "{}", text(&output.stdout));
}

#[test]
fn attaching_to_nothing_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let output = done(&mut gatepass(home.path(), &["exec", "--attach", "127.0.0.1:9", "--", "true"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no gatepass listens there"), "{}", text(&output.stderr));
}

#[test]
fn the_manual_has_every_page_that_it_names() {
    let home = tempfile::tempdir().unwrap();
    let pages = home.path().join("man1");
    let output = done(&mut gatepass(home.path(), &["man", "--dir", &pages.display().to_string()]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    for entry in std::fs::read_dir(&pages).unwrap() {
        let page = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for named in page.split("gatepass").skip(1).filter_map(|rest| rest.split("(1)").next()).filter(|rest| rest.len() < 40) {
            let named = named.replace("\\-", "-");
            if named.starts_with('-') && named.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
                assert!(pages.join(format!("gatepass{named}.1")).exists(), "gatepass{named}(1)");
            }
        }
    }
    assert!(pages.join("gatepass-ca-install.1").exists() && pages.join("gatepass.1").exists());
    let page = done(&mut gatepass(home.path(), &["man", "exec"]));
    assert!(text(&page.stdout).contains("dummy"), "{}", text(&page.stdout));
    assert_eq!(done(&mut gatepass(home.path(), &["man", "nothing"])).status.code(), Some(1));
}
