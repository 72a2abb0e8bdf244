//! Files that may do something: programs that a configuration has run, and whatever others could change.

use std::path::{Path, PathBuf};

use super::{Decode, Node, Place};
use crate::files;

impl Decode<'_> {
    /// A program and its arguments, to be run without a shell, and the folder to run it in: that of the file that
    /// names it. `key` is how the setting is called.
    pub fn argv(&mut self, node: &Node, key: &str) -> Option<(Vec<String>, PathBuf)> {
        let argv: Vec<String> = self.strings(node)?.into_iter().map(|(text, _)| text).collect();
        if argv.first().is_none_or(String::is_empty) {
            self.report
                .error("empty-command", node.place, format!("`{key}` names no program"))
                .help(format!("write it as `{key}: [PROGRAM, ARGUMENT, …]`"));
            return None;
        }
        let directory = self.base(node.place);
        self.program(&argv, &directory, node, key)?;
        Some((argv, directory))
    }

    /// A program that others can change is refused; of one that is not there a word is said, since it may come.
    fn program(&mut self, argv: &[String], directory: &Path, node: &Node, key: &str) -> Option<()> {
        let (name, path) = (argv.first()?, self.scope().env.get("PATH"));
        let file = match name.contains('/') {
            true => Some(directory.join(name)).filter(|file| files::exists(file)),
            false => {
                let folders = path.into_iter().flat_map(|path| path.split(':'));
                folders.map(|folder| Path::new(folder).join(name)).find(|file| files::is_program(file))
            }
        };
        match file {
            Some(file) => {
                self.trusted(&file, node.place)?;
                if !files::is_program(&file) {
                    let message = format!("the program of `{key}` cannot be run: {} is not executable", file.display());
                    self.report.warning("no-program", node.place, message).help(format!("chmod +x {}", file.display()));
                }
            }
            None if argv.len() == 1 && name.contains(char::is_whitespace) => {
                self.report
                    .error("command-as-text", node.place, format!("`{key}` names one program, with blanks in its name"))
                    .help(format!("write program and arguments as a list: `{key}: [PROGRAM, ARGUMENT, …]`; there is no shell"));
                return None;
            }
            None if path.is_some() || name.contains('/') => {
                let (message, help) = match name.contains('/') {
                    true => ("is not there".to_owned(), format!("relative paths start at {}", directory.display())),
                    false => ("is not in PATH".to_owned(), "install it, or give its whole path".to_owned()),
                };
                self.report.warning("no-program", node.place, format!("the program of `{key}` {message}")).help(help);
            }
            None => {}
        }
        // What an interpreter is to run is a file among the arguments (`sh ./helper`), as is what a program is to obey.
        let named = argv[1..].iter().map(|argument| directory.join(argument)).filter(|file| files::is_file(file));
        let mut all = Some(());
        for file in named {
            all = self.trusted(&file, node.place).and(all);
        }
        all
    }

    /// Refuses a file that others can change.
    pub fn trusted(&mut self, path: &Path, place: Place) -> Option<()> {
        let refused = self.scope().safe.refuses(path);
        if let Some(refused) = &refused {
            self.report.error("unsafe-file", place, &refused.message).help(&refused.help);
        }
        refused.is_none().then_some(())
    }
}
