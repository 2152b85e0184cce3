//! Signs an adapter and sends it to a device, which verifies it and puts it on trial.
//!
//! ```text
//! cargo run --release -p clr-vision --features update --example push_update -- unix:/run/clr.sock birds.clr fleet.key
//! ```
//!
//! The first argument is the endpoint of `clr-device`: `unix:PATH`, `tcp:HOST:PORT`, `serial:PATH@BAUD` or
//! `exec:COMMAND`. Without a key, the file is sent unchanged. If the device has known hosts, this host must be
//! enrolled: `clr device enrol`.

use std::{error::Error, fs, path::Path};

use clr_vision::{
    adapters::{Terms, read_secret_key, sign_release},
    update::{Committed, Endpoint, Kind, SystemClock},
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, file, key @ ..] = arguments.as_slice() else {
        return Err("usage: push_update ENDPOINT ADAPTER.clr [KEY]".into());
    };
    let mut bytes = fs::read(file)?;
    if let Some(key) = key.first() {
        bytes = sign_release(&bytes, &Terms::default(), &read_secret_key(Path::new(key))?)?;
    }
    let endpoint: Endpoint = endpoint.parse()?;
    let clock = SystemClock::default();
    let mut client = endpoint.client(&clock, endpoint.options());
    // If the connection is lost, the client reconnects and the transfer resumes.
    let pushed = client.push(&bytes, Kind::Adapter, &mut |_| {})?;
    if let Committed::Adapter {
        task,
        version,
        trial_frames,
        ..
    } = pushed.committed
    {
        println!(
            "{task}: version {version}, {} bytes sent, on trial for {trial_frames} frames",
            pushed.sent
        );
    }
    Ok(())
}
