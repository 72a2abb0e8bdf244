//! Promises, one module each; the names of the tests are the promises.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod connections;
mod cookies;
mod credentials;
mod destinations;
mod echoes;
mod endings;
mod explanations;
mod framing;
mod identities;
mod informational;
mod lifetimes;
mod messages;
mod mistakes;
mod oauth2;
mod onboarding;
mod operation;
#[cfg(feature = "pac")]
mod pac;
mod placeholders;
mod protocols;
mod proxies;
mod records;
mod refusals;
mod rotation;
mod schema;
mod secrets_shown;
mod signing;
mod targets;
mod upgrades;
mod waiting;
mod ways_in;
mod web_pages;
