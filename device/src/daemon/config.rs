//! The configuration file: TOML, every key checked, unknown keys refused.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clr_adapters::{PublicKey, Trial, Trust, TrustedKey};
use serde::Deserialize;

use super::DaemonError;
use crate::read_public_key;

/// Everything that `clr-device run` can be told. Relative paths are taken from the configuration file's folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The device's name in logs and towards hosts.
    #[serde(default = "hostname")]
    pub name: String,
    /// The backbone, an ONNX file.
    pub backbone: PathBuf,
    /// The folder of the store: adapters, labelled pictures, the device's key.
    pub state: PathBuf,
    /// The task to start with, or `auto`; the one that served last where it is left out.
    #[serde(default)]
    pub task: Option<String>,
    /// Threads per picture; 0 takes one a core.
    #[serde(default = "one")]
    pub threads: usize,
    /// Classes in the answer of a frame.
    #[serde(default = "five")]
    pub top: usize,
    /// Whose adapters are taken.
    #[serde(default)]
    pub trust: TrustConfig,
    /// Where frames come from.
    #[serde(default)]
    pub source: SourceConfig,
    /// The Unix socket for commands on this machine.
    #[serde(default)]
    pub control: ControlConfig,
    /// The update protocol on TCP.
    #[serde(default)]
    pub tcp: Option<TcpConfig>,
    /// The update protocol on a serial line.
    #[serde(default)]
    pub serial: Option<SerialConfig>,
    /// Metrics and health over HTTP.
    #[serde(default)]
    pub http: Option<HttpConfig>,
    /// The bounds of a trial for adapters that state none.
    #[serde(default)]
    pub trial: TrialConfig,
    /// Caps.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Learning on the device.
    #[serde(default)]
    pub tuning: TuningConfig,
}

/// Learning on the device.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TuningConfig {
    /// Frames that the device keeps of each task, unlabelled, so that learning a new class can be judged by the classes
    /// that it knew. 0: none is ever stored.
    pub frames: usize,
    /// Only every so-manieth frame is kept, so that they differ.
    pub every: u64,
}

impl Default for TuningConfig {
    fn default() -> Self {
        Self { frames: 0, every: 10 }
    }
}

/// Whose adapters are taken.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TrustConfig {
    /// The publishers' keys.
    #[serde(default)]
    pub keys: Vec<KeyConfig>,
    /// Whether unsigned adapters are taken too: for a bench, not for the field.
    #[serde(default)]
    pub unsigned: bool,
}

/// One publisher's key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct KeyConfig {
    /// `ed25519:…`.
    #[serde(default)]
    pub key: Option<PublicKey>,
    /// Or the `.pub` file that holds it.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The tasks it may speak for, `*` standing for any characters; all where left out.
    #[serde(default)]
    pub tasks: Option<Vec<String>>,
}

/// Where frames come from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum SourceConfig {
    /// Nowhere: the device only takes commands.
    #[default]
    None,
    /// Pictures that appear in a folder, oldest first.
    Directory {
        /// The folder.
        path: PathBuf,
        /// Whether a picture is deleted once it was answered.
        #[serde(default)]
        delete: bool,
        /// Whether pictures that wait are dropped for the newest.
        #[serde(default)]
        latest: bool,
    },
    /// Pictures one behind the other on standard input: JPEG (so MJPEG), PNG, BMP, WebP.
    Stdin {
        /// Whether frames that wait are dropped for the newest.
        #[serde(default = "yes")]
        latest: bool,
    },
    /// A V4L2 camera; needs the feature `camera`.
    #[cfg(feature = "camera")]
    Camera {
        /// The device file.
        #[serde(default = "video0")]
        path: PathBuf,
        /// Pixels a row asked for.
        #[serde(default = "width")]
        width: u32,
        /// Rows asked for.
        #[serde(default = "height")]
        height: u32,
    },
}

/// The Unix socket.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ControlConfig {
    /// Its path; `control.sock` in the state folder where left out.
    #[serde(default)]
    pub socket: Option<PathBuf>,
}

/// The update protocol on TCP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TcpConfig {
    /// Address and port; loopback unless an address of the network is written here.
    pub listen: SocketAddr,
}

/// The update protocol on a serial line.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SerialConfig {
    /// The device file.
    pub port: PathBuf,
    /// Bits a second.
    #[serde(default = "baud")]
    pub baud: u32,
}

/// Metrics and health over HTTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Address and port.
    pub listen: SocketAddr,
}

/// The bounds of a trial.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TrialConfig {
    /// Good frames until confirmation.
    pub frames: u32,
    /// Milliseconds a frame may take.
    pub max_latency_ms: Option<u32>,
    /// Probability below which a frame is one of low confidence.
    pub low_confidence: f32,
    /// Share of such frames that ends the trial.
    pub max_low_share: f32,
}

/// Caps.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// Bytes of one adapter file.
    pub adapter_bytes: usize,
    /// Bytes of one labelled picture.
    pub example_bytes: usize,
    /// Labelled pictures kept for a task.
    pub examples_per_task: usize,
    /// Connections at once.
    pub connections: usize,
}

impl Default for TrialConfig {
    fn default() -> Self {
        Self {
            frames: 100,
            max_latency_ms: None,
            low_confidence: 0.3,
            max_low_share: 0.9,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            adapter_bytes: 8 << 20,
            example_bytes: 4 << 20,
            examples_per_task: 1_000,
            connections: 8,
        }
    }
}

impl From<&TrialConfig> for Trial {
    fn from(config: &TrialConfig) -> Self {
        Self {
            frames: config.frames,
            max_latency_ms: config.max_latency_ms,
            low_confidence: config.low_confidence,
            max_low_share: config.max_low_share,
        }
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

const fn one() -> usize {
    1
}

const fn five() -> usize {
    5
}

const fn yes() -> bool {
    true
}

const fn baud() -> u32 {
    115_200
}

#[cfg(feature = "camera")]
fn video0() -> PathBuf {
    PathBuf::from("/dev/video0")
}

#[cfg(feature = "camera")]
const fn width() -> u32 {
    640
}

#[cfg(feature = "camera")]
const fn height() -> u32 {
    480
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn read(path: &Path) -> Result<Self, DaemonError> {
        let fault = |reason: &dyn fmt::Display| DaemonError::Config {
            path: path.to_owned(),
            reason: reason.to_string(),
        };
        let text = std::fs::read_to_string(path).map_err(|error| fault(&error))?;
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
        match &mut self.control.socket {
            Some(socket) => from(socket),
            none => *none = Some(self.state.join("control.sock")),
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
        positive("top", self.top)?;
        positive("trial.frames", self.trial.frames as usize)?;
        positive("limits.adapter_bytes", self.limits.adapter_bytes)?;
        positive("tuning.every", self.tuning.every as usize)?;
        positive("limits.connections", self.limits.connections)?;
        for (what, value) in [
            ("trial.low_confidence", self.trial.low_confidence),
            ("trial.max_low_share", self.trial.max_low_share),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("`{what}` is {value}, expected 0 to 1"));
            }
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

    /// The folder of the store.
    pub fn store(&self) -> PathBuf {
        self.state.join("store")
    }

    /// The Unix socket for commands.
    pub fn socket(&self) -> PathBuf {
        let in_state = || self.state.join("control.sock");
        self.control.socket.clone().unwrap_or_else(in_state)
    }

    /// Whose signatures count; key files are read.
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
        let publishers = self.trust.keys.iter().filter_map(|config| key(config).transpose());
        Ok(Trust {
            publishers: publishers.collect::<Result<_, DaemonError>>()?,
            device,
            unsigned: self.trust.unsigned,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path).map_err(|error| error.to_string())
    }

    const LEAST: &str = "backbone = 'lite0.onnx'\nstate = 'state'\n";

    #[test]
    fn two_lines_are_a_configuration_and_paths_start_at_the_file() {
        let config = read(LEAST).unwrap();
        assert!(config.backbone.is_absolute() && config.backbone.ends_with("lite0.onnx"));
        assert!(config.socket().ends_with("state/control.sock"));
        assert!(!config.trust.unsigned && config.tcp.is_none() && config.http.is_none());
        assert!(matches!(config.source, SourceConfig::None));
    }

    #[test]
    fn unknown_keys_and_values_out_of_range_are_named() {
        for (line, named) in [
            ("bakbone = 1", "bakbone"),
            ("[trial]\nframes = 0", "trial.frames"),
            ("[trial]\nlow_confidence = 1.5", "1.5"),
            ("[source]\nkind = 'camra'", "camra"),
            ("[[trust.keys]]\nkey = 'ed25519:12'", "64 hexadecimal digits"),
            ("[[trust.keys]]\ntasks = ['a']", "`key` or `file`"),
            ("[tcp]\nlisten = 'here'", "listen"),
        ] {
            let error = read(&format!("{LEAST}{line}\n")).unwrap_err();
            assert!(
                error.contains(named) && error.contains("device.toml"),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn a_full_configuration_is_read() {
        let text = format!(
            "{LEAST}name = 'gate'\ntask = 'auto'\nthreads = 2\ntop = 3\n\
             [trust]\nunsigned = true\n[source]\nkind = 'directory'\npath = 'frames'\ndelete = true\n\
             [tcp]\nlisten = '127.0.0.1:7420'\n[serial]\nport = '/dev/ttyAMA0'\nbaud = 921600\n\
             [http]\nlisten = '127.0.0.1:9420'\n[trial]\nframes = 20\nmax_latency_ms = 50\n[limits]\nconnections = 2\n"
        );
        let config = read(&text).unwrap();
        assert_eq!(config.serial.unwrap().baud, 921_600);
        assert_eq!(Trial::from(&config.trial).max_latency_ms, Some(50));
    }
}
