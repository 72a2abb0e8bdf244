//! The origin's side of a case: plays the case that is on the stage, whatever is asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::case::{Case, Framing, How, Protocol};
use super::h1::{self, Reader};
use super::h2::{self, Event, H2};
use super::heard::End;
use super::link::{Link, handle};
use super::stage::{Act, Stage};

pub async fn start(protocol: Protocol, tls: Option<TlsAcceptor>, stage: Arc<Stage>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, stage) = (tls.clone(), stage.clone());
            let mut generation = stage.generation.subscribe();
            let born = *generation.borrow_and_update();
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let socket = handle(&stream);
                let link = match tls {
                    None => Link::clear(stream),
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => Link::over(stream, socket),
                        Err(_) => return,
                    },
                };
                match protocol {
                    Protocol::H1 => serve_h1(link, &stage, generation, born).await,
                    Protocol::H2 => serve_h2(link, &stage, generation, born).await,
                }
            });
        }
    });
    address
}

type Generation = tokio::sync::watch::Receiver<u64>;

async fn serve_h1(mut link: Link, stage: &Arc<Stage>, mut generation: Generation, born: u64) {
    let _open = stage.open(born);
    loop {
        let ahead = std::mem::take(&mut link.ahead);
        let mut reader = Reader::new(link, ahead);
        let first = tokio::select! {
            first = reader.first() => first,
            _ = generation.changed() => false,
        };
        let act = if first { stage.begin(born) } else { None };
        let (inner, ahead) = reader.into_parts();
        link = inner;
        link.ahead = ahead;
        match act {
            None => return link.end(How::Fin).await,
            Some(act) => match one_h1(link, act).await {
                Some(kept) => link = kept,
                None => return,
            },
        }
    }
}

async fn one_h1(mut link: Link, mut act: Act) -> Option<Link> {
    let case = act.case.clone();
    let ahead = std::mem::take(&mut link.ahead);
    let (read, mut write) = tokio::io::split(link);
    let mut reader = Reader::new(read, ahead);
    let Some(body) = reader.request_head(&mut act.heard).await else {
        drop(act);
        reader.into_parts().0.unsplit(write).end(How::Fin).await;
        return None;
    };
    let mut kept = h1::write(&mut write, &h1::interim(&case), 0).await.is_ok();
    if case.early {
        let answering = answer_h1(&mut write, &case);
        let ends = ends(&case);
        if ends.is_some() {
            kept &= answering.await;
        } else {
            let reading = reader.body(body, &mut act.heard);
            let (sent, ()) = tokio::join!(answering, reading);
            kept &= sent;
        }
    } else {
        reader.body(body, &mut act.heard).await;
        kept &= act.heard.end == End::Whole && answer_h1(&mut write, &case).await;
    }
    let again = act.heard.end == End::Whole;
    drop(act);
    let (read, ahead) = reader.into_parts();
    let mut link = read.unsplit(write);
    link.ahead = ahead;
    match ends(&case) {
        Some(how) if again || case.early => link.end(how).await,
        _ if kept && again => return Some(link),
        _ => link.end(How::Fin).await,
    }
    None
}

/// How the origin ends the connection after its answer, if it does.
pub fn ends(case: &Case) -> Option<How> {
    let closes = case.answer.value("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    let by_close = case.answer.framing == Framing::Close || case.status == 101;
    match case.answer.cut {
        Some((_, how)) => Some(how),
        None if closes || by_close || case.old_answer || case.old_request => Some(How::Fin),
        None => None,
    }
}

async fn answer_h1(write: &mut (impl tokio::io::AsyncWrite + Unpin), case: &Case) -> bool {
    let bytes = h1::answer(case);
    let until = case.answer.cut.map_or(bytes.len(), |(at, _)| at.min(bytes.len()));
    let written = h1::write(write, &bytes[..until], case.answer.step).await.is_ok();
    if case.answer.cut.is_some_and(|(_, how)| how == How::Reset) {
        // Time to arrive, since a reset overtakes.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    written
}

async fn serve_h2(link: Link, stage: &Arc<Stage>, mut generation: Generation, born: u64) {
    let Ok(mut h2) = H2::server(link).await else { return };
    // The flag: it has its answer.
    let mut acts: HashMap<u32, (Act, bool)> = HashMap::new();
    loop {
        let event = tokio::select! {
            event = h2.event() => event,
            _ = generation.changed(), if acts.is_empty() => return,
        };
        let (stream, end) = match event {
            Event::Fields { stream, fields, end } => {
                if let Some((act, _)) = acts.get_mut(&stream) {
                    act.heard.trailers = fields;
                } else if fields.iter().any(|(name, _)| name == b":method") {
                    let Some(mut act) = stage.begin(born) else { return };
                    h2::take_head(&mut act.heard, fields);
                    h2.take_up(stream);
                    for part in h2::interim(&act.case) {
                        let _ = h2.send(stream, &part).await;
                    }
                    let case = act.case.clone();
                    let early = case.early && !end;
                    acts.insert(stream, (act, early));
                    if early && !answer_h2(&mut h2, stream, &case).await {
                        drop(acts);
                        return leave(h2, &case).await;
                    }
                }
                (stream, end)
            }
            Event::Data { stream, data, end } => {
                if let Some((act, _)) = acts.get_mut(&stream) {
                    act.heard.body.extend_from_slice(&data);
                }
                (stream, end)
            }
            Event::Reset { stream, .. } => {
                acts.remove(&stream);
                continue;
            }
            Event::Closed => return,
        };
        if end && let Some((mut act, answered)) = acts.remove(&stream) {
            h2::whole(&mut act.heard, false);
            let case = act.case.clone();
            if !answered && !answer_h2(&mut h2, stream, &case).await {
                drop(act);
                return leave(h2, &case).await;
            }
        }
    }
}

/// Ends the connection as the case says.
async fn leave(h2: H2, case: &Case) {
    if let Some((_, how)) = case.answer.cut {
        h2.end(how).await;
    }
}

/// False: the connection ends.
async fn answer_h2(h2: &mut H2, stream: u32, case: &Case) -> bool {
    let parts = h2::answer(case);
    let until = case.answer.cut.map_or(parts.len(), |(at, _)| at.min(parts.len() - 1));
    for part in &parts[..until] {
        if h2.send(stream, part).await.is_err() {
            return h2.is_open();
        }
    }
    match case.answer.cut {
        Some((_, How::Reset)) => {
            tokio::time::sleep(Duration::from_millis(5)).await;
            h2.reset(stream, 2).await;
            true
        }
        Some(_) => false,
        None => true,
    }
}
