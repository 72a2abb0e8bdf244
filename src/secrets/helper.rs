//! Credential helpers: programs that print a secret. They run without a shell and within bounds; the first line of
//! their error stream goes to the log, and their output nowhere.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::failure::{Cause, Failure};

/// One run of a program.
pub struct Run<'a> {
    /// Program and arguments.
    pub argv: &'a [String],
    /// Where it runs; empty: where gatepass runs.
    pub directory: &'a Path,
    pub timeout: Duration,
    /// What it reads; the stream then ends.
    pub stdin: &'a str,
    /// `limits.helper_output`.
    pub bound: usize,
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
        self.run().await.map_err(|(why, said)| {
            let failure = self.failure(&why).said(&said, &[]);
            // The client is told where to look; this is where.
            if let Some(said) = &failure.said {
                tracing::warn!(command = self.name(), %said, "a credential helper failed: {why}");
            }
            failure
        })
    }

    /// The failure of this helper, for a reason.
    pub fn failure(&self, why: &str) -> Failure {
        Failure::new(Cause::Credential, format!("the command `{}` gave no secret: {why}", self.name()))
            .hint(format!("run `{}` by hand, as the user that gatepass runs as", self.name()))
    }

    fn name(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// Why it failed, and what its error stream says.
    async fn run(&self) -> Result<Zeroizing<String>, (String, String)> {
        let silent = |why: String| (why, String::new());
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
            .map_err(|cause| silent(format!("it cannot be started: {cause}")))?;
        let bound = self.bound as u64;
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
        let (status, out, err) = tokio::time::timeout(self.timeout, work)
            .await
            .map_err(|_| silent(format!("it took longer than {:?}", self.timeout)))?;
        let status = status.map_err(|cause| silent(cause.to_string()))?;
        // Told first: what it goes on to print breaks its pipe.
        if out.len() as u64 > bound {
            return Err(silent(format!("its output is larger than {bound} bytes (`limits.helper_output`)")));
        }
        if !status.success() {
            return Err((status.to_string(), first_line(&err, &out)));
        }
        let text = std::str::from_utf8(&out).map_err(|_| silent("its output is not UTF-8 text".to_owned()))?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

async fn read(stream: Option<impl tokio::io::AsyncRead + Unpin>, bound: u64, into: &mut Vec<u8>) {
    if let Some(stream) = stream {
        let _ = stream.take(bound).read_to_end(into).await;
    }
}

/// The first line of an error stream, without what stands on the output.
fn first_line(err: &[u8], out: &[u8]) -> String {
    let (err, out) = (String::from_utf8_lossy(err), String::from_utf8_lossy(out));
    let line = err.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
    let words = out.split_whitespace().filter(|word| word.len() > 3);
    words.fold(line.to_owned(), |line, word| line.replace(word, "******"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(script: &str, stdin: &str, timeout: Duration) -> Result<Zeroizing<String>, Failure> {
        let argv = ["sh", "-c", script].map(str::to_owned);
        Run { argv: &argv, directory: Path::new(""), timeout, stdin, bound: 1 << 20, environment: &[("ASKED", "yes")] }
            .output()
            .await
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
    async fn the_error_stream_of_a_failing_helper_is_for_the_log_and_its_output_for_nobody() {
        let script = "echo s3cret; printf 'no vault s3cret\\033[2J here\\nmore' >&2; exit 3";
        let failure = run(script, "", Duration::from_secs(5)).await.err().unwrap();
        assert_eq!(failure.said.as_deref(), Some("no vault ****** [2J here"));
        assert!(failure.in_full().contains("(it said: no vault") && !failure.to_string().contains("vault s3"), "{failure}");
        assert!(!failure.to_string().contains("no vault") && !failure.in_full().contains("s3cret"), "{failure}");
        let failure = run("echo s3cret; sleep 20", "", Duration::from_millis(50)).await.err().unwrap();
        assert!(failure.details.contains("longer than 50ms") && !failure.to_string().contains("s3cret"), "{failure}");
        let failure = run("printf '\\377'", "", Duration::from_secs(5)).await.err().unwrap();
        assert!(failure.details.contains("not UTF-8"), "{failure}");
        let failure = run("yes | head -c 2000000", "", Duration::from_secs(5)).await.err().unwrap();
        assert!(failure.details.contains("larger than 1048576 bytes"), "{failure}");
    }
}
