//! Variables, for shells, files and services to read.

use clap::ValueEnum;

#[derive(Clone, Copy, ValueEnum)]
pub enum Form {
    /// `export NAME='VALUE'`
    Sh,
    /// `set -gx NAME 'VALUE'`
    Fish,
    /// `NAME="VALUE"`, for env files of compose and the like
    Dotenv,
    /// `--env 'NAME=VALUE'`, for a `docker run` line
    Docker,
    /// `NAME=VALUE`, to be appended to `$GITHUB_ENV`
    Github,
}

impl Form {
    pub fn print(self, variables: &[(String, String)]) -> String {
        let mut text: String = variables.iter().map(|(name, value)| self.line(name, value)).collect();
        if matches!(self, Form::Docker) {
            text.push('\n');
        }
        text
    }

    fn line(self, name: &str, value: &str) -> String {
        let quoted = |value: &str| format!("'{}'", value.replace('\'', "'\\''"));
        match self {
            Form::Sh => format!("export {name}={}\n", quoted(value)),
            Form::Fish => format!("set -gx {name} '{}'\n", value.replace('\\', "\\\\").replace('\'', "\\'")),
            Form::Dotenv => format!("{name}=\"{}\"\n", value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$")),
            Form::Docker => format!("--env {} ", quoted(&format!("{name}={value}"))),
            Form::Github => format!("{name}={value}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_arrive_as_they_are_in_a_shell() {
        let odd = r#"a 'b' "c" $HOME \ `d`"#;
        let script = format!("{}printf %s \"$X\"", Form::Sh.print(&[("X".to_owned(), odd.to_owned())]));
        let out = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(out.stdout).unwrap(), odd);
        assert_eq!(Form::Dotenv.line("X", "a\"$b\\"), "X=\"a\\\"\\$b\\\\\"\n");
        assert_eq!(Form::Fish.line("X", "it's"), "set -gx X 'it\\'s'\n");
        assert_eq!(Form::Docker.print(&[("X".to_owned(), "a b".to_owned())]), "--env 'X=a b' \n");
        assert_eq!(Form::Github.line("X", "a b"), "X=a b\n");
    }
}
