//! The name of a key on a token: the PKCS#11 URIs of RFC 7512.

use std::fmt;
use std::path::PathBuf;

use crate::settings::shown::forms::TOKEN_ATTRIBUTES;

/// What a URI asks for. Empty: not said, everything fits.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct TokenUri {
    /// Attributes of module, slot and token with their values, as `("token", "my card")`.
    pub place: Vec<(&'static str, String)>,
    /// `CKA_LABEL` of the key.
    pub object: Option<String>,
    /// `CKA_ID` of the key.
    pub id: Option<Vec<u8>>,
    pub module_name: Option<String>,
    pub module_path: Option<PathBuf>,
}

/// A URI, and what stood in it that must not be shown.
pub struct Parsed {
    pub uri: TokenUri,
    /// `pin-value`.
    pub pin: Option<String>,
    /// `pin-source`, a `file:` URI or a path.
    pub pin_file: Option<PathBuf>,
}

impl TokenUri {
    /// # Errors
    /// It is none, in half a sentence. An attribute that is not understood is one too: it could narrow
    /// the choice to another key (RFC 7512 §2.4); vendors' `x-` attributes are passed over.
    pub fn parse(text: &str) -> Result<Parsed, String> {
        let rest = text.strip_prefix("pkcs11:").ok_or("it does not begin with `pkcs11:`")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parsed = Parsed { uri: TokenUri::default(), pin: None, pin_file: None };
        let mut seen: Vec<&str> = Vec::new();
        for part in path.split(';').chain(query.split('&')).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| "one of its attributes has no `=`".to_owned())?;
            if seen.contains(&name) {
                return Err("it says an attribute twice".to_owned());
            }
            seen.push(name);
            parsed.attribute(name, percent_encoding::percent_decode_str(value).collect())?;
        }
        Ok(parsed)
    }
}

impl Parsed {
    fn attribute(&mut self, name: &str, value: Vec<u8>) -> Result<(), String> {
        if name == "id" {
            self.uri.id = Some(value);
            return Ok(());
        }
        let text = String::from_utf8(value).map_err(|_| format!("the value of `{name}` is not UTF-8"))?;
        match name {
            "object" => self.uri.object = Some(text),
            // Certificate and key have the same label and id; either names both.
            "type" if matches!(text.as_str(), "private" | "cert") => {}
            "type" => return Err("its `type` is not a client certificate's key".to_owned()),
            "module-name" => self.uri.module_name = Some(text),
            "module-path" => self.uri.module_path = Some(PathBuf::from(text)),
            // `openssl -engine pkcs11` takes it among the path's attributes, so people write it there.
            "pin-value" => self.pin = Some(text),
            "pin-source" => {
                let path = text.strip_prefix("file://").or(text.strip_prefix("file:")).unwrap_or(&text);
                self.pin_file = Some(PathBuf::from(path));
            }
            vendor if vendor.starts_with("x-") => {}
            _ => match TOKEN_ATTRIBUTES.into_iter().find(|known| *known == name) {
                Some(known) => self.uri.place.push((known, text)),
                None => return Err("it has an attribute that no PKCS#11 URI has".to_owned()),
            },
        }
        Ok(())
    }
}

/// As it was written, but without the PIN.
impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |text: &str| text.replace('%', "%25").replace(';', "%3B").replace(' ', "%20");
        let mut parts: Vec<String> = self.place.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
        parts.extend(self.object.iter().map(|label| format!("object={}", plain(label))));
        parts.extend(self.id.iter().map(|id| format!("id={}", id_text(id))));
        write!(f, "pkcs11:{}", parts.join(";"))
    }
}

/// `%01%a2`, as a URI has it.
pub fn id_text(id: &[u8]) -> String {
    id.iter().map(|byte| format!("%{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> TokenUri {
        TokenUri::parse(text).map_err(|why| format!("{text}: {why}")).unwrap().uri
    }

    #[test]
    fn a_uri_is_taken_apart_and_its_pin_is_kept_out_of_it() {
        let parsed = TokenUri::parse("pkcs11:token=My%20card;object=key;id=%01%A2;type=private?pin-value=12%2634").unwrap();
        assert_eq!(parsed.uri.place, [("token", "My card".to_owned())]);
        assert_eq!(parsed.uri.object.as_deref(), Some("key"));
        assert_eq!(parsed.uri.id.as_deref(), Some(&[1, 0xa2][..]));
        assert_eq!(parsed.pin.as_deref(), Some("12&34"));
        assert_eq!(parsed.uri.to_string(), "pkcs11:token=My%20card;object=key;id=%01%a2");
        assert_eq!(uri("pkcs11:"), TokenUri::default());
        assert_eq!(uri("pkcs11:?module-path=/usr/lib/x.so").module_path.unwrap(), PathBuf::from("/usr/lib/x.so"));
        let parsed = TokenUri::parse("pkcs11:token=a;pin-value=1;x-vendor=2?pin-source=file:/run/pin").unwrap();
        assert_eq!((parsed.pin.as_deref(), parsed.pin_file), (Some("1"), Some(PathBuf::from("/run/pin"))));
    }

    #[test]
    fn a_shown_uri_means_the_same() {
        for text in ["pkcs11:token=a%20b%3Bc%25;object=x;id=%00%ff", "pkcs11:slot-id=3", "pkcs11:"] {
            assert!(uri(&uri(text).to_string()) == uri(text), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, why) in [
            ("token=a", "does not begin"),
            ("pkcs11:token", "no `=`"),
            ("pkcs11:token=a;token=b", "twice"),
            ("pkcs11:tokn=a", "an attribute that no"),
            ("pkcs11:token=%ff", "not UTF-8"),
            ("pkcs11:type=secret-key", "not a client certificate's key"),
        ] {
            let told = TokenUri::parse(text).err().unwrap();
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(pkcs11:)?\\PC{0,60}") {
            let _ = TokenUri::parse(&text);
        }
    }
}
