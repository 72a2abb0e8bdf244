//! PEM as it is found: text around the blocks, Windows line ends, a byte-order mark, broken blocks in
//! the middle. Parsers that stop at the first oddity, or skip it silently, help nobody.

/// One block of a file.
pub struct Block {
    /// `CERTIFICATE`, `RSA PRIVATE KEY`, …
    pub label: String,
    /// Position in the file, from 1.
    pub number: usize,
    /// The bytes, or why there are none.
    pub content: Result<Content, String>,
}

pub struct Content {
    pub der: Vec<u8>,
    /// `DEK-Info` of a key in the old encrypted form (RFC 1421 §4.6.1.3).
    pub dek_info: Option<String>,
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Every block of a text, good or broken, in order.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let after = &rest[at + BEGIN.len()..];
        let number = found.len() + 1;
        let Some(dashes) = after.find(DASHES) else { break };
        let label = after[..dashes].to_owned();
        let end = format!("{END}{label}{DASHES}");
        let next_begin = after.find(BEGIN).unwrap_or(after.len());
        match after.find(&end).filter(|end_at| *end_at < next_begin) {
            Some(end_at) => {
                let body = &after[dashes + DASHES.len()..end_at];
                found.push(Block { content: content(&label, body), label, number });
                rest = &after[end_at + end.len()..];
            }
            None => {
                found.push(Block { content: Err(format!("there is no `{end}` line")), label, number });
                rest = &after[next_begin..];
            }
        }
    }
    found
}

/// Lines are trimmed and put back into the canonical form, so that indented or CRLF files decode too.
fn content(label: &str, body: &str) -> Result<Content, String> {
    let lines: Vec<&str> = body.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let dek_info = lines.iter().find_map(|line| line.strip_prefix("DEK-Info:")).map(|value| value.trim().to_owned());
    let data: Vec<&str> = lines.into_iter().filter(|line| !line.contains(':')).collect();
    let canonical = format!("{BEGIN}{label}{DASHES}\n{}\n{END}{label}{DASHES}\n", data.join("\n"));
    match pem::parse(&canonical) {
        Ok(parsed) if !parsed.contents().is_empty() => Ok(Content { der: parsed.into_contents(), dek_info }),
        Ok(_) => Err("it is empty".to_owned()),
        Err(_) => Err("it is not valid base64".to_owned()),
    }
}

/// Is this the label of a certificate?
pub fn is_certificate(label: &str) -> bool {
    matches!(label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE")
}

/// The DER of a certificate block; OpenSSL's TRUSTED CERTIFICATE carries trust settings behind the
/// certificate, which are cut off.
pub fn certificate_der(label: &str, der: Vec<u8>) -> Vec<u8> {
    if label != "TRUSTED CERTIFICATE" {
        return der;
    }
    match x509_parser::parse_x509_certificate(&der) {
        Ok((rest, _)) => der[..der.len() - rest.len()].to_vec(),
        Err(_) => der,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_among_junk_and_broken_ones_are_told() {
        let text = "# bundle\r\n-----BEGIN CERTIFICATE-----\r\n  AAEC\r\n-----END CERTIFICATE-----\r\njunk\n-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE----------BEGIN CERTIFICATE-----\nAwQF\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nAAEC";
        let found = blocks(text);
        let states: Vec<_> = found.iter().map(|b| b.content.as_ref().map(|c| c.der.clone()).map_err(Clone::clone)).collect();
        assert_eq!(states.len(), 4);
        assert_eq!(states[0], Ok(vec![0, 1, 2]));
        assert!(states[1].is_err());
        assert_eq!(states[2], Ok(vec![3, 4, 5]));
        assert!(states[3].as_ref().unwrap_err().contains("-----END CERTIFICATE-----"));
    }
}
