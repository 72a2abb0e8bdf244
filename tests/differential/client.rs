//! The client's side of a case.

use std::io;
use std::time::Duration;

use tokio::sync::Notify;

use super::case::{Case, How};
use super::h1::{self, Reader};
use super::h2::{self, Event, H2, Part};
use super::heard::{End, Heard};
use super::link::Link;

pub enum Connection {
    H1(Link),
    H2(Box<H2>),
}

/// How the request is addressed.
pub struct Address<'a> {
    pub absolute: bool,
    pub scheme: &'a str,
    pub host: &'a str,
}

/// Plays the case; the connection comes back if it can carry another.
pub async fn play(connection: Connection, case: &Case, address: &Address<'_>, heard: &mut Heard) -> Option<Connection> {
    match connection {
        Connection::H1(link) => over_h1(link, case, address, heard).await.map(Connection::H1),
        Connection::H2(mut h2) => {
            let kept = over_h2(&mut h2, case, address, heard).await;
            match (kept, case.request.cut) {
                (true, _) => Some(Connection::H2(h2)),
                (false, Some((_, how))) => {
                    h2.end(if how == How::Reset { How::Fin } else { how }).await;
                    None
                }
                (false, None) => None,
            }
        }
    }
}

/// How long a client waits for `100 Continue` before it sends its body (RFC 9110 §10.1.1).
const CONTINUE: Duration = Duration::from_millis(2500);

/// How long the rest of a request may take after its answer: seconds on a busy machine.
const REST: Duration = Duration::from_secs(5);

async fn over_h1(mut link: Link, case: &Case, address: &Address<'_>, heard: &mut Heard) -> Option<Link> {
    let (bytes, head) = h1::request(case, address.absolute, address.host);
    // A cut is at the same place in every form of the target.
    let prefix = if address.absolute { "http://".len() + address.host.len() } else { 0 };
    let place = |at: usize| if at > case.method.len() { at + prefix } else { at };
    let cut = case.request.cut.map(|(at, how)| (place(at).min(bytes.len()), how));
    let send = &bytes[..cut.map_or(bytes.len(), |(at, _)| at)];
    let ahead = std::mem::take(&mut link.ahead);
    let (read, mut write) = tokio::io::split(link);
    let mut reader = Reader::new(read, ahead);
    let told = Notify::new();
    let writing = async {
        let first = if case.expects() { head.min(send.len()) } else { send.len() };
        h1::write(&mut write, &send[..first], case.request.step).await?;
        if first < send.len() {
            let _ = tokio::time::timeout(CONTINUE, told.notified()).await;
            h1::write(&mut write, &send[first..], case.request.step).await?;
        }
        if cut.is_some_and(|(_, how)| how != How::Reset) {
            tokio::io::AsyncWriteExt::shutdown(&mut write).await?;
        }
        Ok::<_, io::Error>(write)
    };
    if cut.is_some_and(|(_, how)| how == How::Reset) {
        let write = writing.await.ok()?;
        // Time to arrive, since a reset overtakes.
        tokio::time::sleep(Duration::from_millis(5)).await;
        reader.into_parts().0.unsplit(write).end(How::Reset).await;
        return None;
    }
    let reading = async {
        if let Some(body) = reader.answer_head(heard, case.method == b"HEAD", &told).await {
            reader.body(body, heard).await;
        }
        told.notify_one();
    };
    let written = together(writing, reading).await;
    let write = written?.ok()?;
    let (read, ahead) = reader.into_parts();
    let mut link = read.unsplit(write);
    link.ahead = ahead;
    let closes = |heard: &Heard| {
        heard.values("connection").iter().any(|value| value.to_ascii_lowercase().windows(5).any(|w| w == b"close"))
    };
    let again = heard.end == End::Whole
        && heard.delimited
        && link.ahead.is_empty()
        && !heard.old
        && !closes(heard)
        && !case.old_request
        && cut.is_none()
        && heard.status() != 101
        && !case.request.value("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    again.then_some(link)
}

/// Writes and reads at the same time. Once the answer is there, what is left of the request still goes, if it can.
async fn together<T>(writing: impl Future<Output = T>, reading: impl Future<Output = ()>) -> Option<T> {
    let (mut writing, mut reading) = (std::pin::pin!(writing), std::pin::pin!(reading));
    tokio::select! {
        written = &mut writing => {
            reading.await;
            Some(written)
        }
        () = &mut reading => tokio::time::timeout(REST, writing).await.ok(),
    }
}

async fn over_h2(h2: &mut H2, case: &Case, address: &Address<'_>, heard: &mut Heard) -> bool {
    let parts = h2::request(case, address.scheme, address.host);
    let stream = h2.new_stream();
    let cut = case.request.cut.map(|(at, how)| (at.min(parts.len() - 1), how));
    let sent = send(h2, stream, case, &parts[..cut.map_or(parts.len(), |(at, _)| at)], heard).await;
    match cut {
        Some((0, _)) => return false,
        Some((_, How::Reset)) => {
            tokio::time::sleep(Duration::from_millis(5)).await;
            h2.reset(stream, 8).await;
            return true;
        }
        Some(_) => return false,
        None => {}
    }
    // Where sending failed, what came before is still to be read.
    while heard.reset.is_none() && matches!(heard.end, End::Nothing | End::Broken) {
        let event = h2.event().await;
        if !take(event, stream, case, heard) {
            break;
        }
    }
    h2.is_open() && heard.end == End::Whole && sent.is_ok()
}

async fn send(h2: &mut H2, stream: u32, case: &Case, parts: &[Part], heard: &mut Heard) -> io::Result<()> {
    for (n, part) in parts.iter().enumerate() {
        if n == 1 && case.expects() {
            let waiting = async {
                while heard.interim.is_empty() && heard.end != End::Whole && heard.start[0].is_empty() {
                    let event = h2.event().await;
                    if !take(event, stream, case, heard) {
                        return;
                    }
                }
            };
            let _ = tokio::time::timeout(CONTINUE, waiting).await;
        }
        h2.send(stream, part).await?;
    }
    Ok(())
}

/// False: nothing more comes for this stream.
fn take(event: Event, ours: u32, case: &Case, heard: &mut Heard) -> bool {
    match event {
        Event::Fields { stream, fields, end } if stream == ours => {
            let status = super::heard::values(&fields, ":status").first().map(|value| value.to_vec());
            match status {
                Some(status) if status.len() == 3 && status[0] == b'1' => {
                    let number = String::from_utf8_lossy(&status).parse().unwrap_or(100);
                    heard.interim.push((number, fields.into_iter().filter(|(name, _)| !name.starts_with(b":")).collect()));
                }
                Some(_) => h2::take_head(heard, fields),
                None => heard.trailers = fields,
            }
            if end {
                h2::whole(heard, case.method == b"HEAD" || matches!(heard.status(), 204 | 304));
            }
            !end
        }
        Event::Data { stream, data, end } if stream == ours => {
            heard.body.extend_from_slice(&data);
            if end {
                h2::whole(heard, case.method == b"HEAD" || matches!(heard.status(), 204 | 304));
            }
            !end
        }
        Event::Reset { stream, code } if stream == ours => {
            heard.end = End::Broken;
            heard.reset = Some(code);
            false
        }
        Event::Closed => {
            if heard.end == End::Nothing {
                heard.end = End::Broken;
            }
            false
        }
        _ => true,
    }
}
