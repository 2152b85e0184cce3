//! Listeners and lines. All of them are opened before any is served.

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::PathBuf,
};

use clr_transfer::Link;

use super::{Config, DaemonError, connections, http};

/// Listeners and lines of the configuration.
pub(crate) struct Opened {
    /// The control socket and its path; `None` if it could not be opened, which does not stop the device.
    pub(crate) control: Option<(PathBuf, UnixListener)>,
    pub(crate) tcp: Option<TcpListener>,
    pub(crate) serial: Option<Link>,
    pub(crate) http: Option<TcpListener>,
}

impl Opened {
    /// Opens all listeners and lines. The caller holds the store's lock.
    pub(crate) fn open(config: &Config) -> Result<Self, DaemonError> {
        Ok(Self {
            control: connections::bind_first(&config.sockets(), config.control.group.as_deref()),
            tcp: config
                .tcp
                .as_ref()
                .map(|tcp| connections::bind_tcp(tcp.listen))
                .transpose()?,
            serial: config.serial.as_ref().map(connections::open_serial).transpose()?,
            http: config.http.as_ref().map(|http| http::bind(http.listen)).transpose()?,
        })
    }
}

/// Returns the address of a listener. If port 0 was requested, it contains the assigned port.
pub(crate) fn address(listener: &TcpListener) -> Result<SocketAddr, DaemonError> {
    listener
        .local_addr()
        .map_err(DaemonError::io("cannot read the address of a listener"))
}
