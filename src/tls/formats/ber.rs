//! Just enough of BER (X.690 §8) to read what NSS and Windows write: elements of indefinite length
//! and octet strings in pieces. Parsed into a tree and written again as DER, which the RustCrypto
//! readers understand. No cryptography here.

pub const INTEGER: u8 = 0x02;
pub const OCTETS: u8 = 0x04;
pub const OID: u8 = 0x06;
pub const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed.
pub const CONTEXT_0: u8 = 0xa0;
/// An octet string in pieces.
const OCTETS_IN_PIECES: u8 = 0x24;
/// Deeper nesting than any certificate or key file has; a file that nests further is refused.
const DEPTH: usize = 32;

/// One element.
#[derive(Clone, PartialEq, Eq)]
pub enum Element {
    Primitive(u8, Vec<u8>),
    Constructed(u8, Vec<Element>),
}

impl Element {
    /// The one element that `bytes` begin with (whatever follows it is ignored); octet strings in
    /// pieces are joined. `None`: not BER, or nested too deeply.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        read_element(bytes, DEPTH).map(|(element, _)| element)
    }

    pub fn sequence(children: Vec<Element>) -> Self {
        Self::Constructed(SEQUENCE, children)
    }

    pub fn octets(bytes: Vec<u8>) -> Self {
        Self::Primitive(OCTETS, bytes)
    }

    /// `body`: the encoded object identifier without tag and length.
    pub fn oid(body: &[u8]) -> Self {
        Self::Primitive(OID, body.to_vec())
    }

    /// `[0] EXPLICIT`.
    pub fn explicit(inner: Element) -> Self {
        Self::Constructed(CONTEXT_0, vec![inner])
    }

    pub fn tag(&self) -> u8 {
        match self {
            Self::Primitive(tag, _) | Self::Constructed(tag, _) => *tag,
        }
    }

    pub fn children(&self) -> &[Element] {
        match self {
            Self::Constructed(_, children) => children,
            Self::Primitive(..) => &[],
        }
    }

    pub fn child(&self, index: usize) -> Option<&Element> {
        self.children().get(index)
    }

    /// The body of a primitive element with this tag.
    pub fn body(&self, tag: u8) -> Option<&[u8]> {
        match self {
            Self::Primitive(own, body) if *own == tag => Some(body),
            _ => None,
        }
    }

    pub fn to_der(&self) -> Vec<u8> {
        let (tag, body) = match self {
            Self::Primitive(tag, body) => (*tag, body.clone()),
            Self::Constructed(tag, children) => (*tag, children.iter().flat_map(Element::to_der).collect()),
        };
        let mut out = vec![tag];
        write_length(body.len(), &mut out);
        out.extend(body);
        out
    }
}

/// A DER length (X.690 §10.1).
fn write_length(length: usize, out: &mut Vec<u8>) {
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let octets: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
            out.push(0x80 | u8::try_from(octets.len()).expect("a usize has at most 8 octets"));
            out.extend(octets);
        }
    }
}

/// The bytes wrapped as a SEQUENCE.
pub fn wrap_sequence(body: &[u8]) -> Vec<u8> {
    let mut out = vec![SEQUENCE];
    write_length(body.len(), &mut out);
    out.extend_from_slice(body);
    out
}

fn read_element(bytes: &[u8], depth: usize) -> Option<(Element, usize)> {
    let depth = depth.checked_sub(1)?;
    let tag = *bytes.first()?;
    if tag & 0x1f == 0x1f {
        return None; // tag numbers above 30 do not occur in these formats
    }
    let (length, start) = read_length(bytes)?;
    let constructed = tag & 0x20 != 0;
    let end = match length {
        Some(length) => start.checked_add(length).filter(|end| *end <= bytes.len())?,
        None if constructed => bytes.len(),
        None => return None,
    };
    if !constructed {
        return Some((Element::Primitive(tag, bytes[start..end].to_vec()), end));
    }
    let (children, used) = read_children(&bytes[start..end], length.is_none(), depth)?;
    Some((build(tag, children)?, start + used))
}

/// `None` inside: the indefinite form (X.690 §8.1.3.6).
fn read_length(bytes: &[u8]) -> Option<(Option<usize>, usize)> {
    match *bytes.get(1)? {
        0x80 => Some((None, 2)),
        short @ 0..0x80 => Some((Some(usize::from(short)), 2)),
        long => {
            let octets = usize::from(long & 0x7f);
            if octets > 4 {
                return None;
            }
            let length = bytes.get(2..2 + octets)?.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
            Some((Some(length), 2 + octets))
        }
    }
}

fn read_children(bytes: &[u8], indefinite: bool, depth: usize) -> Option<(Vec<Element>, usize)> {
    let mut children = Vec::new();
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        if indefinite && rest.starts_with(&[0, 0]) {
            return Some((children, at + 2));
        }
        if rest.is_empty() {
            return if indefinite { None } else { Some((children, at)) };
        }
        let (child, used) = read_element(rest, depth)?;
        children.push(child);
        at += used;
    }
}

fn build(tag: u8, mut children: Vec<Element>) -> Option<Element> {
    if tag == OCTETS_IN_PIECES {
        return Some(Element::Primitive(OCTETS, join(&children)?));
    }
    // EncryptedContentInfo (RFC 5652 §6.1) has its content as `[0] IMPLICIT OCTET STRING`: in pieces
    // it looks like an explicit tag. It is the only sequence of identifier, algorithm, `[0]`.
    if tag == SEQUENCE
        && children.len() == 3
        && children[0].tag() == OID
        && children[1].tag() == SEQUENCE
        && children[2].tag() == CONTEXT_0
    {
        let joined = join(children[2].children())?;
        children[2] = Element::Primitive(0x80, joined);
    }
    Some(Element::Constructed(tag, children))
}

fn join(pieces: &[Element]) -> Option<Vec<u8>> {
    let bodies: Option<Vec<_>> = pieces.iter().map(|piece| piece.body(OCTETS)).collect();
    Some(bodies?.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_comes_out_as_it_went_in() {
        let der = include_bytes!("../../../tests/fixtures/tls/ca.der");
        assert!(Element::read(der).unwrap().to_der() == der);
    }

    #[test]
    fn indefinite_lengths_and_pieces_become_der() {
        let ber = [0x30, 0x80, 0x24, 0x80, 4, 1, 7, 4, 2, 8, 9, 0, 0, 2, 1, 5, 0, 0];
        assert_eq!(Element::read(&ber).unwrap().to_der(), [0x30, 8, 4, 3, 7, 8, 9, 2, 1, 5]);
    }

    #[test]
    fn what_is_cut_short_or_nests_without_end_is_refused() {
        for bad in [&[][..], &[0x30], &[0x30, 5, 1], &[0x30, 0x80, 4, 1, 7], &[4, 0x80, 0, 0], &[0x1f, 1, 0]] {
            assert!(Element::read(bad).is_none(), "{bad:?}");
        }
        assert!(Element::read(&[0x30, 0x80].repeat(10_000)).is_none());
    }
}
