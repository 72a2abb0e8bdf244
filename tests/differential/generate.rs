//! Cases from numbers: a plain exchange, and a few oddities on top.

use super::case::{Case, Content, Field, Framing, How, Mode, Piece, Protocol, alphabet};
use super::random::Random;

use Protocol::{H1, H2};

const PAIRS: &[(Protocol, Protocol, Mode)] = &[
    (H1, H1, Mode::Intercepted),
    (H1, H1, Mode::Intercepted),
    (H2, H1, Mode::Intercepted),
    (H1, H2, Mode::Intercepted),
    (H2, H2, Mode::Intercepted),
    (H1, H1, Mode::Forward),
    (H1, H1, Mode::Reverse),
];

/// Cases of [`broken`].
pub const BROKEN: u64 = 2 * 3 * 6 * 60;

/// Messages that break off: at every byte of a short one, in every way, for each pair.
pub fn broken(number: u64) -> Case {
    let mut rest = usize::try_from(number).unwrap();
    let mut take = |n: usize| {
        let taken = rest % n;
        rest /= n;
        taken
    };
    let (client, origin, mode) = PAIRS[1..7][take(6)];
    let how = [How::Fin, How::Gone, How::Reset][take(3)];
    let mut case = Case::plain(client, origin, mode);
    case.method = b"PUT".to_vec();
    let pieces: Vec<Piece> = [&b"abc"[..], b"defgh"].map(|data| Piece { data: data.to_vec(), extension: b";x".to_vec() }).into();
    let content = Content { framing: Framing::Chunked, pieces, trailers: vec![Field::new("X-T", "1")], ..Content::default() };
    (case.request, case.answer) = (content.clone(), content);
    match (take(2), take(60)) {
        // The host in a request's head has another length in each run; that part is cut now and then.
        (0, at) => case.request.cut = Some((if at < 10 { at * 8 } else { 60 + at }, how)),
        (_, at) => case.answer.cut = Some((at * 2, how)),
    }
    case
}

pub fn generate(number: u64) -> Case {
    let mut random = Random::new(number);
    let random = &mut random;
    let (client, origin, mode) = *random.pick(PAIRS);
    let mut case = Case::plain(client, origin, mode);
    let methods: &[&[u8]] =
        &[b"GET", b"GET", b"GET", b"POST", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND", b"x-own"];
    case.method = random.pick(methods).to_vec();
    if matches!(&case.method[..], b"POST" | b"PUT" | b"PATCH") || random.once_in(6) {
        body(random, &mut case.request, false);
    }
    body(random, &mut case.answer, true);
    let statuses = [200, 200, 200, 200, 201, 204, 206, 301, 304, 404, 418, 500, 503, 599];
    case.status = *random.pick(&statuses);
    if random.once_in(8) {
        let reasons: &[&[u8]] = &[b"", b"Not OK at all", b"caf\xc3\xa9", b"\xe9\xff", b"a\tb", b"<>\"'"];
        case.reason = random.pick(reasons).to_vec();
    }
    for _ in 0..random.below(4) {
        oddity(random, &mut case);
    }
    tidy(&mut case);
    case
}

/// Takes out what would not be a case of its pair.
fn tidy(case: &mut Case) {
    if case.mode == Mode::Forward && !case.target.starts_with(b"/") {
        case.target = b"/".to_vec();
    }
    if case.client == H2 {
        case.old_request = false;
    }
    if case.origin == H2 {
        case.old_answer = false;
    }
    if case.status == 101 && (case.client, case.origin) != (H1, H1) {
        case.status = 200;
    }
    for content in [&mut case.request, &mut case.answer] {
        let large = content.pieces.iter().map(|piece| piece.data.len()).sum::<usize>()
            + content.fields.iter().map(|f| f.value.len()).sum::<usize>();
        // Every step is a packet; a thousand tell no more than a hundred.
        content.step = if content.step > 0 { content.step.max(large / 100) } else { 0 };
    }
    if case.old_answer && case.answer.framing == Framing::Chunked {
        case.answer.framing = Framing::Close;
    }
}

fn data(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0 => Vec::new(),
        1 => b"\r\n0\r\n\r\n".to_vec(),
        2 => b"\0\xff\x80\r\n".to_vec(),
        3 => alphabet(16_384 + random.below(3)),
        4 => alphabet(60_000 + random.below(40_000)),
        5 => alphabet(4096),
        _ => alphabet(1 + random.below(30)),
    }
}

fn body(random: &mut Random, content: &mut Content, answer: bool) {
    content.framing = match random.below(8) {
        0..=2 => Framing::Length,
        3..=5 => Framing::Chunked,
        6 if answer => Framing::Close,
        6 => Framing::Chunked,
        _ => Framing::Length,
    };
    for _ in 0..random.below(4) {
        content.pieces.push(Piece { data: data(random), extension: Vec::new() });
    }
}

const NAMES: &[&[u8]] = &[
    b"X-A",
    b"x-a",
    b"X-a",
    b"x_a",
    b"X-B",
    b"Accept",
    b"ETag",
    b"Content-Type",
    b"Cache-Control",
    b"Vary",
    b"User-Agent",
    b"Link",
    b"!#$%&'*+-.^_`|~09",
    b"Server",
    b"Via",
    b"Age",
    b"Warning",
    b"Accept-Encoding",
    b"Content-Encoding",
    b"Authorization",
    b"WWW-Authenticate",
    b"Date",
    b"Content-MD5",
    b"Content-Disposition",
    b"Range",
    b"If-None-Match",
    b"Priority",
    b"Traceparent",
    b"Forwarded",
    b"X-Forwarded-For",
    b"Max-Forwards",
    b"Sec-Fetch-Site",
    b"Referer",
    b"DNT",
    b"Alt-Svc",
    b"Strict-Transport-Security",
    b"Location",
    b"Retry-After",
    b"Content-Location",
    b"Content-Range",
    b"Pragma",
];

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(14) {
        0 => Vec::new(),
        1 => b"caf\xc3\xa9".to_vec(),
        2 => b"\xe9\xff\x80".to_vec(),
        3 => b"a, b, c".to_vec(),
        4 => b"\"quoted, text\"; q=0.5".to_vec(),
        5 => b"a  b\tc".to_vec(),
        6 => alphabet(200 + random.below(3000)),
        7 => b"<>{}|^`\\".to_vec(),
        8 => b"a=b; c=d".to_vec(),
        9 => b",, ,".to_vec(),
        _ => alphabet(1 + random.below(12)),
    }
}

fn field(random: &mut Random) -> Field {
    Field::new(*random.pick(NAMES), value(random))
}

fn oddity(random: &mut Random, case: &mut Case) {
    match random.below(20) {
        0..=2 => target(random, case),
        3..=5 => fields(random, &mut case.request, case.client, false),
        6..=8 => fields(random, &mut case.answer, case.origin, true),
        9 => hop(random, case),
        10 => chunks(random, &mut case.request),
        11 => chunks(random, &mut case.answer),
        12 => interim(random, case),
        13 => {
            case.early = true;
            if random.once_in(2) {
                case.request.framing = Framing::Length;
                case.request.pieces.push(Piece { data: data(random), extension: Vec::new() });
            }
        }
        14 => case.request.cut = Some(cut(random, &case.request, case.client)),
        15 => case.answer.cut = Some(cut(random, &case.answer, case.origin)),
        16 => old(random, case),
        17 => case.request.step = 1 + random.below(40),
        18 => case.answer.step = 1 + random.below(40),
        _ => lengths(random, case),
    }
}

fn target(random: &mut Random, case: &mut Case) {
    let parts: &[&[u8]] = &[
        b"/",
        b"//",
        b"/a",
        b"/a/../b",
        b"/./a",
        b"/%00",
        b"/%2F%2f",
        b"/%zz",
        b"/\"<>",
        b"/{}|^`",
        b"/\\",
        b"/caf\xc3\xa9",
        b"/\xff",
        b"/;p=1",
        b"/a:b@c",
        b"/'()*!$&,+=",
        b"/[x]",
        b"/~",
        b"/%E2%82%AC",
        b"/%7e%7E",
    ];
    let queries: &[&[u8]] = &[
        b"",
        b"",
        b"?",
        b"??",
        b"?a=b&a=c",
        b"?\"<>",
        b"?{}|^`",
        b"?q=\xc3\xa9",
        b"?a=%00",
        b"?a+b",
        b"?/",
        b"?a=[1]",
        b"?'",
        b"?a\\b",
        b"?%",
    ];
    let mut target = random.pick(parts).to_vec();
    if random.once_in(3) {
        target.extend_from_slice(random.pick::<&[u8]>(parts));
    }
    target.extend_from_slice(random.pick::<&[u8]>(queries));
    if random.once_in(20) {
        target.extend(alphabet(2000));
    }
    if case.method == b"OPTIONS" && random.once_in(2) {
        target = b"*".to_vec();
    }
    case.target = target;
}

fn fields(random: &mut Random, content: &mut Content, protocol: Protocol, answer: bool) {
    match random.below(12) {
        0 => {
            let one = field(random);
            for _ in 0..1 + random.below(3) {
                content.fields.push(Field { value: value(random), ..one.clone() });
            }
            content.fields.push(one);
        }
        1 if answer => {
            (0..1 + random.below(4)).for_each(|n| content.fields.push(Field::new("Set-Cookie", format!("c{n}=v; Path=/"))))
        }
        1 => (0..1 + random.below(3)).for_each(|n| content.fields.push(Field::new("Cookie", format!("c{n}=v; d=e")))),
        2 if protocol == H1 => content.fields.push(Field { gap: b":\r\n ".to_vec(), ..field(random) }),
        3 if protocol == H1 => content.fields.push(Field { value: b"a\r\n\tb".to_vec(), ..field(random) }),
        4 if protocol == H1 => content.fields.push(Field { gap: b" : ".to_vec(), ..field(random) }),
        5 if protocol == H1 => {
            content.fields.push(Field { gap: random.pick(&[&b":"[..], b":\t ", b":    "]).to_vec(), ..field(random) })
        }
        6 => {
            let many = *random.pick(&[20, 60, 80, 97, 120, 300]);
            (0..many).for_each(|n| content.fields.push(Field::new(format!("X-Many-{n}"), "v")));
        }
        7 => content.fields.push(Field::new("X-Long", alphabet(*random.pick(&[4000, 9000, 17_000, 31_000, 70_000])))),
        _ => content.fields.push(field(random)),
    }
}

fn hop(random: &mut Random, case: &mut Case) {
    let names: &[(&str, &str)] = &[
        ("Connection", "close"),
        ("Connection", "keep-alive"),
        ("Connection", "X-A, close"),
        ("Connection", "x-a"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("TE", "gzip, trailers;q=0.5"),
        ("Proxy-Connection", "keep-alive"),
        ("Trailer", "X-T"),
        ("Upgrade", "foo/1"),
        ("Connection", "Upgrade"),
        ("Expect", "100-continue"),
    ];
    let (name, value) = *random.pick(names);
    match name {
        "Connection" if value == "Upgrade" => {
            case.request.fields.extend([
                Field::new("Connection", "Upgrade"),
                Field::new("Upgrade", *random.pick(&["foo/1", "SPDY/3.1", "tcp"])),
            ]);
            if random.once_in(2) && case.client == H1 && case.origin == H1 {
                case.status = 101;
                case.answer.framing = Framing::Close;
                let upgrade = case.request.fields.last().unwrap().value.clone();
                case.answer.fields.extend([Field::new("Connection", "Upgrade"), Field::new("Upgrade", upgrade)]);
            }
        }
        "Expect" => {
            case.request.fields.push(Field::new(name, value));
            if case.request.pieces.is_empty() {
                case.request.framing = Framing::Length;
                case.request.pieces.push(Piece { data: alphabet(10), extension: Vec::new() });
            }
            if random.once_in(3) {
                (case.early, case.status) = (true, *random.pick(&[413, 417, 401]));
            } else {
                case.interim.push((100, Vec::new()));
            }
        }
        "TE" => case.request.fields.push(Field::new(name, value)),
        "Connection" | "Trailer" | "Keep-Alive" | "Proxy-Connection" | "Upgrade" if random.once_in(2) => {
            case.answer.fields.push(Field::new(name, value));
        }
        _ => case.request.fields.push(Field::new(name, value)),
    }
}

fn chunks(random: &mut Random, content: &mut Content) {
    content.framing = Framing::Chunked;
    if content.pieces.is_empty() || random.once_in(2) {
        content.pieces.push(Piece { data: data(random), extension: Vec::new() });
    }
    // The last two make a size that is no number.
    let extensions: &[&[u8]] = &[b";a", b";a=b", b" ; a=\"q;\\\"\"", b";", b";a=b;c=d", b"g", b"-"];
    for piece in &mut content.pieces {
        if random.once_in(3) {
            piece.extension = random.pick(extensions).to_vec();
        }
    }
    if random.once_in(2) {
        let names: &[&[u8]] = &[b"X-T", b"x-t", b"grpc-status", b"X-Sum", b"ETag", b"Authorization", b"Set-Cookie"];
        for _ in 0..1 + random.below(3) {
            let name = random.pick(names);
            content.trailers.push(Field::new(*name, value(random)));
            if random.once_in(2) {
                content.fields.push(Field::new("Trailer", *name));
            }
        }
        if random.once_in(3) {
            content.trailers.push(Field::new("X-T", "once more"));
        }
    }
}

fn interim(random: &mut Random, case: &mut Case) {
    for _ in 0..1 + random.below(2) {
        let status = *random.pick(&[100, 103, 103, 102, 199]);
        let fields =
            if status == 100 { Vec::new() } else { vec![Field::new("Link", "</s.css>; rel=preload"), Field::new("X-A", "1")] };
        case.interim.push((status, fields));
    }
}

fn cut(random: &mut Random, content: &Content, protocol: Protocol) -> (usize, How) {
    let how = *random.pick(&[How::Fin, How::Fin, How::Gone, How::Reset, How::Reset]);
    let length: usize = content.pieces.iter().map(|piece| piece.data.len() + 5).sum();
    let at = match protocol {
        H2 => random.below(content.pieces.len() + 2),
        H1 if random.once_in(3) => random.below(120),
        H1 => 60 + random.below(length + 100),
    };
    (at, how)
}

fn old(random: &mut Random, case: &mut Case) {
    if random.once_in(2) {
        case.old_request = true;
        case.answer.framing = if random.once_in(2) { Framing::Length } else { Framing::Close };
        if case.request.framing == Framing::Chunked {
            case.request.framing = Framing::Length;
        }
        if random.once_in(2) {
            case.request.fields.push(Field::new("Connection", "keep-alive"));
        }
    } else {
        case.old_answer = true;
        case.answer.framing = if random.once_in(2) { Framing::Length } else { Framing::Close };
        if random.once_in(2) {
            case.answer.fields.push(Field::new("Connection", "keep-alive"));
        }
    }
}

/// Lengths that are said twice, or beside a coding.
fn lengths(random: &mut Random, case: &mut Case) {
    let content = if random.once_in(2) { &mut case.request } else { &mut case.answer };
    let length = content.body().len();
    let values = [
        format!("{length}"),
        format!("{length}, {length}"),
        format!("{}", length + 3),
        format!("{}", length / 2),
        "0".into(),
        "-1".into(),
        "+5".into(),
        "x".into(),
    ];
    content.fields.push(Field::new("Content-Length", random.pick(&values).clone()));
    if content.framing == Framing::None {
        content.framing = Framing::Length;
    }
}
