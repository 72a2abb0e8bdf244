//! Putting the CA into the stores of clients, and taking it out again. Each step is said as the command
//! that does it; what cannot be done here (rights, a missing tool) is printed as what to run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::super::Error;
use super::store::{Ca, Store};
use super::{java, nss, system};

#[derive(Args)]
pub struct StoreArgs {
    /// Only these stores; all that are found when left out
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STORES")]
    store: Vec<StoreName>,
    /// The system under this folder instead of the running one (an image being built)
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum StoreName {
    System,
    /// Chromium's and Firefox's
    Nss,
    Java,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Install,
    Uninstall,
}

pub fn run(ca: &Ca, args: &StoreArgs, kind: Kind) -> Result<ExitCode, Error> {
    let env = super::super::environment();
    let wanted = |name: StoreName| args.store.is_empty() || args.store.contains(&name);
    let mut whole = true;
    let mut any = false;
    // The system first: where Java and NSS follow it, nothing is left to do there.
    for name in [StoreName::System, StoreName::Nss, StoreName::Java] {
        if !wanted(name) {
            continue;
        }
        let found = match name {
            StoreName::System => system::stores(ca, args.root.as_deref(), &env),
            StoreName::Nss if args.root.is_some() => Vec::new(),
            StoreName::Nss => nss::stores(ca, &env),
            StoreName::Java if args.root.is_some() => Vec::new(),
            StoreName::Java => java::stores(ca, &env),
        };
        if found.is_empty() && args.store.contains(&name) {
            eprintln!("{}", nothing(name));
            whole = false;
        }
        for store in found {
            any = true;
            whole &= treat(ca, &store, kind, args.dry_run);
        }
    }
    if !any && whole {
        eprintln!("no store was found on this machine");
        whole = false;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn nothing(name: StoreName) -> &'static str {
    match name {
        StoreName::System => "the layout of this system's store is not known (Debian's, Fedora's, Arch's and SUSE's are)",
        StoreName::Nss => "there is no store of Chromium's or Firefox's here; start the browser once to make one",
        StoreName::Java => "there is no Java here (neither JAVA_HOME nor keytool on the path)",
    }
}

/// True when the store is as it should be.
fn treat(ca: &Ca, store: &Store, kind: Kind, dry_run: bool) -> bool {
    let Store { name, present, missing, .. } = store;
    let (steps, done, needless) = match kind {
        Kind::Install => (&store.install, "added to", *present),
        Kind::Uninstall => (&store.uninstall, "removed from", !*present),
    };
    if let Some(how) = missing {
        eprintln!("{name}: cannot be changed, {how}");
        return false;
    }
    if needless {
        let state = if kind == Kind::Install { "already in" } else { "not in" };
        println!("{state} {name}");
        return true;
    }
    if dry_run {
        println!("would be {done} {name}:");
        steps.iter().for_each(|step| println!("    {}", step.command(ca)));
        return true;
    }
    for (at, step) in steps.iter().enumerate() {
        if let Err(why) = step.carry_out(ca) {
            eprintln!("{name}: {why}");
            eprintln!("  to do it yourself:");
            steps[at..].iter().for_each(|step| eprintln!("    {}{}", sudo(&why), step.command(ca)));
            return false;
        }
    }
    println!("{done} {name}");
    true
}

fn sudo(why: &str) -> &'static str {
    let lower = why.to_ascii_lowercase();
    if ["permission denied", "not permitted", "read-only"].iter().any(|words| lower.contains(words)) { "sudo " } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_with_and_without_colons() {
        let text = "AB:".repeat(31) + "CD";
        let ca = Ca::by_fingerprint(&text).ok().unwrap();
        assert_eq!(ca.nickname(), "gatepass CA abababababababab");
        assert!(Ca::by_fingerprint("abc").is_err());
    }
}
