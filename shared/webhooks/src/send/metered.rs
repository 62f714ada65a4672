//! A connection that reads only so many bytes at a time, whatever the layers above would read.
//!
//! [`MeteredStream`] counts what is read since the last write and fails above [`MAX_READ_WITHOUT_WRITE`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at most after the last write: a TLS handshake, or the longest response that is read, in the
/// smallest of chunks. Floods that HTTP itself does not bound end here: informational responses, trailers, leading zeros
/// of a chunk's size.
pub(crate) const MAX_READ_WITHOUT_WRITE: usize = 128 * 1024;

/// More than [`MAX_READ_WITHOUT_WRITE`] bytes were received without a write between.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the receiver sent more bytes than are read of a response")]
pub(crate) struct ReadLimitError;

/// Counts what is read since the last write.
pub(crate) struct MeteredStream<T> {
    inner: T,
    read_since_write: usize,
}

impl<T> MeteredStream<T> {
    pub(crate) const fn new(inner: T) -> Self {
        Self {
            inner,
            read_since_write: 0,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for MeteredStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_since_write > MAX_READ_WITHOUT_WRITE {
            return Poll::Ready(Err(io::Error::other(ReadLimitError)));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(context, buffer));
        self.read_since_write += buffer.filled().len() - before;
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for MeteredStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.read_since_write = 0;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.read_since_write = 0;
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

impl<T> Connection for MeteredStream<T> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
