//! Credential helpers: programs that print a secret. They run without a shell and within bounds; their
//! error stream goes into the failure, their output never does.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::failure::{Cause, Failure};
use crate::limits::Limits;

/// One run of a program.
pub struct Run<'a> {
    /// Program and arguments.
    pub argv: &'a [String],
    /// Where it runs; empty: where gatepass runs.
    pub directory: &'a Path,
    pub timeout: Duration,
    /// What it reads; the stream then ends.
    pub stdin: &'a str,
    /// Added to gatepass's own environment.
    pub environment: &'a [(&'a str, &'a str)],
}

impl Run<'_> {
    /// The output, at most `limits.helper_output` bytes of UTF-8.
    ///
    /// # Errors
    /// It cannot be started, takes longer than its timeout, ends with another status than 0, or prints too
    /// much or no text.
    pub async fn output(&self) -> Result<Zeroizing<String>, Failure> {
        self.run().await.map_err(|why| self.failure(&why))
    }

    /// The failure of this helper, for a reason.
    pub fn failure(&self, why: &str) -> Failure {
        Failure::new(Cause::Credential, format!("the command `{}` gave no secret: {why}", self.name()))
            .hint(format!("run `{}` by hand, as the user that gatepass runs as", self.name()))
    }

    fn name(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    async fn run(&self) -> Result<Zeroizing<String>, String> {
        let here = if self.directory.as_os_str() == OsStr::new("") { Path::new(".") } else { self.directory };
        let mut child = tokio::process::Command::new(self.name())
            .args(self.argv.iter().skip(1))
            .current_dir(here)
            .envs(self.environment.iter().copied())
            .stdin(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|cause| format!("it cannot be started: {cause}"))?;
        let bound = Limits::default().helper_output as u64;
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let work = async {
            let (stdin, stdout, stderr) = streams;
            let (mut out, mut err) = (Zeroizing::new(Vec::new()), Vec::new());
            let write = async {
                if let Some(mut stdin) = stdin {
                    // A helper that does not read may close its end: its output is what counts.
                    let _ = stdin.write_all(self.stdin.as_bytes()).await;
                }
            };
            tokio::join!(write, read(stdout, bound + 1, &mut out), read(stderr, bound, &mut err));
            (child.wait().await, out, err)
        };
        let (status, out, err) =
            tokio::time::timeout(self.timeout, work).await.map_err(|_| format!("it took longer than {:?}", self.timeout))?;
        let status = status.map_err(|cause| cause.to_string())?;
        // Told first: what it goes on to print breaks its pipe.
        if out.len() as u64 > bound {
            return Err(format!("its output is larger than {bound} bytes"));
        }
        if !status.success() {
            return Err(format!("{status}{}", first_line(&err)));
        }
        let text = std::str::from_utf8(&out).map_err(|_| "its output is not UTF-8 text".to_owned())?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

async fn read(stream: Option<impl tokio::io::AsyncRead + Unpin>, bound: u64, into: &mut Vec<u8>) {
    if let Some(stream) = stream {
        let _ = stream.take(bound).read_to_end(into).await;
    }
}

fn first_line(err: &[u8]) -> String {
    let text = String::from_utf8_lossy(err);
    let line: String =
        text.lines().find(|line| !line.trim().is_empty()).unwrap_or("").chars().filter(|c| !c.is_control()).take(200).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(script: &str, stdin: &str, timeout: Duration) -> Result<Zeroizing<String>, Failure> {
        let argv = ["sh", "-c", script].map(str::to_owned);
        Run { argv: &argv, directory: Path::new(""), timeout, stdin, environment: &[("ASKED", "yes")] }.output().await
    }

    #[tokio::test]
    async fn a_helper_reads_what_it_is_given_and_its_output_is_had() {
        let out = run("read line; echo got:$line:$ASKED", "hello\n", Duration::from_secs(5)).await;
        assert_eq!(*out.ok().unwrap(), "got:hello:yes\n");
        // One that reads nothing of a long input does not hang it up.
        let out = run("echo here", &"x".repeat(1 << 20), Duration::from_secs(5)).await;
        assert_eq!(*out.ok().unwrap(), "here\n");
    }

    #[tokio::test]
    async fn a_failing_helper_tells_its_error_stream_and_never_its_output() {
        let failure = run("echo s3cret; echo no vault here >&2; exit 3", "", Duration::from_secs(5)).await.err().unwrap();
        assert!(failure.details.contains("no vault here") && !failure.to_string().contains("s3cret"), "{failure}");
        let failure = run("echo s3cret; sleep 20", "", Duration::from_millis(50)).await.err().unwrap();
        assert!(failure.details.contains("longer than 50ms") && !failure.to_string().contains("s3cret"), "{failure}");
        let failure = run("printf '\\377'", "", Duration::from_secs(5)).await.err().unwrap();
        assert!(failure.details.contains("not UTF-8"), "{failure}");
        let failure = run("yes | head -c 2000000", "", Duration::from_secs(5)).await.err().unwrap();
        assert!(failure.details.contains("larger than 1048576 bytes"), "{failure}");
    }
}
