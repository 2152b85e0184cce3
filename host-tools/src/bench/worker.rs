//! Worker processes that run a network on request, with JSON lines as in `bench/peers.py`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::Times;

/// Maximum time until a reply. Converting and compiling a large network takes minutes.
const DEADLINE: Duration = Duration::from_mins(10);

/// First line of a worker that has loaded its network and run it twice.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) version: String,
    /// Library and name of the network that PyTorch trains.
    #[serde(default)]
    pub(crate) network: Option<String>,
    /// Number of trained values.
    #[serde(default)]
    pub(crate) parameters: Option<usize>,
    /// Resident memory before the network was loaded.
    #[serde(default)]
    pub(crate) library_bytes: Option<u64>,
}

/// Request to a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Runs the network for `seconds`, but at least `least` times.
    Run { seconds: f64, least: usize },
    /// Runs the network once and writes its output to this file as little-endian f32.
    Output(PathBuf),
}

/// Reply of a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Ready(Ready),
    Failed(String),
    Times(Times),
    Written(bool),
}

/// A child process with a loaded and warmed-up network. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    requests: Option<ChildStdin>,
    replies: Receiver<String>,
    log: tempfile::NamedTempFile,
    pub(crate) ready: Ready,
}

impl Worker {
    /// Starts `command` and waits until its network is loaded.
    ///
    /// # Errors
    /// If it cannot run the network, with its reason.
    pub(crate) fn start(mut command: Command, threads: usize) -> anyhow::Result<Self> {
        let log = tempfile::NamedTempFile::new()?;
        let mut child = command
            .env("OMP_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.reopen()?)
            .spawn()
            .with_context(|| format!("cannot run '{}'", command.get_program().display()))?;
        let requests = child.stdin.take();
        let (sender, replies) = channel();
        let lines = BufReader::new(child.stdout.take().context("no pipe to the worker")?);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut worker = Self {
            child,
            requests,
            replies,
            log,
            ready: Ready::default(),
        };
        match worker.reply()? {
            Reply::Ready(ready) => worker.ready = ready,
            reply => anyhow::bail!("unexpected reply {reply:?}"),
        }
        Ok(worker)
    }

    /// Runs the network for `seconds`, but at least `least` times.
    pub(crate) fn run(&mut self, seconds: f64, least: usize) -> anyhow::Result<Times> {
        match self.ask(&Request::Run { seconds, least })? {
            Reply::Times(times) => Ok(times),
            reply => anyhow::bail!("unexpected reply {reply:?}"),
        }
    }

    /// Returns the network's output.
    pub(crate) fn output(&mut self, path: &Path) -> anyhow::Result<Vec<f32>> {
        self.ask(&Request::Output(path.to_owned()))?;
        let bytes = std::fs::read(path)?;
        let (values, _) = bytes.as_chunks();
        Ok(values.iter().copied().map(f32::from_le_bytes).collect())
    }

    fn ask(&mut self, request: &Request) -> anyhow::Result<Reply> {
        let pipe = self.requests.as_mut().context("the worker has ended")?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        // If the worker has ended, the pipe is closed, and the missing reply reports the reason.
        let _ = pipe.write_all(line.as_bytes());
        self.reply()
    }

    fn reply(&mut self) -> anyhow::Result<Reply> {
        match self.replies.recv_timeout(DEADLINE) {
            Ok(line) => match serde_json::from_str(&line).with_context(|| format!("not a reply: {line}"))? {
                Reply::Failed(reason) => anyhow::bail!(reason),
                reply => Ok(reply),
            },
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                anyhow::bail!("no reply for {} s", DEADLINE.as_secs())
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                let status = self.child.wait()?;
                let log = String::from_utf8_lossy(&std::fs::read(self.log.path())?).into_owned();
                let last = log.lines().rev().find(|line| !line.trim().is_empty());
                anyhow::bail!(
                    "the process ended ({status}): {}",
                    last.unwrap_or("no reason given").trim()
                )
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A network that this process runs as a worker.
pub(crate) trait Serve {
    /// Runs the network once and returns its output.
    fn run(&mut self) -> anyhow::Result<Vec<f32>>;
}

/// Serves requests from stdin until its end.
pub(crate) fn serve(ready: Ready, network: &mut dyn Serve) -> anyhow::Result<()> {
    let say = |reply: &Reply| -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{}", serde_json::to_string(reply)?)?;
        Ok(stdout.flush()?)
    };
    for _ in 0..2 {
        network.run()?;
    }
    say(&Reply::Ready(ready))?;
    for line in std::io::stdin().lines() {
        let reply = match serde_json::from_str(&line?)? {
            Request::Run { seconds, least } => Reply::Times(Times::of(seconds, least, || network.run().map(drop))?),
            Request::Output(path) => {
                let bytes: Vec<u8> = network.run()?.into_iter().flat_map(f32::to_le_bytes).collect();
                std::fs::write(path, bytes)?;
                Reply::Written(true)
            }
        };
        say(&reply)?;
    }
    Ok(())
}
