//! The process's standard input and output, waited for like sockets where that is possible.
//!
//! Tokio's own read and write on threads of their own, because that works with anything: files, terminals, pipes.
//! It also costs changes of threads for each message. What cannot be polled safely is left to it.

use tokio::io::{AsyncRead, AsyncWrite};

/// Standard input.
pub(super) fn input() -> Box<dyn AsyncRead + Send + Unpin> {
    #[cfg(target_os = "linux")]
    if let Some(stream) = polled::input() {
        return stream;
    }
    Box::new(tokio::io::stdin())
}

/// Standard output.
pub(super) fn output() -> Box<dyn AsyncWrite + Send + Unpin> {
    #[cfg(target_os = "linux")]
    if let Some(stream) = polled::output() {
        return stream;
    }
    Box::new(tokio::io::stdout())
}

/// Tells whether the client has closed its side of a stream, without reading what it wrote before.
#[derive(Debug, Default)]
pub(super) struct HangUp {
    #[cfg(unix)]
    stream: Option<std::os::fd::OwnedFd>,
}

impl HangUp {
    /// How often it is looked at.
    const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

    /// Of standard input.
    pub(super) fn of_input() -> Self {
        #[cfg(unix)]
        {
            use std::os::fd::AsFd as _;
            Self { stream: std::io::stdin().as_fd().try_clone_to_owned().ok() }
        }
        #[cfg(not(unix))]
        Self::default()
    }

    /// Resolves a moment after the client has. Never where that cannot be told.
    pub(super) async fn noticed(&self) {
        while !self.is_noticed() {
            tokio::time::sleep(Self::LOOK).await;
        }
    }

    #[cfg(unix)]
    fn is_noticed(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let Some(stream) = &self.stream else { return false };
        #[cfg(target_os = "linux")]
        let asked = PollFlags::RDHUP;
        #[cfg(not(target_os = "linux"))]
        let asked = PollFlags::empty();
        let mut polled = [PollFd::new(stream, asked)];
        // What goes wrong is told whether it is asked for or not.
        let found = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        found.is_ok() && polled.iter().any(|polled| polled.revents().intersects(asked | PollFlags::HUP))
    }

    #[cfg(not(unix))]
    fn is_noticed(&self) -> bool {
        false
    }
}

#[cfg(target_os = "linux")]
mod polled {
    use std::fs::{File, Metadata};
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    use std::os::unix::net::UnixStream as StdUnixStream;

    use tokio::io::{AsyncRead, AsyncWrite};
    use tokio::net::UnixStream;
    use tokio::net::unix::pipe::OpenOptions;

    pub(super) fn input() -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        match kind(&io::stdin())? {
            // Opened anew, a pipe has flags of its own, so that whoever shares it with this process sees no change.
            Kind::Pipe => Some(Box::new(OpenOptions::new().open_receiver("/proc/self/fd/0").ok()?)),
            Kind::Socket(file) => Some(Box::new(socket(file)?)),
        }
    }

    pub(super) fn output() -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
        match kind(&io::stdout())? {
            Kind::Pipe => Some(Box::new(OpenOptions::new().open_sender("/proc/self/fd/1").ok()?)),
            Kind::Socket(file) => Some(Box::new(socket(file)?)),
        }
    }

    enum Kind {
        Pipe,
        Socket(File),
    }

    fn kind(stream: &impl AsFd) -> Option<Kind> {
        let (file, metadata) = open(stream)?;
        let (_, errors) = open(&io::stderr())?;
        if metadata.file_type().is_fifo() {
            return Some(Kind::Pipe);
        }
        // A socket cannot be opened anew. One that standard error shares must go on to make its writer wait.
        let is_shared = (metadata.dev(), metadata.ino()) == (errors.dev(), errors.ino());
        (metadata.file_type().is_socket() && !is_shared).then_some(Kind::Socket(file))
    }

    fn open(stream: &impl AsFd) -> Option<(File, Metadata)> {
        let file = File::from(stream.as_fd().try_clone_to_owned().ok()?);
        let metadata = file.metadata().ok()?;
        Some((file, metadata))
    }

    fn socket(file: File) -> Option<UnixStream> {
        let socket = StdUnixStream::from(OwnedFd::from(file));
        socket.set_nonblocking(true).ok()?;
        UnixStream::from_std(socket).ok()
    }
}
