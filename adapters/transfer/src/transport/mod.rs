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

/// Timeout of a read or write, after which deadlines are checked.
const STEP: Duration = Duration::from_millis(50);

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A stream of any transport, with reads and writes that time out after 50 ms so that deadlines hold.
pub struct Link(Box<dyn Stream>);

impl core::fmt::Debug for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Link")
    }
}

/// A timeout on a socket is `WouldBlock` or `TimedOut` in the system, and `TimedOut` in `embedded_io`.
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
    /// Wraps a connected TCP stream; small frames are sent without delay.
    ///
    /// # Errors
    /// Where its timeouts cannot be set.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STEP))?;
        stream.set_write_timeout(Some(STEP))?;
        Ok(Self(Box::new(stream)))
    }

    /// Connects to `HOST:PORT`, trying every address of the host.
    ///
    /// # Errors
    /// The last address's error.
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
    /// Where it cannot be opened.
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
    /// Where its timeouts cannot be set.
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
    /// Where they cannot be duplicated.
    pub fn stdio() -> io::Result<Self> {
        use std::os::fd::AsFd as _;
        let input = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let output = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::pipes(input, output))
    }

    /// Runs a command of the shell, over its standard input and output; it ends with the link.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn command(command: &str) -> io::Result<Self> {
        Ok(Self(Box::new(pipes::Command::start(command)?)))
    }
}

/// Returns a number that differs between runs, for [`crate::ClientOptions::session`].
pub(crate) fn random_session() -> u32 {
    use core::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish() as u32
}

/// Adds the context to an error's text.
fn about(what: &str, error: &io::Error) -> String {
    format!("{what}: {error}")
}
