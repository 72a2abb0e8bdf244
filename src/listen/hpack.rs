//! Header blocks of HTTP/2 read (RFC 7541): enough to see what a client asks for before hyper judges it.

use std::collections::VecDeque;

use bytes::Bytes;

/// SETTINGS_HEADER_TABLE_SIZE, of which hyper says nothing (RFC 9113 §6.5.2).
const TABLE: usize = 4096;
/// What an entry counts beside its texts (RFC 7541 §4.1).
const ENTRY: usize = 32;
/// More than hyper lets a block have, once it is read.
const LONGEST: usize = 1024 * 1024;

pub type Field = (Bytes, Bytes);

/// The fields that a client's blocks refer to.
pub struct Table {
    entries: VecDeque<Field>,
    size: usize,
    most: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, most: TABLE }
    }
}

impl Table {
    /// The fields of a whole block. `None`: it is malformed, and no further block can be read.
    pub fn read(&mut self, mut block: &[u8]) -> Option<Vec<Field>> {
        let mut fields = Vec::with_capacity(16);
        let mut length = 0;
        while let Some(first) = block.first() {
            let field = match first {
                0x80.. => {
                    let index = integer(&mut block, 7)?;
                    self.get(index)?
                }
                0x40.. => {
                    let field = self.literal(&mut block, 6)?;
                    self.insert(field.clone());
                    field
                }
                0x20.. => {
                    let most = integer(&mut block, 5)?;
                    self.resize(most)?;
                    continue;
                }
                _ => self.literal(&mut block, 4)?,
            };
            length += field.0.len() + field.1.len() + ENTRY;
            if length > LONGEST {
                return None;
            }
            fields.push(field);
        }
        Some(fields)
    }

    fn get(&self, index: usize) -> Option<Field> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some((name, value)) => Some((Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes()))),
            None => self.entries.get(index - STATIC.len()).cloned(),
        }
    }

    fn literal(&self, block: &mut &[u8], prefix: u32) -> Option<Field> {
        let name = match integer(block, prefix)? {
            0 => text(block)?,
            index => self.get(index)?.0,
        };
        Some((name, text(block)?))
    }

    fn insert(&mut self, field: Field) {
        let size = field.0.len() + field.1.len() + ENTRY;
        self.shrink(self.most.saturating_sub(size));
        // One that is larger than all leaves the table empty (RFC 7541 §4.4).
        if size <= self.most {
            self.size += size;
            self.entries.push_front(field);
        }
    }

    fn resize(&mut self, most: usize) -> Option<()> {
        self.most = Some(most).filter(|most| *most <= TABLE)?;
        self.shrink(most);
        Some(())
    }

    fn shrink(&mut self, most: usize) {
        while self.size > most
            && let Some((name, value)) = self.entries.pop_back()
        {
            self.size -= name.len() + value.len() + ENTRY;
        }
    }
}

fn integer(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let mask = (1usize << prefix) - 1;
    let (first, rest) = block.split_first()?;
    *block = rest;
    let mut number = usize::from(*first) & mask;
    if number < mask {
        return Some(number);
    }
    for shift in [0, 7, 14, 21] {
        let (next, rest) = block.split_first()?;
        *block = rest;
        number += (usize::from(*next) & 127) << shift;
        if next & 128 == 0 {
            return Some(number);
        }
    }
    None
}

fn text(block: &mut &[u8]) -> Option<Bytes> {
    let is_coded = block.first()? & 128 != 0;
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    if is_coded { decoded(text).map(Bytes::from) } else { Some(Bytes::copy_from_slice(text)) }
}

/// RFC 7541 §5.2.
fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(coded.len() * 8 / 5);
    let (mut bits, mut have) = (0u64, 0u32);
    let mut coded = coded.iter();
    loop {
        while have <= 32
            && let Some(byte) = coded.next()
        {
            bits = bits << 8 | u64::from(*byte);
            have += 8;
        }
        let Some((symbol, length)) = HUFFMAN.symbol(bits, have) else {
            // What is left is the beginning of the end's own code, and less than a byte.
            let ones = (1u64 << have) - 1;
            return (have < 8 && bits & ones == ones).then_some(text);
        };
        text.push(u8::try_from(symbol).ok()?);
        have -= length;
    }
}

const SHORTEST: usize = 5;
const LONGEST_CODE: usize = 30;

/// Appendix B. The code is canonical: by its lengths alone, symbols of the same length in their order.
struct Huffman {
    /// By length: the first code, how many there are, and where their symbols begin.
    first: [u32; LONGEST_CODE + 1],
    count: [u32; LONGEST_CODE + 1],
    start: [usize; LONGEST_CODE + 1],
    symbols: [u16; 257],
}

static HUFFMAN: Huffman = Huffman::new();

impl Huffman {
    const fn new() -> Self {
        let mut huffman =
            Self { first: [0; LONGEST_CODE + 1], count: [0; LONGEST_CODE + 1], start: [0; LONGEST_CODE + 1], symbols: [0; 257] };
        let (mut length, mut code, mut filled) = (SHORTEST, 0, 0);
        while length <= LONGEST_CODE {
            huffman.first[length] = code;
            huffman.start[length] = filled;
            let mut symbol = 0;
            while symbol < 257 {
                if LENGTHS[symbol] as usize == length {
                    huffman.symbols[filled] = symbol as u16;
                    filled += 1;
                    code += 1;
                }
                symbol += 1;
            }
            huffman.count[length] = code - huffman.first[length];
            code <<= 1;
            length += 1;
        }
        huffman
    }

    /// The symbol at the front of the last `have` of these bits, and the length of its code.
    fn symbol(&self, bits: u64, have: u32) -> Option<(u16, u32)> {
        for length in SHORTEST..=LONGEST_CODE {
            let left = have.checked_sub(length as u32)?;
            let code = (bits >> left) as u32 & ((1u32 << length) - 1);
            let at = code.wrapping_sub(self.first[length]);
            if at < self.count[length] {
                return Some((self.symbols[self.start[length] + at as usize], length as u32));
            }
        }
        None
    }
}

#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19,
    22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
    27, 27, 27, 26, 30,
];

/// Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::interim::literal;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    }

    fn read(table: &mut Table, block: &str) -> Option<String> {
        let fields = table.read(&hex(block))?;
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        Some(fields.iter().map(|(name, value)| format!("{}={}\n", text(name), text(value))).collect())
    }

    const FIRST: &str = ":method=GET\n:scheme=http\n:path=/\n:authority=www.example.com\n";

    #[test]
    fn requests_of_rfc_7541_appendix_c_3_and_c_4_are_read_with_and_without_huffman_codes() {
        for blocks in [
            [
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "8286 84be 5808 6e6f 2d63 6163 6865",
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            ],
            [
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                "8286 84be 5886 a8eb 1064 9cbf",
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ],
        ] {
            let mut table = Table::default();
            assert_eq!(read(&mut table, blocks[0]).unwrap(), FIRST);
            assert_eq!(read(&mut table, blocks[1]).unwrap(), format!("{FIRST}cache-control=no-cache\n"));
            let third = ":method=GET\n:scheme=https\n:path=/index.html\n:authority=www.example.com\ncustom-key=custom-value\n";
            assert_eq!(read(&mut table, blocks[2]).unwrap(), third);
            assert_eq!((table.entries.len(), table.size), (3, 164));
        }
    }

    #[test]
    fn responses_of_appendix_c_6_are_read_with_entries_evicted() {
        let mut table = Table::default();
        table.resize(256).unwrap();
        let blocks = [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ];
        for (block, size) in blocks.into_iter().zip([222, 222, 215]) {
            let fields = read(&mut table, block).unwrap();
            assert!(fields.contains("location=https://www.example.com"), "{fields}");
            assert_eq!(table.size, size);
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_malformed_is_not() {
        let mut block = Vec::new();
        let long = vec![b'x'; 3000];
        literal(&mut block, b"a", b"");
        literal(&mut block, b"b", &long);
        let fields = Table::default().read(&block).unwrap();
        assert_eq!(fields, [(Bytes::from("a"), Bytes::new()), (Bytes::from("b"), Bytes::from(long))]);
        for broken in ["80", "be", "41", "0085", "00 01", "3fe21f", "ffffffffff", "4001 6181 00", "4001 6184 ffff ffff"] {
            assert!(Table::default().read(&hex(broken)).is_none(), "{broken}");
        }
    }
}
