//! The configuration file: TOML, every key checked, unknown keys refused.

mod read;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use clr_adapters::{PublicKey, Trial};
use clr_transfer::{PeerKey, Role};
use serde::Deserialize;

/// Everything that `clr-device run` can be told. Relative paths are taken from the configuration file's folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The device's name in logs and towards hosts.
    #[serde(default = "hostname")]
    pub name: String,
    /// Names of the fleets that the device belongs to. An adapter that is signed for an audience is taken if a pattern of it fits one
    /// of these or the device's name.
    #[serde(default)]
    pub audience: Vec<String>,
    /// The backbone, an ONNX file.
    pub backbone: PathBuf,
    /// The folder of the store: adapters, labelled pictures, the device's key.
    pub state: PathBuf,
    /// The task to start with, or `auto`; the one that served last where it is left out.
    #[serde(default)]
    pub task: Option<String>,
    /// Threads per image; 0: one per core.
    #[serde(default = "one")]
    pub threads: usize,
    /// Number of classes in a result.
    #[serde(default = "five", alias = "top")]
    pub top_k: usize,
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
    /// Hosts that may speak to the device over TCP and serial lines.
    #[serde(default)]
    pub hosts: Vec<HostConfig>,
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
    /// Maximum number of unlabelled images stored per task, to check a new class against the known ones. 0 stores none.
    #[serde(alias = "frames")]
    pub max_frames: usize,
    /// Store one frame in every `frame_interval`.
    #[serde(alias = "every")]
    pub frame_interval: u64,
    /// Memory limit of the process while it tunes, in bytes, for every host; by default half of the machine's memory.
    pub memory: Option<u64>,
    /// Maximum number of steps of one run.
    pub steps: u32,
    /// Maximum duration of one run in seconds, restarts included.
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
    /// The publishers' keys.
    #[serde(default)]
    pub keys: Vec<KeyConfig>,
    /// Whether unsigned adapters are accepted too: for a bench, not for the field.
    #[serde(default, alias = "unsigned")]
    pub allow_unsigned: bool,
    /// Lowest version of a task that is accepted and served, by the task's name; `*` matches any characters. Unlike the store's
    /// record, it survives a factory reset.
    #[serde(default)]
    pub minimum: BTreeMap<String, u64>,
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
    /// A group whose members may use it too; the socket's mode is 0660 then.
    #[serde(default)]
    pub group: Option<String>,
}

/// A host that may speak to the device.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HostConfig {
    /// Its name in logs.
    pub name: String,
    /// Its public key, `x25519:…`.
    #[serde(deserialize_with = "parsed")]
    pub key: PeerKey,
    /// What it may do.
    #[serde(deserialize_with = "all_parsed")]
    pub roles: Vec<Role>,
}

/// The update protocol on TCP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TcpConfig {
    /// Address and port; loopback unless an address of the network is written here.
    pub listen: SocketAddr,
    /// Whether sessions without encryption are taken from everybody: for a trusted network alone.
    #[serde(default)]
    pub plain: bool,
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
    /// Whether sessions without encryption are taken: where who reaches the line may do everything.
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
    /// Connections at once; half of them, at most four, are reserved for loopback.
    #[serde(default = "http_connections")]
    pub connections: usize,
    /// Bytes of a request's body.
    #[serde(default = "body_bytes")]
    pub body_bytes: u64,
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
    /// Fraction of low-confidence frames above which the trial fails.
    #[serde(alias = "max_low_share")]
    pub max_low_confidence_fraction: f32,
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
    /// Connections at once on the control socket.
    pub connections: usize,
    /// Bytes that announced uploads may write to the disk in 24 hours; beyond that they are held in memory until they are
    /// verified.
    pub upload_bytes_per_day: u64,
    /// Tasks, those included that only have taught images, and removed ones whose highest version is kept.
    pub tasks: usize,
    /// Bytes of the whole store.
    pub state_bytes: u64,
    /// Bytes that everything but records leaves free, of `state_bytes` and of the disk.
    pub reserve_bytes: u64,
    /// Bytes of memory that one image may take while it is decoded, rotated and converted; from the network's input and the machine's memory
    /// where left out.
    pub image_memory: Option<u64>,
    /// Bytes of one image file; 32 MiB where left out.
    pub image_bytes: Option<u64>,
    /// Pixels of one image; 100 million where left out.
    pub image_pixels: Option<u64>,
    /// Milliseconds that decoding one image may take; 10,000 where left out.
    pub image_ms: Option<u64>,
    /// Connections at once over TCP with an open session.
    pub peer_connections: usize,
    /// Connections at once over TCP without a session yet.
    pub handshakes: usize,
    /// Sessions at once of one host.
    pub host_connections: usize,
    /// Bytes written in a day on behalf of one host.
    pub host_bytes_per_day: u64,
    /// Requests a second of one host that change something; more have to wait.
    pub host_requests_per_second: u32,
}

impl LimitsConfig {
    /// Bytes of the largest image file, also of one that is not read for its length.
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
            max_low_share: config.max_low_confidence_fraction,
        }
    }
}

/// A value that is written as text.
fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|error| serde::de::Error::custom(format_args!("`{text}`: {error}")))
}

/// A list of values that are written as texts.
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
