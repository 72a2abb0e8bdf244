//! Examples at the end of each `--help`, and of each page of the manual.

use clap::Command;

/// Command and examples, each with what it is for.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "",
        &[
            ("gatepass exec -- curl https://api.example.com/", "run a command through a proxy of its own"),
            ("gatepass run", "serve on 127.0.0.1:8118 by ./gatepass.yaml"),
            ("gatepass explain https://api.example.com/", "what would be done with a request"),
        ],
    ),
    (
        "run",
        &[
            ("gatepass run", "by the configuration that is found"),
            ("gatepass run -c base.yaml -c mine.yaml --profile staging", "by two files, the later wins, and a profile"),
            ("gatepass run --listen 127.0.0.1:0", "on a free port"),
        ],
    ),
    (
        "exec",
        &[
            ("gatepass exec -- npm install", "by the configuration that is found"),
            ("gatepass exec --bearer api.example.com=API_TOKEN -- ./job.sh", "without one; the job does not get API_TOKEN"),
            ("gatepass exec --dummy OPENAI_API_KEY -- python app.py", "for an SDK that insists on the variable"),
            ("gatepass exec --attach 127.0.0.1:8118 --print-env=sh", "the variables for a shell: eval \"$(…)\""),
        ],
    ),
    (
        "browser",
        &[
            ("gatepass browser https://portal.example.com/", "in the first browser that is installed"),
            ("gatepass browser --browser firefox --profile-dir ~/work https://a.example/", "in Firefox, on a profile that stays"),
        ],
    ),
    (
        "check",
        &[
            ("gatepass check", "the configuration that is found"),
            ("gatepass check -c gatepass.yaml --strict --format json", "for CI: exit 3 on warnings"),
        ],
    ),
    (
        "explain",
        &[
            ("gatepass explain https://api.example.com/v1/me", "a GET"),
            ("gatepass explain POST https://api.example.com/v1/me", "another method"),
        ],
    ),
    ("sign", &[("gatepass sign POST https://api.example.com/v1 -d @body.json", "the head as it would leave, unredacted")]),
    ("ca path", &[("curl --cacert \"$(gatepass ca path)\" -x http://127.0.0.1:8118 https://api.example.com/", "for one client")]),
    ("ca show", &[("gatepass ca show", "the certificate, in PEM")]),
    ("ca renew", &[("gatepass ca renew", "for another ten years, with the key it has")]),
    ("ca install", &[("gatepass ca install", "into the stores of system, browsers and Java")]),
    ("ca uninstall", &[("gatepass ca uninstall", "out of them again")]),
    ("certs list", &[("gatepass certs list --expires-in 30d", "exit 1 if one ends within 30 days")]),
    ("certs show", &[("gatepass certs show laptop", "the one called `laptop`")]),
    ("login", &[("gatepass login partner", "sign in for the credential `partner`")]),
    ("logout", &[("gatepass logout partner", "revoke and delete its tokens")]),
    ("status", &[("gatepass status", "who is signed in, until when")]),
    ("demo", &[("gatepass demo", "needs no network and no files")]),
    (
        "import postman",
        &[("gatepass import postman collection.json environment.json", "a configuration on stdout, without secrets")],
    ),
    ("init", &[("gatepass init", "writes ./gatepass.yaml")]),
    (
        "schema",
        &[
            ("gatepass schema > gatepass.schema.json", "for editors: # yaml-language-server: $schema=gatepass.schema.json"),
            ("gatepass schema --format markdown", "the reference"),
        ],
    ),
    (
        "health",
        &[
            ("gatepass health", "the gatepass of this user"),
            ("gatepass health --address 10.0.0.7:9118", "another's, at its admin address"),
        ],
    ),
    ("completions", &[("gatepass completions bash > /etc/bash_completion.d/gatepass", "for every user")]),
    (
        "man",
        &[
            ("gatepass man exec | man -l -", "the page of a command"),
            ("gatepass man --dir /usr/local/share/man/man1", "a page for each command"),
        ],
    ),
];

/// The commands with their examples.
pub fn with(whole: Command) -> Command {
    EXAMPLES.iter().fold(whole, |command, (path, examples)| {
        let path: Vec<&str> = path.split(' ').filter(|name| !name.is_empty()).collect();
        at(command, &path, text(examples))
    })
}

fn at(command: Command, path: &[&str], text: String) -> Command {
    match path.split_first() {
        Some((first, rest)) if command.find_subcommand(first).is_some() => {
            command.mut_subcommand(*first, |inner| at(inner, rest, text))
        }
        Some(_) => command,
        None => {
            let before = command.get_after_help().map(|before| format!("\n{before}")).unwrap_or_default();
            command.after_help(format!("{text}{before}"))
        }
    }
}

fn text(examples: &[(&str, &str)]) -> String {
    let lines: String = examples.iter().map(|(line, what)| format!("  {line}\n      {what}\n")).collect();
    format!("Examples:\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, command};
    use super::*;
    use clap::CommandFactory;

    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        let inner: Vec<&Command> = command.get_subcommands().filter(|inner| inner.get_name() != "help").collect();
        if inner.is_empty() {
            found.push(path.to_owned());
        }
        for one in inner {
            leaves(one, format!("{path} {}", one.get_name()).trim(), found);
        }
    }

    #[test]
    fn every_command_has_an_example_and_every_example_is_a_command() {
        let mut commands = Vec::new();
        leaves(&Cli::command(), "", &mut commands);
        let without: Vec<&String> = commands.iter().filter(|name| !EXAMPLES.iter().any(|(path, _)| path == name)).collect();
        assert!(without.is_empty(), "no example for {without:?}");
        for (path, examples) in EXAMPLES {
            assert!(path.is_empty() || commands.iter().any(|name| name == path), "there is no `{path}`");
            for (line, _) in *examples {
                let typed = line.split(['|', '>']).next().unwrap().trim();
                let Some(typed) = typed.strip_prefix("gatepass ") else { continue };
                let parsed = command().try_get_matches_from(std::iter::once("gatepass").chain(typed.split_whitespace()));
                assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
            }
        }
        let help = command().find_subcommand_mut("exec").unwrap().render_help().to_string();
        assert!(help.contains("Examples:\n  gatepass exec"), "{help}");
    }
}
