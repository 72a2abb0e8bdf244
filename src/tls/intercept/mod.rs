//! TLS towards clients: the [`authority`] signs, within its [`constraints`], the [`leaves`] for intercepted hosts;
//! [`server`] makes listeners speak TLS with a certificate of the user's own.

pub mod authority;
pub mod constraints;
pub mod leaves;
pub mod server;
