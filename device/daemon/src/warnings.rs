//! Warnings about unsafe settings, logged at every start.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path};

use super::Config;

/// Mode bits that permit writing by users other than the owner.
const OTHERS_WRITE: u32 = 0o022;
/// Mode bits of all users other than the owner.
const OTHERS: u32 = 0o077;

/// A warning with its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) text: String,
    pub(crate) hint: String,
}

/// Returns the warnings about a configuration, its file and its folders.
pub(crate) fn warnings(config: &Config, file: &Path) -> Vec<Warning> {
    let mut all = Vec::new();
    let mut warn = |text: String, hint: String| all.push(Warning { text, hint });
    if config.trust.allow_unsigned {
        let hint = "for the field, remove `trust.allow_unsigned` and sign adapters with `clr sign`";
        warn(
            "unsigned adapters are accepted: anyone who reaches the device can replace a task".to_owned(),
            hint.to_owned(),
        );
    } else if config.trust.keys.is_empty() {
        let hint = "write a publisher's key to `[[trust.keys]]`; `clr keygen` creates one";
        warn(
            "no publisher is trusted: adapters of hosts are refused".to_owned(),
            hint.to_owned(),
        );
    }
    let listeners = [
        ("tcp", config.tcp.as_ref().map(|tcp| tcp.listen)),
        ("http", config.http.as_ref().map(|http| http.listen)),
    ];
    for (kind, address) in listeners {
        if let Some(address) = address.filter(|address| !is_loopback(*address)) {
            warn(
                format!("`{kind}.listen` is {address}: other machines can reach this port"),
                format!(
                    "set it to 127.0.0.1:{} and connect through ssh, or make sure that the network is trusted",
                    address.port()
                ),
            );
        }
    }
    let secret = config.state.join("device.key");
    for (what, path, bits, remedy) in [
        ("the configuration", file, OTHERS_WRITE, "go-w"),
        ("the state folder", &config.state, OTHERS_WRITE, "go-w"),
        ("the device's secret key", &secret, OTHERS, "go="),
    ] {
        let Ok(metadata) = fs::metadata(path) else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & bits != 0 {
            let may = if bits == OTHERS { "read or written" } else { "written" };
            let path = path.display();
            warn(
                format!("{what} '{path}' can be {may} by others (mode {mode:03o})"),
                format!("chmod {remedy} '{path}'"),
            );
        }
    }
    if rustix::process::geteuid().is_root() {
        let hint = "run it as a dedicated user, as the systemd unit does";
        warn("running as root".to_owned(), hint.to_owned());
    }
    all
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Writes the warnings to the log.
pub(crate) fn log(warnings: &[Warning]) {
    for Warning { text, hint } in warnings {
        tracing::warn!(hint, "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(extra: &str, mode: u32) -> String {
        let folder = tempfile::tempdir().unwrap();
        let (file, state) = (folder.path().join("device.toml"), folder.path().join("state"));
        fs::write(&file, format!("backbone = 'b.onnx'\nstate = 'state'\n{extra}")).unwrap();
        fs::create_dir(&state).unwrap();
        fs::write(state.join("device.key"), "").unwrap();
        for path in [&file, &state, &state.join("device.key")] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let found = warnings(&Config::read(&file).unwrap(), &file);
        let lines = found
            .iter()
            .map(|warning| format!("{} | {}\n", warning.text, warning.hint));
        lines.filter(|line| !line.contains("root")).collect()
    }

    #[test]
    fn a_secure_configuration_gives_no_warning() {
        // The signing key of this workspace's tests.
        let key = clr_adapters::SecretKey::from_bytes(&[1; 32]).public();
        let safe =
            format!("[[trust.keys]]\nkey = '{key}'\n[tcp]\nlisten = '127.0.0.1:1'\n[http]\nlisten = '[::1]:2'\n");
        assert_eq!(texts(&safe, 0o700), "");
    }

    #[test]
    fn each_unsafe_setting_is_named_with_a_remedy() {
        let text = texts(
            "[trust]\nunsigned = true\n[tcp]\nlisten = '0.0.0.0:1'\n[http]\nlisten = '[::]:2'\n",
            0o777,
        );
        for part in [
            "unsigned adapters are accepted",
            "`tcp.listen` is 0.0.0.0:1",
            "`http.listen` is [::]:2",
            "device.toml' can be written by others (mode 777)",
            "state' can be written by others (mode 777)",
            "device.key' can be read or written by others (mode 777)",
            "chmod go-w",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(texts("", 0o700).contains("no publisher is trusted"));
    }
}
