//! `clr device enrol`, `hosts`, `revoke` and `forget`: hosts that have access to a device.

use anyhow::{Context as _, bail};
use clap::Args;
use clr_transfer::{Endpoint, EndpointClient, EnrolmentCode, HostEntry, Security, SystemClock};
use serde::Serialize;

use super::{Context, options};
use crate::{known_devices::KnownDevices, output::Table};

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr device enrol tcp:robot.local:7171 --code 7K3QF-0XB9M-2ZT4C-HD8VA\n\nOn the device, \
                  `clr-device enrol --role update` shows the code. Host and device then store each other's key."
)]
pub(super) struct EnrolArgs {
    /// The device, instead of --at
    #[arg(value_name = "ENDPOINT")]
    endpoint: Option<Endpoint>,
    /// The code that the device shows
    #[arg(long, value_name = "CODE")]
    code: EnrolmentCode,
    /// This host's name in the device's list and log [default: USER@HOST]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct ForgetArgs {
    /// The device, instead of --at
    #[arg(value_name = "ENDPOINT")]
    endpoint: Option<Endpoint>,
}

#[derive(Args, Debug)]
pub(super) struct RevokeArgs {
    /// The host's name or key, as `clr device hosts` lists them
    #[arg(value_name = "HOST")]
    pub(super) host: String,
}

#[derive(Args, Debug)]
pub(super) struct RotateKeyArgs {
    /// Create no new key; stop accepting the old one
    #[arg(long)]
    drop_old: bool,
}

#[derive(Serialize)]
struct EnrolDocument {
    device: String,
    endpoint: String,
    key: String,
}

#[derive(Serialize)]
struct HostsDocument {
    hosts: Vec<HostEntry>,
}

fn place(given: Option<&Endpoint>, at: Option<&Endpoint>) -> anyhow::Result<Endpoint> {
    let place = given.or(at).cloned();
    place.context("which device?\nhint: name it, such as tcp:robot.local:7171")
}

/// Returns USER@HOST, as far as the environment variables exist.
fn own_name() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("USERNAME"));
    let user = user.unwrap_or_else(|_| "clr".to_owned());
    let host = std::env::var("HOSTNAME").ok();
    let host = host.or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    match host.as_deref().map(str::trim) {
        Some(host) if !host.is_empty() => format!("{user}@{host}"),
        _ => user,
    }
}

pub(super) fn enrol(args: &EnrolArgs, at: Option<&Endpoint>, context: &Context<'_>) -> anyhow::Result<u8> {
    let endpoint = place(args.endpoint.as_ref(), at)?;
    if matches!(endpoint, Endpoint::Unix(_) | Endpoint::Command(_)) {
        bail!("'{endpoint}' needs no enrolment: its permissions control access\nhint: use it without enrolment");
    }
    let known = KnownDevices::open()?;
    let clock = SystemClock::new();
    let options = options(&endpoint).with_security(Security::Enrol {
        secret: known.secret()?,
        code: args.code.clone(),
        name: args.name.clone().unwrap_or_else(own_name),
    });
    let mut client = endpoint.client(&clock, options);
    let device = client.device()?.device;
    let key = client.device_key().context("the device showed no key")?;
    known.remember(&endpoint, key)?;
    if context.output.json {
        let document = EnrolDocument {
            device,
            endpoint: endpoint.to_string(),
            key: key.to_string(),
        };
        context.output.document("device", &document)?;
    } else {
        context
            .output
            .line(&format!("{endpoint}: enrolled with '{device}', key {key}"))?;
    }
    Ok(0)
}

#[derive(Serialize)]
struct ForgottenDocument {
    action: &'static str,
    endpoint: String,
    done: bool,
}

pub(super) fn forget(args: &ForgetArgs, at: Option<&Endpoint>, context: &Context<'_>) -> anyhow::Result<u8> {
    let endpoint = place(args.endpoint.as_ref(), at)?;
    if !KnownDevices::open()?.forget(&endpoint)? {
        bail!("no key of '{endpoint}' is known\nhint: give the endpoint that was used for enrolment");
    }
    if context.output.json {
        let document = ForgottenDocument {
            action: "forget",
            endpoint: endpoint.to_string(),
            done: true,
        };
        context.output.document("device", &document)?;
    } else {
        context
            .output
            .line(&format!("{endpoint}: its key is removed from this host"))?;
    }
    Ok(0)
}

pub(super) fn rotate_key(
    args: &RotateKeyArgs,
    client: &mut EndpointClient<'_>,
    context: &Context<'_>,
) -> anyhow::Result<u8> {
    let rotation = client.rotate_key(args.drop_old)?;
    if context.output.json {
        context.output.document("device", &rotation)?;
        return Ok(0);
    }
    let old = match &rotation.old {
        Some(_) => format!(
            "hosts with the previous key receive the new one at their next connection, for {} days",
            rotation.seconds.div_ceil(24 * 3_600)
        ),
        None => "no other key is accepted".to_owned(),
    };
    context
        .output
        .line(&format!("the device's key is {}; {old}", rotation.key))?;
    Ok(0)
}

pub(super) fn hosts(client: &mut EndpointClient<'_>, context: &Context<'_>) -> anyhow::Result<u8> {
    let hosts = client.hosts()?;
    if context.output.json {
        context.output.document("device", &HostsDocument { hosts })?;
        return Ok(0);
    }
    let mut table = Table::new(["name", "roles", "from", "sessions", "key"]);
    for host in hosts {
        let from = if host.configured { "configuration" } else { "enrolment" };
        table.row([
            host.name,
            host.roles,
            from.to_owned(),
            host.sessions.to_string(),
            host.key,
        ]);
    }
    context.output.table(&table)?;
    Ok(0)
}
