//! A case that differs made smaller for as long as it still differs in the same thing.

use super::case::{Case, Content, Framing, Piece, Protocol};

/// Every case that is one step simpler.
pub fn simpler(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Case)| {
        let mut next = case.clone();
        change(&mut next);
        if next != *case {
            all.push(next);
        }
    };
    with(&|c| c.request = Content::default());
    with(&|c| c.answer = Content { framing: Framing::Length, ..Content::default() });
    with(&|c| c.interim.clear());
    with(&|c| c.early = false);
    with(&|c| c.old_request = false);
    with(&|c| c.old_answer = false);
    with(&|c| c.target = b"/".to_vec());
    with(&|c| c.method = b"GET".to_vec());
    with(&|c| c.method = b"POST".to_vec());
    with(&|c| c.status = 200);
    with(&|c| c.reason = b"OK".to_vec());
    for at in 0..case.target.len() {
        with(&|c| c.target = [&c.target[..at], &c.target[at + 1..]].concat());
    }
    for at in 0..case.interim.len() {
        with(&|c| drop(c.interim.remove(at)));
        with(&|c| c.interim[at].1.clear());
    }
    for answer in [false, true] {
        let pick = |c: &Case| if answer { c.answer.clone() } else { c.request.clone() };
        for content in contents(&pick(case)) {
            with(&|c| if answer { c.answer = content.clone() } else { c.request = content.clone() });
        }
    }
    if case.target.is_empty() || all.is_empty() {
        return all;
    }
    all.retain(|c| !c.target.is_empty() && (c.target.starts_with(b"/") || c.target == b"*"));
    // A pair that is directly the same protocol tells more than one that is not.
    if case.client == Protocol::H1 && case.origin == Protocol::H1 {
        let mut next = case.clone();
        next.mode = super::case::Mode::Intercepted;
        if next != *case {
            all.push(next);
        }
    }
    all
}

fn contents(content: &Content) -> Vec<Content> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Content)| {
        let mut next = content.clone();
        change(&mut next);
        if next != *content {
            all.push(next);
        }
    };
    with(&|c| c.fields.clear());
    let half = content.fields.len() / 2;
    with(&|c| c.fields.truncate(half));
    with(&|c| drop(c.fields.drain(..half)));
    with(&|c| c.cut = None);
    with(&|c| c.step = 0);
    with(&|c| c.trailers.clear());
    with(&|c| c.pieces.clear());
    with(&|c| c.framing = Framing::Length);
    with(&|c| c.framing = Framing::None);
    with(&|c| c.pieces = vec![Piece { data: b"abc".to_vec(), extension: Vec::new() }]);
    for at in 0..content.fields.len().min(130) {
        with(&|c| drop(c.fields.remove(at)));
        if content.fields.len() < 8 {
            with(&|c| c.fields[at].gap = b": ".to_vec());
            with(&|c| c.fields[at].value.truncate(1));
        }
    }
    for at in 0..content.trailers.len() {
        with(&|c| drop(c.trailers.remove(at)));
        with(&|c| c.trailers[at].value.truncate(1));
    }
    for at in 0..content.pieces.len() {
        with(&|c| drop(c.pieces.remove(at)));
        with(&|c| c.pieces[at].extension.clear());
        with(&|c| c.pieces[at].data.truncate(3));
        let half = content.pieces[at].data.len() / 2;
        with(&|c| c.pieces[at].data.truncate(half));
    }
    if let Some((at, how)) = content.cut {
        with(&|c| c.cut = Some((at / 2, how)));
        with(&|c| c.cut = Some((at.saturating_sub(1), how)));
        with(&|c| c.cut = Some((at, super::case::How::Fin)));
    }
    all
}
