//! What is shown upstream: a certificate chain and its private key.
