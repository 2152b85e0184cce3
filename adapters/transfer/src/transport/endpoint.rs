//! Endpoints of devices: `tcp:HOST:PORT`, `unix:PATH`, `serial:PATH[@BAUD]`, `exec:COMMAND`.

use std::{
    borrow::ToOwned,
    boxed::Box,
    str::FromStr,
    string::{String, ToString},
    time::Duration,
};

use super::{Link, about, random_session};
use crate::{
    client::{Client, ClientOptions},
    clock::Clock,
};

/// Default bits per second of a serial line, without `@BAUD`.
const DEFAULT_BAUD: u32 = 115_200;
/// Timeout of a TCP connection.
const CONNECT: Duration = Duration::from_secs(10);

/// A client of the device at an [`Endpoint`].
pub type EndpointClient<'c> = Client<'c, Link, Box<dyn FnMut() -> Result<Link, String> + 'c>>;

/// Endpoint of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// `tcp:HOST:PORT`.
    Tcp(String),
    /// `unix:PATH` of a socket.
    Unix(String),
    /// `serial:PATH[@BAUD]`.
    Serial {
        /// The serial device, such as `/dev/ttyUSB0`.
        path: String,
        /// Bits per second.
        baud: u32,
    },
    /// `exec:COMMAND`: a shell command, connected through its standard input and output.
    Command(String),
}

/// Error for a text that is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' names no device\nhint: tcp:HOST:PORT, unix:PATH, serial:/dev/ttyUSB0@115200, or exec:'ssh robot clr-device stdio'"
)]
pub struct EndpointError(String);

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError(text.to_owned());
        let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
        if rest.is_empty() {
            return Err(wrong());
        }
        match scheme {
            "tcp" => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
                let valid = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
                valid.then(|| Self::Tcp(rest.to_owned())).ok_or_else(wrong)
            }
            "unix" => Ok(Self::Unix(rest.to_owned())),
            "serial" => {
                let (path, baud) = match rest.rsplit_once('@') {
                    Some((path, baud)) => (path, baud.parse().ok().filter(|&baud| baud > 0).ok_or_else(wrong)?),
                    None => (rest, DEFAULT_BAUD),
                };
                let path = path.to_owned();
                Ok(Self::Serial { path, baud })
            }
            "exec" => Ok(Self::Command(rest.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl core::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Serial { path, baud } => write!(f, "serial:{path}@{baud}"),
            Self::Command(command) => write!(f, "exec:{command}"),
        }
    }
}

impl Endpoint {
    /// Connects to the endpoint.
    ///
    /// # Errors
    /// The system's error as text, with the endpoint.
    pub fn connect(&self) -> Result<Link, String> {
        let link = match self {
            Self::Tcp(address) => Link::connect_tcp(address, CONNECT),
            Self::Serial { path, baud } => Link::serial(path, *baud),
            #[cfg(unix)]
            Self::Unix(path) => std::os::unix::net::UnixStream::connect(path).and_then(Link::unix),
            #[cfg(unix)]
            Self::Command(command) => Link::command(command),
            #[cfg(not(unix))]
            Self::Unix(_) | Self::Command(_) => Err(std::io::ErrorKind::Unsupported.into()),
        };
        link.map_err(|error| about(&self.to_string(), &error))
    }

    /// Creates a client for the endpoint. It connects with its first request.
    #[must_use]
    pub fn client<'c>(&'c self, clock: &'c dyn Clock, options: ClientOptions) -> EndpointClient<'c> {
        Client::new(Box::new(|| self.connect()), clock, options)
    }

    /// Returns the client options for this endpoint: small chunks and long deadlines on a slow line, and a random
    /// session number.
    #[must_use]
    pub fn options(&self) -> ClientOptions {
        let options = match self {
            Self::Serial { baud, .. } => ClientOptions::for_baud(*baud),
            // These streams are reliable, so repeating a slow request would only delay it further.
            _ => ClientOptions {
                quiet: Duration::from_secs(30),
                greeting: Duration::from_secs(30),
                ..ClientOptions::default()
            },
        };
        ClientOptions {
            session: random_session(),
            ..options
        }
    }
}
