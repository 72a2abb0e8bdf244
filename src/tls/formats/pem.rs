//! A tolerant reader of PEM files (RFC 7468), for files as people have them: text around the blocks,
//! CRLF, a byte-order mark, UTF-16 from a Windows shell, indentation, blocks that touch, encapsulated
//! headers (RFC 1421 §4.6.1.1). A broken block does not hide the others: it is returned as broken,
//! with its line, so that the caller can say which one.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::ber::{CONTEXT_0, Element, OID, SEQUENCE};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
/// What is wrong with a block that is cut off: the file may be being written.
pub const CUT_OFF: &str = "it has no END line";
const DASHES: &str = "-----";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// One `-----BEGIN …-----` and what follows it.
pub struct Block {
    /// `CERTIFICATE`, `PRIVATE KEY`, …
    pub label: String,
    /// 1 for the file's first block.
    pub number: usize,
    /// Line of the `BEGIN`, from 1.
    pub line: usize,
    /// `Proc-Type: …`, `DEK-Info: …`
    pub headers: Vec<(String, String)>,
    /// DER, or what is wrong with the block.
    pub contents: Result<Zeroizing<Vec<u8>>, &'static str>,
}

impl Block {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn is_certificate(&self) -> bool {
        matches!(self.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE")
    }

    pub fn is_private_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }

    /// The certificate in this block. OpenSSL's `TRUSTED CERTIFICATE` carries trust settings behind
    /// the certificate; they are cut off.
    pub fn certificate(&self) -> Result<&[u8], &'static str> {
        let der = self.contents.as_ref().map_err(|wrong| *wrong)?;
        if self.label == "TRUSTED CERTIFICATE" {
            return first_element(der).ok_or("it does not hold a certificate");
        }
        Ok(der)
    }
}

impl Block {
    /// OpenSSL's `TRUSTED CERTIFICATE` may say what its certificate is trusted and not trusted for
    /// (`openssl x509 -addtrust`, `-addreject`): `SEQUENCE { trust SEQUENCE OF OID OPTIONAL, reject [0] … OPTIONAL, … }` behind the
    /// certificate. False: not for servers. Settings that cannot be read are taken for a no.
    pub fn is_trusted_for_servers(&self) -> bool {
        let (true, Ok(der)) = (self.label == "TRUSTED CERTIFICATE", &self.contents) else { return true };
        let settings = first_element(der).map_or(&[][..], |certificate| &der[certificate.len()..]);
        if settings.is_empty() {
            return true;
        }
        let Some(settings) = Element::read(settings) else { return false };
        let names_servers = |list: &Element| {
            list.children().iter().filter_map(|oid| oid.body(OID)).any(|oid| [SERVER_AUTH, ANY_USE].contains(&oid))
        };
        let list = |tag: u8| settings.children().iter().find(|list| list.tag() == tag);
        !list(CONTEXT_0).is_some_and(names_servers) && list(SEQUENCE).is_none_or(names_servers)
    }
}

/// id-kp-serverAuth and anyExtendedKeyUsage (RFC 5280 §4.2.1.12).
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const ANY_USE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// True when this looks like PEM rather than DER.
pub fn is_pem(bytes: &[u8]) -> bool {
    text(bytes).contains(BEGIN)
}

/// All blocks, in order.
pub fn read(bytes: &[u8]) -> Vec<Block> {
    let text = text(bytes);
    let mut blocks: Vec<Block> = Vec::new();
    let (mut rest, mut line) = (0, 1);
    while let Some(found) = text[rest..].find(BEGIN) {
        let start = rest + found;
        line += line_ends(&text[rest..start]);
        let (block, next) = read_block(&text, start, line, blocks.len() + 1);
        line += line_ends(&text[start..next]);
        blocks.push(block);
        rest = next;
    }
    blocks
}

fn line_ends(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

/// The block that begins at `start`, and where to look for the next one.
fn read_block(text: &str, start: usize, line: usize, number: usize) -> (Block, usize) {
    let after = start + BEGIN.len();
    let broken = |label: &str, wrong, next| {
        (Block { label: label.to_owned(), number, line, headers: Vec::new(), contents: Err(wrong) }, next)
    };
    let first_line = text[after..].split(['\n', '\r']).next().unwrap_or_default();
    let Some(label_end) = first_line.find(DASHES) else {
        return broken(first_line.trim(), "its BEGIN line does not end in `-----`", after);
    };
    let label = &first_line[..label_end];
    let body_start = after + label_end + DASHES.len();
    // A block without an END must not swallow the next one.
    let next_begin = text[body_start..].find(BEGIN).map_or(text.len(), |at| body_start + at);
    let Some(body_end) = text[body_start..next_begin].find(END).map(|at| body_start + at) else {
        return broken(label, CUT_OFF, next_begin);
    };
    let after_end = body_end + END.len();
    if !text[after_end..].starts_with(label) || !text[after_end + label.len()..].starts_with(DASHES) {
        return broken(label, "its END line names something else than its BEGIN line", after_end);
    }
    let (headers, body) = split_headers(&text[body_start..body_end]);
    let contents = decode(body);
    (Block { label: label.to_owned(), number, line, headers, contents }, after_end + label.len() + DASHES.len())
}

/// Encapsulated headers end at the first empty line (RFC 1421 §4.4); a body without a colon has none.
fn split_headers(body: &str) -> (Vec<(String, String)>, &str) {
    if !body.contains(':') {
        return (Vec::new(), body);
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut at = 0;
    for line in body.split_inclusive('\n') {
        let trimmed = line.trim();
        if let Some((name, value)) = trimmed.split_once(':') {
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        } else if trimmed.is_empty() && !headers.is_empty() {
            return (headers, &body[at + line.len()..]);
        } else if !trimmed.is_empty() {
            match headers.last_mut() {
                // A folded header line begins with white space.
                Some((_, value)) if line.starts_with([' ', '\t']) => value.push_str(trimmed),
                _ => return (headers, &body[at..]),
            }
        }
        at += line.len();
    }
    (headers, "")
}

fn decode(body: &str) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let packed = Zeroizing::new(body.bytes().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<u8>>());
    if packed.is_empty() {
        return Err("it is empty");
    }
    BASE64.decode(&*packed).map(Zeroizing::new).map_err(|_| "it is not valid Base64")
}

/// The bytes as text: UTF-16 where a byte-order mark says so, anything else as UTF-8 with what is
/// not UTF-8 (a comment in Latin-1) replaced.
fn text(bytes: &[u8]) -> Zeroizing<String> {
    let utf16 = |wide: fn([u8; 2]) -> u16| {
        let units = bytes[2..].chunks_exact(2).map(|pair| wide([pair[0], pair[1]]));
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    Zeroizing::new(match bytes {
        [0xff, 0xfe, ..] => utf16(u16::from_le_bytes),
        [0xfe, 0xff, ..] => utf16(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    })
}

/// The first DER element of `der`, without what follows it.
pub fn first_element(der: &[u8]) -> Option<&[u8]> {
    let length = *der.get(1)?;
    if length < 0x80 {
        return der.get(..2 + usize::from(length));
    }
    let octets = usize::from(length & 0x7f);
    if octets == 0 || octets > 4 {
        return None;
    }
    let size = der.get(2..2 + octets)?.iter().fold(0usize, |size, octet| size << 8 | usize::from(*octet));
    der.get(..(2 + octets).checked_add(size)?)
}

/// A PEM block, for files that gatepass writes.
pub fn encode(label: &str, der: &[u8]) -> String {
    ::pem::encode_config(&::pem::Pem::new(label, der), ::pem::EncodeConfig::new().set_line_ending(::pem::LineEnding::LF))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(bytes: &[u8]) -> Vec<String> {
        read(bytes).into_iter().map(|b| b.label).collect()
    }

    const TWO: &str = "junk\n-----BEGIN A-----\nAAEC\n-----END A-----\nsubject=x\n-----BEGIN B C-----\nAwQF\n-----END B C-----\n";

    #[test]
    fn text_around_blocks_line_ends_marks_and_indentation_do_not_matter() {
        let crlf = TWO.replace('\n', "\r\n");
        let bom = format!("\u{feff}{}", &TWO[5..]);
        let indented = TWO.replace('\n', "\n   ");
        let touching = TWO.replace("-----END A-----\nsubject=x\n", "-----END A-----");
        let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(TWO.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let latin1 = [b"caf\xe9\n", TWO.as_bytes()].concat();
        for bytes in [TWO.as_bytes(), crlf.as_bytes(), bom.as_bytes(), indented.as_bytes(), touching.as_bytes(), &utf16, &latin1]
        {
            let blocks = read(bytes);
            assert_eq!(blocks.len(), 2);
            assert_eq!(blocks[0].contents.as_ref().unwrap().as_slice(), [0, 1, 2]);
            assert_eq!(blocks[1].contents.as_ref().unwrap().as_slice(), [3, 4, 5]);
            assert_eq!(blocks[1].label, "B C");
        }
    }

    #[test]
    fn a_broken_block_is_named_and_hides_no_other() {
        let text = "-----BEGIN A-----\nAAEC\n-----BEGIN B-----\nA*EC\n-----END B-----\n-----BEGIN C-----\nAAEC\n-----END D-----\n-----BEGIN E-----\nAAEC\n-----END E-----\n-----BEGIN F-----\nAA";
        let blocks = read(text.as_bytes());
        assert_eq!(labels(text.as_bytes()), ["A", "B", "C", "E", "F"]);
        let good: Vec<_> = blocks.iter().map(|b| b.contents.is_ok()).collect();
        assert_eq!(good, [false, false, false, true, false]);
        let at: Vec<_> = blocks.iter().map(|b| (b.number, b.line)).collect();
        assert_eq!(at, [(1, 1), (2, 3), (3, 6), (4, 9), (5, 12)]);
    }

    #[test]
    fn encapsulated_headers_are_told_from_the_body() {
        let text = "-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-128-CBC,00\r\n\r\nAAEC\r\n-----END RSA PRIVATE KEY-----";
        let blocks = read(text.as_bytes());
        assert_eq!(blocks[0].header("proc-type"), Some("4,ENCRYPTED"));
        assert_eq!(blocks[0].header("DEK-Info"), Some("AES-128-CBC,00"));
        assert_eq!(blocks[0].contents.as_ref().unwrap().as_slice(), [0, 1, 2]);
    }

    #[test]
    fn der_is_not_taken_for_pem() {
        assert!(!is_pem(&[0x30, 0x82, 0x01, 0x00]));
        assert!(read(b"").is_empty());
    }

    #[test]
    fn the_first_element_ends_where_its_length_says() {
        assert_eq!(first_element(&[0x30, 1, 7, 9]), Some(&[0x30, 1, 7][..]));
        assert_eq!(first_element(&[0x30, 0x81, 1, 7, 9]), Some(&[0x30, 0x81, 1, 7][..]));
        for short in [&[][..], &[0x30], &[0x30, 2, 1], &[0x30, 0x80, 0, 0], &[0x30, 0x85, 1, 1, 1, 1, 1]] {
            assert_eq!(first_element(short), None, "{short:?}");
        }
    }
}
