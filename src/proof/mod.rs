//! Answers to challenges, pure: how challenges are read, what Digest computes, the messages of NTLM, what binds
//! them to a TLS connection. `auth` proves the user to origins with them, `upstream` to proxies.

pub mod binding;
pub mod challenge;
pub mod digest;
#[cfg_attr(not(feature = "negotiate"), path = "gss_absent.rs")]
pub mod gss;
pub mod ntlm;
