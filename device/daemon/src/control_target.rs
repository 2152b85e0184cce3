//! The device on this machine as the target of a command, and the command's output.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use clap::Args;
use clr_transfer::ClientError;

use super::{Config, print_line};

/// The configuration of an installed device.
const INSTALLED: &str = "/etc/clr/device.toml";
/// The socket of an installed device, for users who cannot read the device's configuration.
const RUNNING: &str = "/run/clr/control.sock";

/// Schema of the documents on stdout, the same as for `clr device --json`.
const SCHEMA: &str = "clr.device/1";

/// Control socket of the device.
#[derive(Args, Clone, Debug)]
pub(super) struct Target {
    /// Configuration of the device
    #[arg(short, long, value_name = "FILE", env = "CLR_DEVICE_CONFIG")]
    config: Option<PathBuf>,
    /// Control socket, instead of the configuration's
    #[arg(long, value_name = "PATH", env = "CLR_DEVICE_SOCKET")]
    socket: Option<PathBuf>,
}

/// Error of a command to the device.
#[derive(Debug, thiserror::Error)]
pub(super) enum RemoteError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot write to stdout: {0}")]
    Output(#[from] std::io::Error),
    #[error("{0}")]
    Other(String),
}

impl Target {
    /// Returns the socket's path.
    pub(super) fn socket(&self) -> Result<PathBuf, RemoteError> {
        match (&self.socket, &self.config) {
            (Some(socket), _) => Ok(socket.clone()),
            (None, Some(config)) => {
                let sockets = Config::read(config)
                    .map_err(|error| RemoteError::Other(error.to_string()))?
                    .sockets();
                let listening = sockets.iter().find(|path| UnixStream::connect(path).is_ok());
                Ok(listening.unwrap_or(&sockets[0]).clone())
            }
            (None, None) => default_socket(),
        }
    }
}

/// Returns the socket of the device installed on this machine.
fn default_socket() -> Result<PathBuf, RemoteError> {
    let configured = Config::read(Path::new(INSTALLED)).map(|config| config.socket());
    if let Ok(socket) = &configured
        && socket.exists()
    {
        return Ok(socket.clone());
    }
    let running = PathBuf::from(RUNNING);
    if running.exists() {
        return Ok(running);
    }
    let tried = match configured {
        Ok(socket) => format!("socket '{}' of '{INSTALLED}': does not exist", socket.display()),
        Err(error) => error.to_string(),
    };
    Err(RemoteError::Other(format!(
        "no device is running here; tried: {tried}; socket '{RUNNING}': does not exist\nhint: start it (`systemctl start clr-device`), or name it with \
         --config FILE or --socket PATH"
    )))
}

#[derive(serde::Serialize)]
struct Document<'a, T> {
    schema: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

/// Prints a document as JSON.
pub(super) fn print<T: serde::Serialize>(body: &T) -> Result<(), RemoteError> {
    let document = Document { schema: SCHEMA, body };
    let text = serde_json::to_string_pretty(&document).map_err(|error| RemoteError::Other(error.to_string()))?;
    print_line(format_args!("{text}"))?;
    Ok(())
}
