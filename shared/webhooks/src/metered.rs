//! A connection that takes in only so much at a time, whatever the layers above would take.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at most after what was last written: a TLS handshake, or the longest answer
/// that is read, in the smallest of chunks. Floods that HTTP itself does not bound end here:
/// informational answers, trailers, leading zeros of a chunk's size.
pub(crate) const MAX_UNASKED: usize = 128 * 1024;

/// More than [`MAX_UNASKED`] bytes came.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the receiver says more than anybody wants to know")]
pub(crate) struct Exceeded;

/// Counts what is read since the last write.
pub(crate) struct Metered<T> {
    inner: T,
    unasked: usize,
}

impl<T> Metered<T> {
    pub(crate) const fn new(inner: T) -> Self {
        Self { inner, unasked: 0 }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unasked > MAX_UNASKED {
            return Poll::Ready(Err(io::Error::other(Exceeded)));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(context, buffer));
        self.unasked += buffer.filled().len() - before;
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unasked = 0;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unasked = 0;
        Pin::new(&mut self.inner).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<T> Connection for Metered<T> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
