//! A real `clr-device` process for tests, with its own store, folder of frames and keys.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use clr_adapters::{Adapter, Encoding, Recipe, SecretKey, SiteSteps, StepSize, Terms, Trial, encode, sign_release};
use clr_onnx::{Architecture, Backbone, RgbImage, compacted};
use clr_transfer::{
    ClientError, ClientOptions, Endpoint, EndpointClient, Kind, Pushed, Status, SystemClock, TaskSummary,
};
use serde_json::Value;
use tempfile::TempDir;

use super::evidence;
use crate::seeded;

/// Timeout for every wait, sufficient on a loaded machine whose disk takes a minute for an `fsync`.
pub(super) const TIMEOUT: Duration = Duration::from_mins(4);
/// Time without a result after which a device that lives is taken to have none.
const SILENCE: Duration = Duration::from_secs(15);
/// Configuration of a source that is a folder of frames.
pub(super) const FRAMES: &str = "[source]\nkind = 'directory'\npath = 'frames'\ndelete = true\n";
/// Side of the input in pixels.
const SIDE: u32 = 32;

/// Returns the key of the publisher that the test devices trust.
pub(super) fn publisher() -> SecretKey {
    SecretKey::from_bytes(&[1; 32])
}

/// Returns the backbone of all test devices, and its file.
pub(super) fn backbone() -> &'static (Backbone, PathBuf) {
    static BACKBONE: OnceLock<(Backbone, PathBuf)> = OnceLock::new();
    BACKBONE.get_or_init(|| {
        let backbone = seeded::backbone(Architecture::MobileNetV2, SIDE);
        // One file for all tests of this process, in the system's temporary folder.
        let path = std::env::temp_dir().join(format!("clr-device-test-{}.onnx", std::process::id()));
        backbone.save(&path).unwrap();
        (Backbone::load(&path).unwrap(), path)
    })
}

/// A publisher's adapter of a version.
pub(super) fn adapter(task: &str, version: u64) -> Adapter {
    let mut adapter = seeded::adapter(&backbone().0, Recipe::Bn, task, 3, version * 31 + task.len() as u64);
    adapter.header.version = version;
    adapter
}

/// Version 2 of a task's adapter, which scores every class equally and is on trial for three frames.
pub(super) fn never_confident(task: &str) -> Adapter {
    let mut adapter = adapter(task, 2);
    adapter.head.weight.fill(0.0);
    adapter.head.bias.fill(0.0);
    adapter.header.trial = Some(Trial {
        frames: 3,
        max_latency_ms: None,
        low_confidence: 0.9,
        max_low_confidence_fraction: 0.5,
    });
    adapter
}

/// An adapter's file, signed by the publisher.
pub(super) fn signed(adapter: &Adapter) -> Vec<u8> {
    let file = encode(adapter, Encoding::Int8).unwrap();
    sign_release(&file, &Terms::default(), &publisher()).unwrap()
}

/// An adapter's file of format version 3, signed by the publisher.
pub(super) fn signed_compact(backbone: &Backbone, adapter: &Adapter) -> Vec<u8> {
    let sites = SiteSteps {
        weights: StepSize(-20),
        bias: StepSize(-20),
    };
    let file = encode(&compacted(backbone, adapter, sites, 0.1), Encoding::Compact).unwrap();
    sign_release(&file, &Terms::default(), &publisher()).unwrap()
}

/// An image as PNG.
pub(super) fn image(seed: u64) -> Vec<u8> {
    let mut random = seeded::Random(seed);
    png(&RgbImage::from_fn(48, 40, |_, _| {
        image::Rgb([0; 3].map(|_: u8| (127.0 * (random.value() + 1.0)) as u8))
    }))
}

pub(super) fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Next event of a device.
pub(super) enum Heard {
    /// A result line.
    Result(Value),
    /// The device ended.
    End,
    /// Neither within the timeout.
    Nothing,
}

/// A device process, running or not.
pub(super) struct Device {
    folder: TempDir,
    child: Option<Child>,
    stdin: Option<ChildStdin>,
    lines: Option<Receiver<String>>,
    frames: u64,
    variables: Vec<(String, String)>,
}

impl Device {
    /// Creates a device whose frames come from a folder. `extra` is added to its configuration.
    pub(super) fn new(extra: &str) -> Self {
        Self::with_source(FRAMES, extra)
    }

    pub(super) fn with_source(source: &str, extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("frames")).unwrap();
        let device = Self {
            folder,
            child: None,
            stdin: None,
            lines: None,
            frames: 0,
            variables: Vec::new(),
        };
        device.configure(&format!("{source}{extra}"), &[publisher()]);
        device
    }

    /// Starts a device with version 1 of each of `tasks`, on trial.
    pub(super) fn with_tasks(tasks: &[&str], extra: &str) -> Self {
        let mut device = Self::new(extra);
        device.start();
        for task in tasks {
            device.push(&signed(&adapter(task, 1))).unwrap();
        }
        device
    }

    /// Starts a device that serves version 1 of `birds`, confirmed.
    pub(super) fn with_birds(extra: &str) -> Self {
        let device = Self::with_tasks(&["birds"], extra);
        device.host(|client| client.mark_good("birds")).unwrap();
        device.switch("birds");
        device
    }

    /// Writes the configuration.
    pub(super) fn configure(&self, tables: &str, keys: &[SecretKey]) {
        self.configure_with(&backbone().1, tables, keys);
    }

    /// Writes the configuration with a backbone in another file.
    pub(super) fn configure_with(&self, backbone: &Path, tables: &str, keys: &[SecretKey]) {
        let tables_of_keys = keys
            .iter()
            .map(|key| format!("[[trust.keys]]\nkey = '{}'\n", key.public()));
        let keys = tables_of_keys.collect::<Vec<_>>().concat();
        let text = format!(
            "name = 'test'\nbackbone = '{}'\nstate = 'state'\n{tables}{keys}",
            backbone.display()
        );
        fs::write(self.path("device.toml"), text).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        // Runs the program under an emulator if the tests are compiled for another CPU architecture.
        let runner = std::env::var("CLR_TEST_RUNNER").unwrap_or_default();
        let mut words: Vec<&str> = runner.split_whitespace().collect();
        words.push(env!("CARGO_BIN_EXE_clr-device"));
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("CLR_DEVICE_CONFIG", self.path("device.toml"))
            .env_remove("CLR_LOG")
            .env_remove("JOURNAL_STREAM");
        command
    }

    /// Starts the device and waits until it accepts commands.
    pub(super) fn start(&mut self) {
        self.start_only();
        self.wait_until_ready();
    }

    /// Starts the device with these streams in place of pipes and the log file, and waits until it accepts commands.
    pub(super) fn start_with(&mut self, stdin: Stdio, stdout: Stdio, stderr: Option<Stdio>) {
        let stderr = stderr.unwrap_or_else(|| self.log_file().into());
        let mut child = self
            .command(&["run"])
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        self.stdin = child.stdin.take();
        self.child = Some(child);
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        let socket = self.path("state/control.sock");
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let child = self.child.as_mut().unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the device ended: {status}\n{}", self.log());
            }
            assert!(
                started.elapsed() < TIMEOUT,
                "the device does not listen\n{}{}",
                evidence::threads(child),
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sets an environment variable for the device. It applies from the next start on.
    pub(super) fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the device and returns immediately.
    pub(super) fn start_only(&mut self) {
        self.start_under(&[]);
    }

    /// Starts the device through a program that limits its resources.
    pub(super) fn start_under(&mut self, limiter: &[&str]) {
        let log = self.log_file();
        let mut command = self.command(&["run"]);
        if let Some((program, arguments)) = limiter.split_first() {
            let mut limited = Command::new(program);
            limited
                .args(arguments)
                .arg(command.get_program())
                .args(command.get_args());
            limited.current_dir(self.folder.path());
            limited
                .env("CLR_DEVICE_CONFIG", self.path("device.toml"))
                .env_remove("CLR_LOG");
            command = limited;
        }
        let mut child = command
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, receiver) = channel();
        thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        self.stdin = child.stdin.take();
        self.lines = Some(receiver);
        self.child = Some(child);
    }

    pub(super) fn pid(&self) -> rustix::process::Pid {
        let id = self.child.as_ref().unwrap().id();
        rustix::process::Pid::from_raw(id.cast_signed()).unwrap()
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Kills the process.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// Stops the device with SIGTERM, as systemd does, and checks its exit status.
    pub(super) fn stop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.take().unwrap().wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }

    fn log_file(&self) -> fs::File {
        fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap()
    }

    /// Sends SIGTERM. Returns the exit status, and the time that the device took to end.
    pub(super) fn terminate(&mut self) -> (std::process::ExitStatus, Duration) {
        let asked = Instant::now();
        self.signal(rustix::process::Signal::TERM);
        let child = self.child.as_mut().unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return (status, asked.elapsed());
            }
            assert!(asked.elapsed() < TIMEOUT, "it does not end: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a log line that contains all of `parts`.
    pub(super) fn wait_for_log(&self, parts: &[&str]) {
        self.wait_until(&format!("{parts:?} in the log"), |device| {
            device
                .log()
                .lines()
                .any(|line| parts.iter().all(|part| line.contains(part)))
        });
    }

    /// Waits until a condition holds.
    pub(super) fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !holds(self) {
            assert!(started.elapsed() < TIMEOUT, "no {what}; the log says\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(super) fn stdin(&mut self) -> &mut ChildStdin {
        self.stdin.as_mut().unwrap()
    }

    pub(super) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Puts an image into the watched folder, atomically, under a new name.
    pub(super) fn show(&mut self, bytes: &[u8]) {
        let name = format!("{:06}.png", self.frames);
        self.frames += 1;
        let unfinished = self.path(&format!("frames/.{name}"));
        fs::write(&unfinished, bytes).unwrap();
        fs::rename(unfinished, self.path("frames").join(name)).unwrap();
    }

    /// Waits until all shown images have been classified and deleted. A remaining image would be classified again after
    /// a restart.
    pub(super) fn wait_for_deletion(&self) {
        let started = Instant::now();
        while fs::read_dir(self.path("frames")).unwrap().next().is_some() {
            assert!(
                started.elapsed() < TIMEOUT,
                "an image is left; the log says\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns the next result.
    pub(super) fn answer(&self) -> Value {
        let line = self.lines.as_ref().unwrap().recv_timeout(TIMEOUT);
        let line = line.unwrap_or_else(|_| panic!("no answer; the log says\n{}", self.log()));
        serde_json::from_str(&line).unwrap()
    }

    /// Returns the next event.
    pub(super) fn answer_or_end(&self) -> Heard {
        // A lost source is reopened within two seconds.
        match self.lines.as_ref().unwrap().recv_timeout(SILENCE) {
            Ok(line) => Heard::Result(serde_json::from_str(&line).unwrap()),
            Err(RecvTimeoutError::Disconnected) => Heard::End,
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
        }
    }

    /// Shows an image and returns its result.
    pub(super) fn ask(&mut self, bytes: &[u8]) -> Value {
        self.show(bytes);
        self.answer()
    }

    /// Performs requests as a host.
    pub(super) fn host<T>(
        &self,
        act: impl FnOnce(&mut EndpointClient<'_>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.host_with(act, |options| options)
    }

    pub(super) fn host_with<T>(
        &self,
        act: impl FnOnce(&mut EndpointClient<'_>) -> Result<T, ClientError>,
        change: impl FnOnce(ClientOptions) -> ClientOptions,
    ) -> Result<T, ClientError> {
        let endpoint = Endpoint::Unix(self.path("state/control.sock").display().to_string());
        act(&mut endpoint.client(&SystemClock::new(), change(endpoint.options())))
    }

    pub(super) fn status(&self) -> Status {
        self.expect(self.host(|client| client.status()))
    }

    pub(super) fn list(&self) -> Vec<TaskSummary> {
        self.expect(self.host(|client| client.list()))
    }

    /// Returns the value of a result; on an error, panics with the device's log.
    fn expect<T>(&self, answered: Result<T, ClientError>) -> T {
        answered.unwrap_or_else(|error| panic!("{error}; the log says\n{}", self.log()))
    }

    pub(super) fn push(&self, file: &[u8]) -> Result<Pushed, ClientError> {
        self.host(|client| client.push(file, Kind::Adapter, &mut |_| {}))
    }

    /// Returns the resident memory of the process in bytes, and resets its peak.
    pub(super) fn memory_from_here(&self) -> u64 {
        // Value 5 resets the peak (proc_pid_clear_refs(5)).
        fs::write(format!("/proc/{}/clear_refs", self.pid().as_raw_nonzero()), "5").unwrap();
        self.kilobytes("VmRSS:") << 10
    }

    /// Returns the peak of the resident memory since the last reset.
    pub(super) fn peak_memory(&self) -> u64 {
        self.kilobytes("VmHWM:") << 10
    }

    pub(super) fn kilobytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(super) fn switch(&self, task: &str) {
        self.host(|client| client.switch(task)).unwrap();
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a port without a listener.
pub(super) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Returns whether a file exists in the device's folder.
pub(super) fn exists(device: &Device, name: &str) -> bool {
    Path::new(&device.path(name)).exists()
}
