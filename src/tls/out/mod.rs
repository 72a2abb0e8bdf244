//! TLS towards servers: who we are, whom we believe, and the client made of both.
//!
//! An [`identity`] is shown (read from files, held by a [`token`], sent by a workload's agent as an [`svid`]), a
//! [`trust`] decides whom to believe and [`verify`] asks it; a [`client`] holds the configurations made of both with a
//! session store of its own, and [`explain`] says in words why a handshake failed.

pub mod client;
pub mod client_spec;
pub mod expiry;
pub mod explain;
pub mod handshake;
pub mod identity;
#[cfg(feature = "openssl")]
pub mod openssl;
mod p521;
mod raw_key;
pub mod stream;
pub mod svid;
pub mod svid_origin;
pub mod token;
pub mod trust;
pub mod verify;
