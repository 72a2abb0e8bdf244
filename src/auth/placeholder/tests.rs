//! Where a placeholder is found, and what is none.

use super::*;
use crate::replace::Replacer;

#[test]
fn a_path_or_query_is_changed_only_where_the_dummy_stands_however_it_is_encoded() {
    let swap = |text: &str| places::decoded(text, "gp-dummy-123", "r%2Fv");
    assert_eq!(swap("/v1/gp-dummy-123/x").as_deref(), Some("/v1/r%2Fv/x"));
    assert_eq!(swap("k=gp%2Ddummy%2d12%33&b=%2F").as_deref(), Some("k=r%2Fv&b=%2F"));
    assert_eq!(swap("gp-dummy-123gp-dummy-123").as_deref(), Some("r%2Fvr%2Fv"));
    for text in ["k=gp-dummy-12", "k=GP-DUMMY-123", "", "%", "%g", "gp%-dummy-123", "k=gp-dummy-12%"] {
        assert_eq!(swap(text), None, "{text}");
    }
}

#[test]
fn basic_credentials_are_opened_and_closed_again() {
    let mut swap = Replacer::new(vec![Replacement::new("gp-dummy-123", "real: value")]);
    let swapped = places::basic(b"bAsIc dXNlcjpncC1kdW1teS0xMjM=", &mut swap).unwrap();
    assert_eq!(swapped, b"bAsIc dXNlcjpyZWFsOiB2YWx1ZQ==");
    for other in ["Basic dXNlcjpvdGhlcg==", "Basic !", "Basic ", "Bearer dXNlcjpncC1kdW1teS0xMjM=", "Ba"] {
        assert_eq!(places::basic(other.as_bytes(), &mut swap), None, "{other}");
    }
}
