//! The beginning of an answer's body.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;

use crate::upstream::ResponseBody;

/// The beginning of an answer's body, read to see what it says.
#[derive(Default)]
pub struct Peeked(pub(super) VecDeque<Frame<Bytes>>);

/// An error that says more than this says it in its beginning.
const PEEK: usize = 64 * 1024;

impl Peeked {
    /// Reads up to a bound, or until `patience` ends.
    pub async fn read(body: &mut ResponseBody, patience: Duration) -> Self {
        let mut peeked = Self::default();
        let reading = async {
            let mut length = 0;
            while length < PEEK
                && let Some(Ok(frame)) = body.frame().await
            {
                length += frame.data_ref().map_or(0, Bytes::len);
                peeked.0.push_back(frame);
            }
        };
        let _ = tokio::time::timeout(patience, reading).await;
        peeked
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.iter().filter_map(Frame::data_ref).flatten().copied().collect()
    }
}
