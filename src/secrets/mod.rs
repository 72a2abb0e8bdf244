//! Where secrets come from that the configuration only names.
//!
//! Each source is a file with a [`Provider`](crate::provided::Provider), and a case of [`reference()`]. They stand above
//! `upstream`, so that one that asks over the network does so by a way out of gatepass's own, with its trust and its
//! proxies; `upstream` itself, which needs passwords for proxies, is handed [`reference()`] and knows no source.

mod command;
pub mod helper;

use crate::provided::SecretRef;
use crate::settings::Text;
use command::CommandProvider;

/// How the secret of a text of the configuration is had.
pub fn reference(text: Text) -> SecretRef {
    match text {
        Text::Known(secret) => SecretRef::Known(secret),
        Text::Command(command) => SecretRef::by(CommandProvider(command)),
    }
}
