//! The real transports: TCP, a Unix socket, a serial line (a pair of pseudo-terminals), a command's pipes.

use std::{
    fs::File,
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::atomic::{AtomicBool, Ordering},
};

use clr_transfer::{Clock, Endpoint, Kind, Link, ServeLimits, Slot, SystemClock, serve};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::{line::Random, memory_device::MemoryDevice};

/// Environment variable that makes [`stdio_child`] act as a device.
const STDIO: &str = "CLR_TRANSFER_STDIO_CHILD";

fn push_and_pull(endpoint: &Endpoint, device_holds: impl FnOnce(&[u8])) {
    let clock = SystemClock::new();
    let file = Random(1).bytes(100_000);
    let mut client = endpoint.client(&clock, endpoint.options());
    let pushed = client.push(&file, Kind::Adapter, &mut |_| ()).unwrap();
    assert_eq!((pushed.connections, pushed.repeated), (1, 0), "{pushed:?}");
    device_holds(&file);
    let kept = client.pull("kept", Slot::Serving, 1 << 20, &mut |_| ()).unwrap();
    assert_eq!(kept.bytes, Random(2).bytes(70_000));
    assert_eq!(client.list().unwrap().len(), 2);
}

fn device() -> MemoryDevice {
    MemoryDevice::with_task("kept", &Random(2).bytes(70_000))
}

#[test]
#[cfg_attr(miri, ignore = "an interpreter has no sockets with deadlines")]
fn tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint: Endpoint = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    let device = device();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut link = Link::tcp(listener.accept().unwrap().0).unwrap();
            serve(&mut link, &device, &SystemClock::new(), &ServeLimits::default()).unwrap();
        });
        push_and_pull(&endpoint, |file| assert!(device.holds(file)));
    });
}

#[test]
#[cfg_attr(miri, ignore = "an interpreter has no sockets of a file system")]
fn unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let endpoint: Endpoint = format!("unix:{}", path.display()).parse().unwrap();
    let device = device();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut link = Link::unix(listener.accept().unwrap().0).unwrap();
            serve(&mut link, &device, &SystemClock::new(), &ServeLimits::default()).unwrap();
        });
        push_and_pull(&endpoint, |file| assert!(device.holds(file)));
    });
}

/// A device with a flag that stops it.
struct Stoppable<'a>(&'a MemoryDevice, &'a AtomicBool);

macro_rules! forward {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> $result { self.0.$name($($argument),*) })*
    };
}

impl clr_transfer::Device for Stoppable<'_> {
    forward! {
        hello() -> clr_transfer::DeviceInfo;
        begin(begin: &clr_transfer::Begin) -> Result<u64, clr_transfer::Failure>;
        chunk(digest: &clr_adapters::Digest, offset: u64, data: &[u8]) -> Result<u64, clr_transfer::Failure>;
        commit(begin: &clr_transfer::Begin) -> Result<clr_transfer::Committed, clr_transfer::Failure>;
        abort(digest: &clr_adapters::Digest) -> Result<(), clr_transfer::Failure>;
        status() -> Result<clr_transfer::Status, clr_transfer::Failure>;
        list() -> Result<Vec<clr_transfer::TaskSummary>, clr_transfer::Failure>;
        switch(task: &str) -> Result<(), clr_transfer::Failure>;
        rollback(task: &str) -> Result<(), clr_transfer::Failure>;
        restore(task: &str) -> Result<(), clr_transfer::Failure>;
        remove(task: &str) -> Result<(), clr_transfer::Failure>;
        mark_good(task: &str) -> Result<(), clr_transfer::Failure>;
        mark_bad(task: &str) -> Result<(), clr_transfer::Failure>;
        open(task: &str, slot: Slot) -> Result<clr_transfer::PullInfo, clr_transfer::Failure>;
        read(digest: &clr_adapters::Digest, offset: u64, out: &mut [u8]) -> Result<usize, clr_transfer::Failure>;
    }

    fn stopping(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

#[test]
#[cfg_attr(miri, ignore = "an interpreter has no terminals")]
fn a_serial_line() {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    // Kept open, so that the line does not hang up between the two hosts.
    let _line = File::options().read(true).write(true).open(&name).unwrap();
    let endpoint: Endpoint = format!("serial:{name}@115200").parse().unwrap();
    let (device, stop) = (device(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let output = File::from(master.try_clone().unwrap());
            let mut link = Link::pipes(File::from(master), output);
            let limits = ServeLimits::for_baud(115_200);
            let served = serve(&mut link, &Stoppable(&device, &stop), &SystemClock::new(), &limits).unwrap();
            assert_eq!(served.end, clr_transfer::End::Stopped);
        });
        push_and_pull(&endpoint, |file| assert!(device.holds(file)));
        // A second host on the same line, which the device has not opened again.
        let clock = SystemClock::new();
        let mut second = endpoint.client(&clock, endpoint.options());
        assert_eq!(second.status().unwrap().device, "memory");
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
#[cfg_attr(miri, ignore = "an interpreter starts no processes")]
fn a_command_over_its_pipes() {
    let program = std::env::current_exe().unwrap();
    // The test runner's output precedes the first frame as garbage.
    let command = format!(
        "{STDIO}=1 '{}' --exact transports::stdio_child --nocapture",
        program.display()
    );
    let endpoint: Endpoint = format!("exec:{command}").parse().unwrap();
    let start = SystemClock::new();
    push_and_pull(&endpoint, |_| ());
    assert!(start.now().as_secs() < 20);
}

#[test]
fn stdio_child() {
    if std::env::var_os(STDIO).is_some() {
        let mut link = Link::stdio().unwrap();
        serve(&mut link, &device(), &SystemClock::new(), &ServeLimits::default()).unwrap();
    }
}

#[test]
fn endpoints_are_parsed_as_people_write_them() {
    for (text, again) in [
        ("tcp:robot.local:7171", "tcp:robot.local:7171"),
        ("tcp:[::1]:7171", "tcp:[::1]:7171"),
        ("unix:/run/clr.sock", "unix:/run/clr.sock"),
        ("serial:/dev/ttyUSB0", "serial:/dev/ttyUSB0@115200"),
        ("serial:/dev/ttyACM1@9600", "serial:/dev/ttyACM1@9600"),
        ("exec:ssh robot clr-device stdio", "exec:ssh robot clr-device stdio"),
    ] {
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), again);
    }
    for text in [
        "",
        "tcp:",
        "tcp:host",
        "tcp::1",
        "tcp:host:0",
        "serial:/dev/x@fast",
        "robot",
        "http:x:1",
    ] {
        let error = text.parse::<Endpoint>().unwrap_err();
        assert!(error.to_string().contains("hint: tcp:HOST:PORT"), "{error}");
    }
}
