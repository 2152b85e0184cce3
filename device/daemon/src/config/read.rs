//! Reading and validation of the configuration, and values derived from it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use clr_adapters::{Digest, MinimumVersion, PublicKey, Trust, TrustedKey, text_from_bytes};

use super::{Config, HostConfig, KeyConfig, SourceConfig};
use crate::DaemonError;
use clr_adapters::read_public_key;

impl Config {
    /// Reads and checks a configuration file.
    pub fn read(path: &Path) -> Result<Self, DaemonError> {
        let fault = |reason: &dyn fmt::Display| DaemonError::Config {
            path: path.to_owned(),
            reason: reason.to_string(),
        };
        let bytes = std::fs::read(path).map_err(|error| {
            fault(&format_args!(
                "{error}\nhint: give its path with --config; docs/reference/device.md has an example"
            ))
        })?;
        let text = text_from_bytes(bytes).map_err(|error| fault(&error))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut config: Self = toml::from_str(&text).map_err(|error| fault(&error.to_string().trim_end()))?;
        config.resolve(folder);
        config.check().map_err(|reason| fault(&reason))?;
        Ok(config)
    }

    fn resolve(&mut self, folder: &Path) {
        let mut from = |path: &mut PathBuf| *path = folder.join(&*path);
        from(&mut self.backbone);
        from(&mut self.state);
        self.trust
            .keys
            .iter_mut()
            .filter_map(|key| key.file.as_mut())
            .for_each(&mut from);
        if let SourceConfig::Directory { path, .. } = &mut self.source {
            from(path);
        }
        if let Some(socket) = &mut self.control.socket {
            from(socket);
        }
    }

    fn check(&self) -> Result<(), String> {
        let positive = |what: &str, value: usize| {
            if value == 0 {
                Err(format!("`{what}` is 0, expected at least 1"))
            } else {
                Ok(())
            }
        };
        positive("top_k", self.top_k)?;
        if !(0.005..=0.5).contains(&self.false_alarms) {
            let got = self.false_alarms;
            return Err(format!("`false_alarms` is {got}, expected 0.005 to 0.5"));
        }
        positive("trial.frames", self.trial.frames as usize)?;
        positive("limits.adapter_bytes", self.limits.adapter_bytes)?;
        positive("tuning.frame_interval", self.tuning.frame_interval as usize)?;
        positive("tuning.memory", self.tuning.memory.unwrap_or(1) as usize)?;
        positive("tuning.steps", self.tuning.steps as usize)?;
        positive("tuning.seconds", self.tuning.seconds as usize)?;
        positive("limits.connections", self.limits.connections)?;
        positive("limits.tasks", self.limits.tasks)?;
        if self.limits.reserve_bytes >= self.limits.state_bytes {
            return Err(format!(
                "`limits.reserve_bytes` is {}, expected less than `limits.state_bytes`, {}",
                self.limits.reserve_bytes, self.limits.state_bytes
            ));
        }
        for (what, value) in [
            ("limits.image_memory", self.limits.image_memory),
            ("limits.image_bytes", self.limits.image_bytes),
            ("limits.image_pixels", self.limits.image_pixels),
            ("limits.image_ms", self.limits.image_ms),
        ] {
            positive(
                what,
                value.map_or(1, |value| usize::try_from(value).unwrap_or(usize::MAX)),
            )?;
        }
        if let Some(http) = &self.http {
            positive("http.connections", http.connections)?;
        }
        positive("limits.peer_connections", self.limits.peer_connections)?;
        positive("limits.handshakes", self.limits.handshakes)?;
        positive("limits.host_connections", self.limits.host_connections)?;
        positive(
            "limits.host_requests_per_second",
            self.limits.host_requests_per_second as usize,
        )?;
        for (index, host) in self.hosts.iter().enumerate() {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-');
            let twice = |other: &HostConfig| other.name == host.name || other.key == host.key;
            if host.name.is_empty() || host.name.len() > 64 || !host.name.chars().all(plain) {
                return Err(format!(
                    "`hosts.name` is '{}', expected 1 to 64 letters, digits and . _ @ -",
                    host.name.escape_debug()
                ));
            }
            if host.roles.is_empty() {
                return Err(format!(
                    "`hosts.roles` of '{}' is empty\nhint: roles = [\"update\"], or remove the host",
                    host.name
                ));
            }
            if self.hosts[..index].iter().any(twice) {
                return Err(format!("`hosts`: '{}' or its key is listed twice", host.name));
            }
        }
        for (what, value) in [
            ("trial.low_confidence", self.trial.low_confidence),
            (
                "trial.max_low_confidence_fraction",
                self.trial.max_low_confidence_fraction,
            ),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("`{what}` is {value}, expected 0 to 1"));
            }
        }
        for (what, name) in self
            .audience
            .iter()
            .map(|name| ("audience", name))
            .chain(self.trust.minimum.keys().map(|name| ("trust.minimum", name)))
        {
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(format!(
                    "`{what}`: {name:?} is not a name: empty or with control characters"
                ));
            }
        }
        if let Some(name) = self.audience.iter().find(|name| name.contains('*')) {
            return Err(format!(
                "`audience`: `{name}` has a `*`, expected a name\nhint: list the fleets by name; patterns belong to signed adapters"
            ));
        }
        for (index, key) in self.trust.keys.iter().enumerate() {
            if key.key.is_some() == key.file.is_some() {
                return Err(format!(
                    "`trust.keys` number {}: expected either `key` or `file`",
                    index + 1
                ));
            }
        }
        Ok(())
    }

    /// Returns the folder of the store.
    pub fn store(&self) -> PathBuf {
        self.state.join("store")
    }

    /// Returns the preferred path of the Unix socket for commands.
    pub fn socket(&self) -> PathBuf {
        let in_state = || self.state.join("control.sock");
        self.control.socket.clone().unwrap_or_else(in_state)
    }

    /// Returns the paths to try for the Unix socket, the preferred one first. If the state folder is unusable, for
    /// example on a read-only disk, the socket is placed in a runtime folder under a name derived from the state
    /// folder. A configured path has no alternatives.
    pub fn sockets(&self) -> Vec<PathBuf> {
        let mut sockets = vec![self.socket()];
        if self.control.socket.is_none() {
            let state = std::path::absolute(&self.state).unwrap_or_else(|_| self.state.clone());
            let name = Digest::of(state.as_os_str().as_encoded_bytes()).to_string();
            let name = format!("clr-{}.sock", &name[..16]);
            let variable = |name| {
                std::env::var_os(name)
                    .map(PathBuf::from)
                    .filter(|path| path.is_absolute())
            };
            let folders = [
                variable("RUNTIME_DIRECTORY"),
                Some(PathBuf::from("/run/clr")),
                variable("XDG_RUNTIME_DIR"),
                Some(PathBuf::from("/run")),
            ];
            sockets.extend(folders.into_iter().flatten().map(|folder| folder.join(&name)));
        }
        sockets
    }

    /// Returns the trust rules: keys, audience names and minimum versions. Reads the key files.
    pub fn trust(&self, device: Option<PublicKey>) -> Result<Trust, DaemonError> {
        let key = |config: &KeyConfig| {
            let key = match (&config.key, &config.file) {
                (Some(key), _) => *key,
                (None, Some(file)) => read_public_key(file)?,
                (None, None) => return Ok(None),
            };
            Ok(Some(TrustedKey {
                key,
                tasks: config.tasks.clone(),
            }))
        };
        let minimum = |(task, &version): (&String, &u64)| MinimumVersion {
            task: task.clone(),
            version,
        };
        let publishers = self.trust.keys.iter().filter_map(|config| key(config).transpose());
        Ok(Trust {
            publishers: publishers.collect::<Result<_, DaemonError>>()?,
            device,
            allow_unsigned: self.trust.allow_unsigned,
            names: Some(std::iter::once(&self.name).chain(&self.audience).cloned().collect()),
            minimum: self.trust.minimum.iter().map(minimum).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clr_adapters::Trial;

    use super::*;
    use crate::TaskChoice;

    fn read(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path).map_err(|error| error.to_string())
    }

    const LEAST: &str = "backbone = 'lite0.onnx'\nstate = 'state'\n";

    #[test]
    fn two_lines_suffice_and_paths_are_relative_to_the_file() {
        let config = read(LEAST).unwrap();
        assert!(config.backbone.is_absolute() && config.backbone.ends_with("lite0.onnx"));
        assert!(config.socket().ends_with("state/control.sock"));
        assert!(!config.trust.allow_unsigned && config.tcp.is_none() && config.http.is_none());
        assert!(matches!(config.source, SourceConfig::None));
    }

    #[test]
    fn unknown_keys_and_values_out_of_range_are_reported() {
        for (line, named) in [
            ("bakbone = 1", "bakbone"),
            ("[trial]\nframes = 0", "trial.frames"),
            ("[trial]\nlow_confidence = 1.5", "1.5"),
            ("[source]\nkind = 'camra'", "camra"),
            ("[[trust.keys]]\nkey = 'ed25519:12'", "64 hexadecimal digits"),
            ("[[trust.keys]]\ntasks = ['a']", "`key` or `file`"),
            ("task = ['helmet', 'vest', 'helmet']", "`helmet` twice"),
            ("task = ['helmet', 'auto']", "`auto` is in a list"),
            ("task = []", "the list of tasks is empty"),
            ("task = 7", "a list of tasks' names"),
            ("[tcp]\nlisten = 'here'", "listen"),
            ("audience = ['fleet-*']", "fleet-*"),
            ("audience = ['']", "audience"),
            ("[trust.minimum]\nbirds = -1", "birds"),
            ("[limits]\nimage_memory = 0", "limits.image_memory"),
            ("false_alarms = 0.6", "expected 0.005 to 0.5"),
            (
                "[[hosts]]\nname = 'a'\nkey = 'x25519:12'\nroles = ['update']",
                "x25519:12",
            ),
            ("[[hosts]]\nname = 'a'\nroles = ['update']", "key"),
            (
                "[[hosts]]\nname = 'a'\nkey = 'x25519:0101010101010101010101010101010101010101010101010101010101010101'\nroles = ['root']",
                "'root' is not a role",
            ),
        ] {
            let error = read(&format!("{LEAST}{line}\n")).unwrap_err();
            assert!(
                error.contains(named) && error.contains("device.toml"),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn renamed_keys_are_accepted_under_their_old_names() {
        let old = "top = 3\n[trust]\nunsigned = true\n[trial]\nmax_low_share = 0.5\n[tuning]\nframes = 7\nevery = 2\n";
        let config = read(&format!("{LEAST}{old}")).unwrap();
        assert_eq!((config.top_k, config.trust.allow_unsigned), (3, true));
        assert_eq!(config.trial.max_low_confidence_fraction, 0.5);
        assert_eq!((config.tuning.max_frames, config.tuning.frame_interval), (7, 2));
        let both = read(&format!("{LEAST}top = 3\ntop_k = 4\n")).unwrap_err();
        assert!(both.contains("duplicate field `top_k`"), "{both}");
    }

    #[test]
    fn the_tasks_to_start_with_are_a_name_a_list_or_auto() {
        let task = |line: &str| read(&format!("{LEAST}{line}\n")).unwrap().task;
        let tasks = |names: &[&str]| Some(TaskChoice::of_names(names).unwrap());
        assert_eq!(task(""), None);
        assert_eq!(task("task = 'helmet'"), tasks(&["helmet"]));
        assert_eq!(task("task = ['vest', 'helmet']"), tasks(&["vest", "helmet"]));
        assert_eq!(task("task = 'auto'"), Some(TaskChoice::Auto));
    }

    #[test]
    fn a_file_saved_by_a_windows_editor_is_read() {
        let config = read(&format!("\u{feff}{}", LEAST.replace('\n', "\r\n"))).unwrap();
        assert!(config.backbone.ends_with("lite0.onnx"));
    }

    #[test]
    fn a_full_configuration_is_read() {
        let text = format!(
            "{LEAST}name = 'gate'\ntask = 'auto'\nfalse_alarms = 0.01\nthreads = 2\ntop_k = 3\n\
             audience = ['fleet-a', 'north']\n[trust]\nallow_unsigned = true\n[trust.minimum]\nbirds = 7\n'b*' = 5\n[source]\nkind = 'directory'\npath = 'frames'\ndelete = true\n\
             [tcp]\nlisten = '127.0.0.1:7420'\n[serial]\nport = '/dev/ttyAMA0'\nbaud = 921600\n\
             [http]\nlisten = '127.0.0.1:9420'\nconnections = 20\nbody_bytes = 1000\n[trial]\nframes = 20\nmax_latency_ms = 50\n[limits]\nconnections = 2\n"
        );
        let config = read(&text).unwrap();
        assert_eq!(config.false_alarms, 0.01);
        let trust = config.trust(None).unwrap();
        assert_eq!(trust.names.as_deref().unwrap(), ["gate", "fleet-a", "north"]);
        assert_eq!(["birds", "bees", "cats"].map(|task| trust.minimum(task)), [7, 5, 0]);
        assert_eq!(config.serial.unwrap().baud, 921_600);
        let http = config.http.unwrap();
        assert_eq!((http.connections, http.body_bytes), (20, 1000));
        assert_eq!(Trial::from(&config.trial).max_latency_ms, Some(50));
    }
}
