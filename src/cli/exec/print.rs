//! Variables, for shells, files and services to read.

use clap::ValueEnum;

use super::withheld::Changes;

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
    pub fn print(self, variables: &[(String, String)], changes: &Changes) -> String {
        let mut text: String = changes.removed.iter().map(|name| self.without(name)).collect();
        text.extend(variables.iter().chain(&changes.dummies).map(|(name, value)| self.line(name, value)));
        if matches!(self, Form::Docker) {
            text.push('\n');
        }
        text
    }

    /// A shell has the variable; what reads one of the other forms begins without it.
    fn without(self, name: &str) -> String {
        match self {
            Form::Sh => format!("unset {name}\n"),
            Form::Fish => format!("set -e {name}\n"),
            Form::Dotenv | Form::Docker | Form::Github => String::new(),
        }
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

    fn none() -> Changes {
        Changes { removed: Default::default(), dummies: Vec::new() }
    }

    #[test]
    fn shells_lose_what_is_withheld_and_every_form_gets_the_stand_in() {
        let changes = Changes { removed: ["A".to_owned(), "B".to_owned()].into(), dummies: vec![("B".into(), "x".into())] };
        assert_eq!(Form::Sh.print(&[], &changes), "unset A\nunset B\nexport B='x'\n");
        assert_eq!(Form::Fish.print(&[], &changes), "set -e A\nset -e B\nset -gx B 'x'\n");
        assert_eq!(Form::Dotenv.print(&[], &changes), "B=\"x\"\n");
    }

    #[test]
    fn values_arrive_as_they_are_in_a_shell() {
        let odd = r#"a 'b' "c" $HOME \ `d`"#;
        let script = format!("{}printf %s \"$X\"", Form::Sh.print(&[("X".to_owned(), odd.to_owned())], &none()));
        let out = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(out.stdout).unwrap(), odd);
        assert_eq!(Form::Dotenv.line("X", "a\"$b\\"), "X=\"a\\\"\\$b\\\\\"\n");
        assert_eq!(Form::Fish.line("X", "it's"), "set -gx X 'it\\'s'\n");
        assert_eq!(Form::Docker.print(&[("X".to_owned(), "a b".to_owned())], &none()), "--env 'X=a b' \n");
        assert_eq!(Form::Github.line("X", "a b"), "X=a b\n");
    }
}
