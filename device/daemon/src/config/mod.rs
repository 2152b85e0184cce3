//! Configuration file in TOML. Every value is checked and unknown keys are refused.

mod read;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use clr_adapters::{PublicKey, Trial};
use clr_transfer::{PeerKey, Role};
use serde::Deserialize;

use crate::task_choice::TaskChoice;

/// Configuration of `clr-device run`. Relative paths refer to the folder of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Name of the device, in logs and for hosts. Default: the host name.
    #[serde(default = "hostname")]
    pub name: String,
    /// Names of the device's fleets. An adapter signed for an audience is accepted if one of the audience's patterns
    /// matches one of these names or the device's name.
    #[serde(default)]
    pub audience: Vec<String>,
    /// ONNX file of the backbone.
    pub backbone: PathBuf,
    /// State folder: adapters, labelled images and the device's key.
    pub state: PathBuf,
    /// Tasks to start with: a task, a list of tasks that classify each image together, or `auto`. Default: the last
    /// choice.
    #[serde(default)]
    pub task: Option<TaskChoice>,
    /// With `auto`: fraction of a task's own images that may be taken for unknown, 0.005 to 0.5.
    #[serde(default = "five_per_cent")]
    pub false_alarms: f32,
    /// Number of threads per image; 0 means one per core.
    #[serde(default = "one")]
    pub threads: usize,
    /// Number of classes in a result.
    #[serde(default = "five", alias = "top")]
    pub top_k: usize,
    /// Trusted publishers, and minimum versions.
    #[serde(default)]
    pub trust: TrustConfig,
    /// Source of frames.
    #[serde(default)]
    pub source: SourceConfig,
    /// Unix socket for commands on this machine.
    #[serde(default)]
    pub control: ControlConfig,
    /// Update protocol over TCP.
    #[serde(default)]
    pub tcp: Option<TcpConfig>,
    /// Update protocol over a serial line.
    #[serde(default)]
    pub serial: Option<SerialConfig>,
    /// Metrics and health over HTTP.
    #[serde(default)]
    pub http: Option<HttpConfig>,
    /// Default bounds of a trial, for adapters that define none.
    #[serde(default)]
    pub trial: TrialConfig,
    /// Hosts that may connect over TCP or a serial line.
    #[serde(default)]
    pub hosts: Vec<HostConfig>,
    /// Caps of the device.
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
    /// Maximum number of unlabelled images to store per task. Tuning uses them as images of the known classes: it
    /// trains with them and tests its result on them. `teach` uses them only without class features. 0 stores none.
    #[serde(alias = "frames")]
    pub max_frames: usize,
    /// Store one frame in every `frame_interval`.
    #[serde(alias = "every")]
    pub frame_interval: u64,
    /// Memory limit of the process while it tunes, in bytes. Hosts cannot exceed it. Default: half of the machine's
    /// memory.
    pub memory: Option<u64>,
    /// Maximum number of steps of one run.
    pub steps: u32,
    /// Maximum duration of one run in seconds, including time before restarts.
    pub seconds: u32,
}

impl Default for TuningConfig {
    fn default() -> Self {
        Self {
            max_frames: 0,
            frame_interval: 10,
            memory: None,
            steps: 10_000,
            seconds: 3_600,
        }
    }
}

/// Trusted publishers, and minimum versions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TrustConfig {
    /// Keys of the publishers.
    #[serde(default)]
    pub keys: Vec<KeyConfig>,
    /// Whether unsigned adapters are accepted too. For tests, not for deployment.
    #[serde(default, alias = "unsigned")]
    pub allow_unsigned: bool,
    /// Minimum version that is accepted and served, by task name; `*` matches any characters. Unlike the store's
    /// record, it survives a factory reset.
    #[serde(default)]
    pub minimum: BTreeMap<String, u64>,
}

/// Key of a publisher, as text or in a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct KeyConfig {
    /// `ed25519:…`.
    #[serde(default)]
    pub key: Option<PublicKey>,
    /// `.pub` file with the key.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Patterns of the tasks that the key may sign; `*` matches any characters. Default: all tasks.
    #[serde(default)]
    pub tasks: Option<Vec<String>>,
}

/// Source of frames.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum SourceConfig {
    /// No frames: the device only serves commands.
    #[default]
    None,
    /// The images in a folder, oldest first, and then those that appear in it.
    Directory {
        /// The folder.
        path: PathBuf,
        /// Whether an image is deleted after classification.
        #[serde(default)]
        delete: bool,
        /// Whether a new image replaces one that is waiting for classification.
        #[serde(default)]
        latest: bool,
    },
    /// Concatenated images on standard input: JPEG (which includes MJPEG), PNG, BMP, WebP.
    Stdin {
        /// Whether a new image replaces one that is waiting for classification.
        #[serde(default = "yes")]
        latest: bool,
    },
    /// A V4L2 camera; needs the feature `camera`.
    #[cfg(feature = "camera")]
    Camera {
        /// The device file.
        #[serde(default = "video0")]
        path: PathBuf,
        /// Requested width in pixels.
        #[serde(default = "width")]
        width: u32,
        /// Requested height in pixels.
        #[serde(default = "height")]
        height: u32,
    },
}

/// The Unix socket.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ControlConfig {
    /// Path of the socket. Default: `control.sock` in the state folder.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// Group whose members may also use the socket. Its mode is then 0660.
    #[serde(default)]
    pub group: Option<String>,
}

/// A host that may connect to the device.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HostConfig {
    /// Name in logs.
    pub name: String,
    /// Public key, `x25519:…`.
    #[serde(deserialize_with = "parsed")]
    pub key: PeerKey,
    /// Roles.
    #[serde(deserialize_with = "all_parsed")]
    pub roles: Vec<Role>,
}

/// Update protocol over TCP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TcpConfig {
    /// Address and port to listen on, of the loopback interface or of a network.
    pub listen: SocketAddr,
    /// Whether every peer may open unencrypted sessions. Only for trusted networks.
    #[serde(default)]
    pub plain: bool,
}

/// Update protocol over a serial line.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SerialConfig {
    /// The device file.
    pub port: PathBuf,
    /// Bits per second.
    #[serde(default = "baud")]
    pub baud: u32,
    /// Whether unencrypted sessions are accepted. Anyone with access to the line then has all permissions.
    #[serde(default)]
    pub plain: bool,
}

/// Metrics and health over HTTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// Maximum number of simultaneous connections. Half of them, but at most four, are reserved for loopback.
    #[serde(default = "http_connections")]
    pub connections: usize,
    /// Maximum size of a request's body, in bytes.
    #[serde(default = "body_bytes")]
    pub body_bytes: u64,
}

/// Bounds of a trial.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TrialConfig {
    /// Number of frames after which the adapter is confirmed.
    pub frames: u32,
    /// Latency above which a frame counts as slow, in milliseconds.
    pub max_latency_ms: Option<u32>,
    /// Probability below which a frame counts as low-confidence.
    pub low_confidence: f32,
    /// Fraction of low-confidence frames above which the trial fails.
    #[serde(alias = "max_low_share")]
    pub max_low_confidence_fraction: f32,
}

/// Caps of the device.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// Maximum size of an adapter file, in bytes.
    pub adapter_bytes: usize,
    /// Maximum size of a labelled image, in bytes.
    pub example_bytes: usize,
    /// Maximum number of labelled images of one task.
    pub examples_per_task: usize,
    /// Maximum number of simultaneous connections on the control socket.
    pub connections: usize,
    /// Maximum bytes that announced uploads may write to the disk in 24 hours. Beyond it, uploads stay in memory until
    /// they are verified.
    pub upload_bytes_per_day: u64,
    /// Maximum number of tasks. Tasks that only have images count, and so do removed tasks whose highest version is
    /// kept.
    pub tasks: usize,
    /// Maximum size of the store, in bytes.
    pub state_bytes: u64,
    /// Number of bytes reserved for records. They are reserved within `state_bytes` and in the free space of the disk.
    pub reserve_bytes: u64,
    /// Maximum memory for decoding, rotating and converting an image, in bytes. The default depends on the network's
    /// input and the machine's memory.
    pub image_memory: Option<u64>,
    /// Maximum size of an image file, in bytes. Default: 32 MiB.
    pub image_bytes: Option<u64>,
    /// Maximum number of pixels of an image. Default: 100 million.
    pub image_pixels: Option<u64>,
    /// Maximum time for decoding an image, in milliseconds. Default: 10,000.
    pub image_ms: Option<u64>,
    /// Maximum number of simultaneous TCP connections with an open session.
    pub peer_connections: usize,
    /// Maximum number of simultaneous TCP connections without a session yet.
    pub handshakes: usize,
    /// Maximum number of simultaneous sessions of one host.
    pub host_connections: usize,
    /// Maximum number of bytes per day that may be written on behalf of one host.
    pub host_bytes_per_day: u64,
    /// Maximum rate of modifying requests of one host, per second. Further requests wait.
    pub host_requests_per_second: u32,
}

impl LimitsConfig {
    /// Returns the cap of an image file in bytes.
    pub(crate) fn image_bytes(&self) -> u64 {
        self.image_bytes.unwrap_or(clr_onnx::DecodeLimits::DEVICE_BYTES)
    }
}

impl Default for TrialConfig {
    fn default() -> Self {
        Self {
            frames: 100,
            max_latency_ms: None,
            low_confidence: 0.3,
            max_low_confidence_fraction: 0.9,
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
            upload_bytes_per_day: 1 << 30,
            tasks: clr_store::Caps::DEFAULT.tasks,
            state_bytes: clr_store::Caps::DEFAULT.state_bytes,
            reserve_bytes: clr_store::Caps::DEFAULT.reserve_bytes,
            image_memory: None,
            image_bytes: None,
            image_pixels: None,
            image_ms: None,
            peer_connections: 8,
            handshakes: 4,
            host_connections: 2,
            host_bytes_per_day: 1 << 30,
            host_requests_per_second: 50,
        }
    }
}

impl From<&TrialConfig> for Trial {
    fn from(config: &TrialConfig) -> Self {
        Self {
            frames: config.frames,
            max_latency_ms: config.max_latency_ms,
            low_confidence: config.low_confidence,
            max_low_confidence_fraction: config.max_low_confidence_fraction,
        }
    }
}

/// Deserialises a value from text.
fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|error| serde::de::Error::custom(format_args!("`{text}`: {error}")))
}

/// Deserialises a list of values from texts.
fn all_parsed<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let read = |text: String| text.parse().map_err(serde::de::Error::custom);
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.into_iter().map(read).collect()
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

const fn one() -> usize {
    1
}

const fn five_per_cent() -> f32 {
    0.05
}

const fn five() -> usize {
    5
}

const fn yes() -> bool {
    true
}

const fn http_connections() -> usize {
    16
}

const fn body_bytes() -> u64 {
    8 << 20
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
