use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::key::base64;
use super::*;
use crate::secret::Secret;

const VECTORS: &str = include_str!("../../../tests/vectors/jwt.json");

pub fn verifies(jwk: &Map<String, Json>, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
    let number = |name: &str| base64(jwk[name].as_str().unwrap()).unwrap();
    let rsa = |parameters| {
        RsaPublicKeyComponents { n: &number("n")[..], e: &number("e")[..] }.verify(parameters, message, signature).is_ok()
    };
    let point = |width: usize| {
        let padded = |name| [vec![0; width - number(name).len()], number(name).to_vec()].concat();
        [vec![4], padded("x"), padded("y")].concat()
    };
    match algorithm {
        Algorithm::Rs256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => rsa(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => rsa(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => rsa(&RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => rsa(&RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => rsa(&RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(32)).verify(message, signature).is_ok(),
        Algorithm::Es384 => UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point(48)).verify(message, signature).is_ok(),
        Algorithm::Es512 => UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point(66)).verify(message, signature).is_ok(),
        Algorithm::EdDsa => UnparsedPublicKey::new(&ED25519, &number("x")[..]).verify(message, signature).is_ok(),
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => unreachable!("compared whole"),
    }
}

#[test]
fn every_published_and_computed_token_is_reproduced_or_verifies() {
    let file: Json = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 17);
    for vector in vectors {
        let (id, jwk) = (vector["id"].as_str().unwrap(), vector["jwk"].as_object().unwrap());
        let algorithm = Algorithm::named(vector["alg"].as_str().unwrap()).unwrap();
        let text = |name: &str| vector[name].as_str().unwrap();
        let pem = vector["private_key_pem_pkcs8"].as_str().map(|pem| Key::read(pem, None).unwrap());
        for key in [Some(Key::read(&Json::Object(jwk.clone()).to_string(), None).unwrap()), pem].into_iter().flatten() {
            let signer = Signer::new(key, Some(algorithm)).unwrap();
            let token = signer.compact(text("protected_header"), text("payload").as_bytes()).unwrap();
            let (input, signature) = token.rsplit_once('.').unwrap();
            assert_eq!(input, format!("{}.{}", text("protected_header_b64u"), text("payload_b64u")), "{id}");
            if vector["deterministic"] == true {
                assert_eq!(token, text("expected_compact"), "{id}");
                continue;
            }
            assert!(verifies(jwk, algorithm, input.as_bytes(), &base64(signature).unwrap()), "{id}");
            let (input, published) = text("one_valid_compact").rsplit_once('.').unwrap();
            assert!(verifies(jwk, algorithm, input.as_bytes(), &base64(published).unwrap()), "{id}: as published");
        }
    }
}

#[test]
fn the_thumbprint_of_rfc_7638_is_reproduced_and_private_members_do_not_change_it() {
    let file: Json = serde_json::from_str(VECTORS).unwrap();
    let mut jwk = file["jwk_thumbprint"]["jwk"].as_object().unwrap().clone();
    jwk.insert("alg".to_owned(), "RS256".into());
    jwk.insert("d".to_owned(), "AQAB".into());
    assert_eq!(thumbprint(&jwk), file["jwk_thumbprint"]["expected_sha256_base64url"].as_str().unwrap());
}

#[test]
fn a_public_key_is_the_private_ones_half_in_every_family() {
    let file: Json = serde_json::from_str(VECTORS).unwrap();
    for vector in file["vectors"].as_array().unwrap() {
        let jwk = vector["jwk"].as_object().unwrap();
        let key = Key::read(&Json::Object(jwk.clone()).to_string(), None).unwrap();
        let Some(public) = key.public_jwk() else {
            assert_eq!(jwk["kty"], "oct");
            continue;
        };
        assert!(public.iter().all(|(name, value)| jwk[name] == *value), "{}", vector["id"]);
        assert_eq!(key.thumbprint(), Some(thumbprint(jwk)));
    }
    let (one, other) = (Key::generate().unwrap(), Key::generate().unwrap());
    assert_eq!(one.usual(), Algorithm::Es256);
    assert_ne!(one.thumbprint(), other.thumbprint());
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn every_dress_of_a_pem_key_gives_the_same_key() {
    let passphrase = Secret::new("gatepass");
    for (plain, others) in [
        (
            "alice.key",
            &["alice.sec1.pem", "alice.aes256.pem", "alice.p8.aes256.pem", "alice.p8.scrypt.pem", "alice.params.pem"][..],
        ),
        ("bob.key", &["bob.pkcs1.pem", "bob.aes128.pem", "bob.des3.pem"]),
    ] {
        let wanted = Key::read(&fixture(plain), None).unwrap().thumbprint().unwrap();
        for other in others {
            let key = Key::read(&fixture(other), Some(&passphrase)).unwrap_or_else(|refused| panic!("{other}: {refused:?}"));
            assert_eq!(key.thumbprint().unwrap(), wanted, "{other}");
        }
    }
}

#[test]
fn what_is_no_private_key_is_refused_with_the_mend_and_never_shown() {
    let refused = |text: &str| Key::read(text, None).err().unwrap_or_else(|| panic!("{text} was taken"));
    let file: Json = serde_json::from_str(VECTORS).unwrap();
    let mut public = file["vectors"][1]["jwk"].as_object().unwrap().clone();
    public.retain(|name, _| matches!(name.as_str(), "kty" | "n" | "e"));
    let mut short = file["vectors"][1]["jwk"].as_object().unwrap().clone();
    short.remove("qi");
    let object = |map: &Map<String, Json>| Json::Object(map.clone()).to_string();
    for (text, message) in [
        (fixture("alice.crt"), "this holds a certificate, and no private key"),
        (fixture("alice.p8.aes256.pem"), "this private key is under a passphrase"),
        (fixture("ed448.key"), "this private key is of a kind that cannot sign here"),
        ("s3cret".to_owned(), "this is no private key"),
        ("{ s3cret".to_owned(), "this JWK is not a JSON object"),
        (r#"{"keys":[]}"#.to_owned(), "this is a set of keys"),
        (r#"{"kty":"EC","crv":"secp256k1","d":"s3cret"}"#.to_owned(), "this private key is of a kind that cannot sign here"),
        (r#"{"kty":"EC","crv":"P-256","d":"!","x":"!","y":"!"}"#.to_owned(), "this JWK has a `x` that is not Base64"),
        (
            r#"{"kty":"EC","crv":"P-256","d":"AQ","x":"AQ","y":"AQ"}"#.to_owned(),
            "this JWK holds a key that does not hold together",
        ),
        (object(&public), "this JWK is a public key"),
        (object(&short), "this JWK has no `qi`"),
        ("data:application/pkcs8;base64,AAAA".to_owned(), "this data URI holds no private key"),
    ] {
        let refused = refused(&text);
        assert_eq!(refused.message, message);
        assert!(!refused.help.is_empty() && !refused.help.contains("s3cret"));
    }
    let wrong = Key::read(&fixture("alice.p8.aes256.pem"), Some(&Secret::new("no"))).err().unwrap();
    assert_eq!(wrong.message, "this private key does not open with its passphrase");
    let key = Key::read(&fixture("alice.key"), None).unwrap();
    let misfit = Signer::new(key, Some(Algorithm::Rs256)).err().unwrap();
    assert_eq!(misfit.message, "an EC key on P-256 cannot sign by RS256");
    assert!(misfit.help.contains("ES256"), "{}", misfit.help);
}
