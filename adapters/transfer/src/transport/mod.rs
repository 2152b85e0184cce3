//! Transports: TCP, Unix sockets, serial lines, standard input and output, a command's pipes.

mod endpoint;
#[cfg(unix)]
mod pipes;

use std::{
    boxed::Box,
    format,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    string::String,
    time::Duration,
};

pub use endpoint::{Endpoint, EndpointClient, EndpointError};

/// Timeout of each read or write. Deadlines are checked after it.
const STEP: Duration = Duration::from_millis(50);

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A stream over any transport. Reads and writes time out after 50 ms, so that deadlines can be checked.
pub struct Link(Box<dyn Stream>);

impl core::fmt::Debug for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Link")
    }
}

/// Maps a socket's timeout to `TimedOut`, as `embedded_io` expects. Some systems report it as `WouldBlock`.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        io::ErrorKind::TimedOut.into()
    } else {
        error
    }
}

impl embedded_io::ErrorType for Link {
    type Error = io::Error;
}

impl embedded_io::Read for Link {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(timed_out)
    }
}

impl embedded_io::Write for Link {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(timed_out)
    }
}

impl Link {
    /// Wraps a connected TCP stream. Small frames are sent without delay (`TCP_NODELAY`).
    ///
    /// # Errors
    /// An I/O error if the timeouts cannot be set.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STEP))?;
        stream.set_write_timeout(Some(STEP))?;
        Ok(Self(Box::new(stream)))
    }

    /// Connects to `HOST:PORT`, and tries every address of the host.
    ///
    /// # Errors
    /// The I/O error of the last address, if no address accepts the connection.
    pub fn connect_tcp(address: &str, timeout: Duration) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("'{address}' has no address"));
        for socket in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&socket, timeout) {
                Ok(stream) => return Self::tcp(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Opens a serial line: 8 data bits, no parity, one stop bit, no flow control.
    ///
    /// # Errors
    /// An I/O error if the line cannot be opened.
    pub fn serial(path: &str, baud: u32) -> io::Result<Self> {
        let port = serialport::new(path, baud).timeout(STEP).open()?;
        Ok(Self(Box::new(port)))
    }
}

#[cfg(unix)]
impl Link {
    /// Wraps a connected Unix socket.
    ///
    /// # Errors
    /// An I/O error if the timeouts cannot be set.
    pub fn unix(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(STEP))?;
        stream.set_write_timeout(Some(STEP))?;
        Ok(Self(Box::new(stream)))
    }

    /// Wraps two file descriptors, such as the ends of two pipes.
    pub fn pipes<R, W>(input: R, output: W) -> Self
    where
        R: Read + std::os::fd::AsFd + Send + 'static,
        W: Write + std::os::fd::AsFd + Send + 'static,
    {
        Self(Box::new(pipes::Pipes::new(input, output)))
    }

    /// Uses this process's standard input and output. Nothing else may write to standard output.
    ///
    /// # Errors
    /// An I/O error if the descriptors cannot be duplicated.
    pub fn stdio() -> io::Result<Self> {
        use std::os::fd::AsFd as _;
        let input = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let output = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::pipes(input, output))
    }

    /// Runs a shell command and connects to its standard input and output. The command ends with the link.
    ///
    /// # Errors
    /// An I/O error if the command cannot be started.
    pub fn command(command: &str) -> io::Result<Self> {
        Ok(Self(Box::new(pipes::Command::start(command)?)))
    }
}

/// Returns a random number for [`crate::ClientOptions::session`], different in every run.
pub(crate) fn random_session() -> u32 {
    use core::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish() as u32
}

/// Adds the context to an error's text.
fn about(what: &str, error: &io::Error) -> String {
    format!("{what}: {error}")
}
