//! The only place where TLS configurations are made.

pub mod authority;
pub mod identity;
pub mod trust;
