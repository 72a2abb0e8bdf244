//! Key exchange over P-521, for those who hold a certificate with such a key. rustls' provider leaves the
//! group out, and OpenSSL's servers take a client certificate at TLS 1.2 only if its curve is among the groups
//! that the client offers (RFC 8422 §5.1.1 has that for the server's certificate; OpenSSL for both).

use std::sync::Arc;

use aws_lc_rs::agreement::{ECDH_P521, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use aws_lc_rs::rand::SystemRandom;
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};

use super::identity::Identity;

/// The provider, with this group as the last choice where an identity needs it.
pub fn provider_for(identities: &[Arc<Identity>]) -> Arc<CryptoProvider> {
    let provider = crate::tls::provider();
    if !identities.iter().any(|identity| identity.details().key_type == "EC P-521") {
        return provider;
    }
    let mut wider = (*provider).clone();
    wider.kx_groups.push(&P521);
    Arc::new(wider)
}

#[derive(Debug)]
struct P521;

impl SupportedKxGroup for P521 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let private = EphemeralPrivateKey::generate(&ECDH_P521, &SystemRandom::new()).map_err(|_| GetRandomFailed)?;
        let public = private.compute_public_key().map_err(|_| GetRandomFailed)?;
        Ok(Box::new(Exchange { private, public: public.as_ref().to_vec() }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

struct Exchange {
    private: EphemeralPrivateKey,
    public: Vec<u8>,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let wrong = || Error::from(PeerMisbehaved::InvalidKeyShare);
        // Uncompressed points alone (RFC 8446 §4.2.8.2, RFC 8422 §5.4.1).
        if peer.first() != Some(&4) {
            return Err(wrong());
        }
        let peer = UnparsedPublicKey::new(&ECDH_P521, peer);
        agree_ephemeral(self.private, peer, wrong(), |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sides_agree_on_a_secret_and_a_bad_point_is_refused() {
        let (a, b) = (P521.start().unwrap(), P521.start().unwrap());
        let (public_a, public_b) = (a.pub_key().to_vec(), b.pub_key().to_vec());
        assert_eq!(public_a.len(), 133);
        assert_eq!(a.complete(&public_b).unwrap().secret_bytes(), b.complete(&public_a).unwrap().secret_bytes());
        let mut off_curve = public_b.clone();
        off_curve[132] ^= 1;
        for bad in [&off_curve[..], &public_b[1..], &[], &[4]] {
            assert!(P521.start().unwrap().complete(bad).is_err());
        }
    }
}
