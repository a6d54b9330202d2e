//! Bodies of answers: whole ones, and ones that come in parts until they end or break.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::io;
use tokio::sync::mpsc;

/// A part, or the end of the connection.
pub type Piece = io::Result<Bytes>;

/// A body.
pub enum Answer {
    Whole(Option<Bytes>),
    Parts(mpsc::Receiver<Piece>),
}

impl Answer {
    pub fn of(text: impl Into<Bytes>) -> Self {
        Self::Whole(Some(text.into()))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match self.get_mut() {
            Self::Whole(bytes) => bytes.take().map(Ok),
            Self::Parts(parts) => ready!(parts.poll_recv(context)),
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Parts(_) => SizeHint::default(),
        }
    }
}
