//! Texts that are surely not what their writer means, though each is a valid one. What they hold may be a secret, and is
//! never shown.

/// What is odd about a secret that is written down as it stands, and the mend.
pub fn odd(text: &str) -> Option<(&'static str, String)> {
    let lower = text.to_ascii_lowercase();
    if ["change-me", "changeme", "change_me"].iter().any(|word| lower.starts_with(word)) {
        return Some((
            "this is the stand-in of an example, not a secret",
            "put the real one into a variable or file, and write `${NAME}` or `{ file: PATH }`".to_owned(),
        ));
    }
    let variable = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            && name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
    };
    let said_otherwise = text.strip_prefix('$').is_some_and(variable)
        || text.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')).is_some_and(variable);
    if said_otherwise {
        return Some((
            "this is taken as it stands: no variable is read here",
            "a variable is written with braces, as in `${API_TOKEN}`".to_owned(),
        ));
    }
    let command = text.starts_with("$(") && text.ends_with(')') || text.len() > 2 && text.starts_with('`') && text.ends_with('`');
    command.then(|| {
        (
            "this is taken as it stands: there is no shell here",
            "let a program give the secret by `{ exec: [PROGRAM, ARGUMENT] }`".to_owned(),
        )
    })
}

/// How other tools write a variable of the environment inside `${…}` or `{{…}}`; the name that is meant.
pub fn foreign_variable(name: &str) -> Option<&str> {
    let name = name.trim().trim_start_matches('$');
    let prefixes = ["env.", "env:", "ENV.", "ENV:", "process.env.", "environ.", ".Env.", "secrets.", "vars."];
    let rest = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).or_else(|| {
        // Jinja's and Ansible's functions: env('X'), lookup('env', 'X').
        let inner = name.strip_prefix("env(").or_else(|| name.strip_prefix("lookup('env',"))?.strip_suffix(')')?;
        Some(inner.trim().trim_matches(['\'', '"']))
    })?;
    let plain = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_surely_not_meant_is_told_and_passwords_are_left_alone() {
        for text in ["$API_TOKEN", "%API_TOKEN%", "$(cat token)", "`cat token`", "change-me", "changeme", "CHANGE_ME_NOW"] {
            assert!(odd(text).is_some(), "{text}");
        }
        for text in
            ["", "$", "$ecret", "$2b$10$N9qo8uLOickgx2ZMRZoMye", "100%", "a$API_TOKEN", "ghp_16C7e42F292c6912E7", "`", "$()x"]
        {
            assert!(odd(text).is_none(), "{text}");
        }
    }

    #[test]
    fn other_tools_words_for_variables_are_understood() {
        for text in
            ["env.X", "env:X", " env.X ", "$env.X", "process.env.X", ".Env.X", "env('X')", "lookup('env', 'X')", "secrets.X"]
        {
            assert_eq!(foreign_variable(text), Some("X"), "{text}");
        }
        for text in ["X", "environment", "env.", "env.a-b", "file.x"] {
            assert_eq!(foreign_variable(text), None, "{text}");
        }
    }
}
