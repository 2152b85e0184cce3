//! Pipes and other descriptors without timeouts, which are polled before every call.

use std::{
    io::{self, Read, Write},
    os::fd::AsFd,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::STEP;

/// A pipe that polls as writable has room for this many bytes (`PIPE_BUF`), so a write of at most this size does not
/// block.
const PIECE: usize = 4096;

/// An input and an output.
#[derive(Debug)]
pub(super) struct Pipes<R, W> {
    input: R,
    output: W,
}

impl<R: AsFd, W: AsFd> Pipes<R, W> {
    pub(super) fn new(input: R, output: W) -> Self {
        Self { input, output }
    }
}

fn wait(descriptor: impl AsFd, what: PollFlags) -> io::Result<()> {
    let step = Timespec {
        tv_sec: 0,
        tv_nsec: STEP.subsec_nanos().into(),
    };
    let ready = poll(&mut [PollFd::new(&descriptor, what)], Some(&step))?;
    if ready == 0 {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(())
    }
}

impl<R: Read + AsFd, W> Read for Pipes<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        wait(&self.input, PollFlags::IN)?;
        self.input.read(buf)
    }
}

impl<R, W: Write + AsFd> Write for Pipes<R, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        wait(&self.output, PollFlags::OUT)?;
        self.output.write(&buf[..buf.len().min(PIECE)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A child process, connected through its standard input and output.
#[derive(Debug)]
pub(super) struct Command {
    /// Dropped, and thereby closed, before waiting for the child.
    pipes: Option<Pipes<ChildStdout, ChildStdin>>,
    child: Child,
}

impl Command {
    pub(super) fn start(command: &str) -> io::Result<Self> {
        let mut child = std::process::Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = match (child.stdout.take(), child.stdin.take()) {
            (Some(output), Some(input)) => Some(Pipes::new(output, input)),
            _ => None,
        };
        Ok(Self { pipes, child })
    }

    fn pipes(&mut self) -> io::Result<&mut Pipes<ChildStdout, ChildStdin>> {
        self.pipes.as_mut().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Read for Command {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.pipes()?.read(buf)
    }
}

impl Write for Command {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.pipes()?.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipes()?.flush()
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        self.pipes = None;
        // Most commands end when their input ends. After a second, the child is killed.
        for _ in 0..20 {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(STEP),
                _ => return,
            }
        }
        // Errors are ignored, because the child may have ended in the meantime.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
