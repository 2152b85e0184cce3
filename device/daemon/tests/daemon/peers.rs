//! Access of peers: unknown peers cost little, a host enrols once, and a revoked host is disconnected.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use clr_transfer::{
    AccessRefusal, ClientError, ClientOptions, Endpoint, EndpointClient, EnrolmentCode, FailureCode, Kind, PeerKey,
    PeerSecret, Security, SystemClock,
};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use super::{
    device::{Device, TIMEOUT, adapter, free_port, image, signed},
    http_client::http_get,
};

/// Maximum time until a revoked host's session ends. The session's thread checks every 50 ms.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// Maximum growth of memory during a flood of connections, in bytes.
const MAX_GROWTH: u64 = 16 << 20;

/// A host that a device knows.
pub(super) struct Host {
    pub(super) secret: PeerSecret,
    pub(super) device: PeerKey,
}

impl Host {
    /// Enrols a host over `endpoint`, with a code of the device.
    pub(super) fn enrol(device: &Device, endpoint: &Endpoint, roles: &str, number: u8) -> Self {
        let code = code(device, roles);
        let secret = PeerSecret::from_bytes([number; 32]);
        let options = enrolling(endpoint, &secret, &code, &format!("host-{number}"));
        let clock = SystemClock::new();
        let mut client = endpoint.client(&clock, options);
        client
            .device()
            .unwrap_or_else(|error| panic!("{error}; the log says\n{}", device.log()));
        let device = client.device_key().unwrap();
        Self { secret, device }
    }

    pub(super) fn options(&self, endpoint: &Endpoint) -> ClientOptions {
        endpoint
            .options()
            .with_security(Security::Known {
                secret: self.secret.clone(),
                device: self.device,
            })
            .with_attempts(2)
    }

    pub(super) fn ask<T>(
        &self,
        endpoint: &Endpoint,
        act: impl FnOnce(&mut EndpointClient<'_>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        act(&mut endpoint.client(&SystemClock::new(), self.options(endpoint)))
    }
}

/// Returns an enrolment code of the device for these roles.
pub(super) fn code(device: &Device, roles: &str) -> EnrolmentCode {
    let enrolment = device.host(|client| client.enrol(roles.parse().unwrap(), 15)).unwrap();
    assert_eq!(enrolment.seconds, 900);
    enrolment.code.parse().unwrap()
}

pub(super) fn enrolling(endpoint: &Endpoint, secret: &PeerSecret, code: &EnrolmentCode, name: &str) -> ClientOptions {
    endpoint.options().with_security(Security::Enrol {
        secret: secret.clone(),
        code: code.clone(),
        name: name.to_owned(),
    })
}

/// Returns a device that listens on a TCP port of this machine.
pub(super) fn on_tcp(extra: &str) -> (Device, Endpoint, u16) {
    let port = free_port();
    let device = Device::new(&format!("{extra}[tcp]\nlisten = '127.0.0.1:{port}'\n"));
    (device, format!("tcp:127.0.0.1:{port}").parse().unwrap(), port)
}

/// Starts the device, and waits until it also listens for peers.
pub(super) fn start(device: &mut Device, endpoint: &Endpoint) {
    device.start();
    until("the port is closed", || endpoint.connect().is_ok());
}

pub(super) fn plain(endpoint: &Endpoint) -> Result<String, ClientError> {
    let clock = SystemClock::new();
    endpoint
        .client(&clock, endpoint.options())
        .status()
        .map(|status| status.device)
}

/// Polls until `done`.
pub(super) fn until(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < TIMEOUT, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
    started.elapsed()
}

#[test]
fn silent_peers_lock_no_one_out_and_are_dropped_in_seconds() {
    let http = free_port();
    let (mut device, endpoint, port) = on_tcp(&format!("[http]\nlisten = '127.0.0.1:{http}'\n"));
    start(&mut device, &endpoint);
    let mut silent: Vec<TcpStream> = (0..12)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    // In the meantime, the operator on the device and another peer can connect.
    device.status();
    assert_eq!(plain(&endpoint).unwrap(), "test");
    for stream in &mut silent {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let started = Instant::now();
        let mut rest = Vec::new();
        // Dropped, by an end of stream or a reset.
        let _ = stream.read_to_end(&mut rest);
        assert!(started.elapsed() < TIMEOUT);
    }
    // Open sessions use all slots of peers. The control socket has separate slots.
    let clock = SystemClock::new();
    let mut clients: Vec<_> = (0..9)
        .map(|_| {
            let options = endpoint.options().with_attempts(1);
            endpoint.client(&clock, options)
        })
        .collect();
    let answered = clients.iter_mut().filter_map(|client| client.status().ok()).count();
    assert_eq!(answered, 8);
    device.status();
    let metrics = http_get(http, "/metrics").1;
    let session = metrics
        .lines()
        .find(|line| line.starts_with("clr_connections_refused_total{kind=\"session\"}"));
    assert!(session.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
}

fn distribution(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let at = |quantile: f64| values[((values.len() - 1) as f64 * quantile) as usize];
    let (count, median, slow, slowest) = (values.len(), at(0.5), at(0.99), at(1.0));
    format!("median {median:.1}, 99 % within {slow:.1}, slowest {slowest:.1} ({count} frames)")
}

#[test]
fn a_thousand_hostile_connections_lose_no_frame_and_leak_no_memory() {
    let (mut device, endpoint, port) = on_tcp("");
    start(&mut device, &endpoint);
    device.push(&signed(&adapter("birds", 1))).unwrap();
    device.host(|client| client.mark_good("birds")).unwrap();
    device.switch("birds");
    let top = device.ask(&image(1))["top"].clone();
    let latency = |device: &mut Device| {
        let answer = device.ask(&image(1));
        assert_eq!(answer["top"], top);
        answer["latency_ms"].as_f64().unwrap()
    };
    let usual = (0..500).map(|_| latency(&mut device)).collect();
    let memory = device.memory_from_here();
    let peer = thread::spawn(move || {
        // Real peers run on other machines, so these threads get a lower priority.
        rustix::process::nice(19).unwrap();
        for number in 0..1_000_u32 {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
                continue;
            };
            // Each peer sends the first message of a handshake for another key, garbage, or nothing.
            let mut body = vec![b'N', 1, 0, 0, 0, 1, 1, 0, 0];
            body.extend((0..96_u32).map(|at| (at * number) as u8));
            let mut frame = Vec::new();
            clr_transfer::encode_frame(&mut body, &mut frame);
            let _ = match number % 3 {
                0 => stream.write_all(&frame),
                1 => stream.write_all(&[7; 3_000]),
                _ => Ok(()),
            };
        }
    });
    let mut meanwhile = vec![latency(&mut device)];
    while !peer.is_finished() {
        meanwhile.push(latency(&mut device));
    }
    peer.join().unwrap();
    // At most eight threads and their buffers exist, for any number of connections.
    let grown = device.peak_memory().saturating_sub(memory);
    println!(
        "milliseconds a frame: {} before, {} meanwhile; {} KiB more memory at most",
        distribution(usual),
        distribution(meanwhile),
        grown >> 10
    );
    assert!(grown < MAX_GROWTH, "{grown} bytes more");
    device.status();
    let audit = std::fs::read_to_string(device.path("state/audit/0.jsonl")).unwrap();
    assert!(!audit.contains("127.0.0.1"), "a command was carried out: {audit}");
}

#[test]
fn a_host_enrols_once_and_ends_plain_sessions() {
    let (mut device, endpoint, _) = on_tcp("");
    start(&mut device, &endpoint);
    assert_eq!(
        plain(&endpoint).unwrap(),
        "test",
        "no host is known yet, and the peer is on this machine"
    );
    let clock = SystemClock::new();
    let anna = PeerSecret::from_bytes([1; 32]);
    // Attempts: without an open code, with a wrong code, with the correct code twice by the same host, and with the
    // correct code by another host.
    let wrong = EnrolmentCode::from_random([0; 20]);
    let attempt = |secret: &PeerSecret, code: &EnrolmentCode| {
        let mut client = endpoint.client(&clock, enrolling(&endpoint, secret, code, "anna"));
        client.device().map(|_| client.device_key().unwrap())
    };
    assert_eq!(
        attempt(&anna, &wrong),
        Err(ClientError::NotAdmitted(AccessRefusal::NotOpen))
    );
    let right = code(&device, "update");
    assert_eq!(
        attempt(&anna, &wrong),
        Err(ClientError::NotAdmitted(AccessRefusal::WrongCode))
    );
    let key = attempt(&anna, &right).unwrap();
    assert_eq!(attempt(&anna, &right), Ok(key), "the reply may have been lost");
    let eve = PeerSecret::from_bytes([9; 32]);
    assert_eq!(
        attempt(&eve, &right),
        Err(ClientError::NotAdmitted(AccessRefusal::NotOpen))
    );
    let host = Host {
        secret: anna,
        device: key,
    };
    host.ask(&endpoint, |client| {
        client.push(&signed(&adapter("birds", 1)), Kind::Adapter, &mut |_| {})
    })
    .unwrap();
    // From now on, plain loopback peers are refused. The control socket works as before.
    let refused = plain(&endpoint).unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused(failure) if failure.code == FailureCode::UNAUTHENTICATED),
        "{refused}"
    );
    device.status();
    let stranger = Host {
        secret: eve,
        device: key,
    };
    let unknown = stranger.ask(&endpoint, |client| client.status().map(|_| ()));
    assert_eq!(unknown, Err(ClientError::NotAdmitted(AccessRefusal::UnknownHost)));
    // All of this survives a kill, and the device keeps its key.
    device.kill();
    start(&mut device, &endpoint);
    until("the host is no longer known", || {
        host.ask(&endpoint, |client| client.status()).is_ok()
    });
    assert!(plain(&endpoint).is_err());
}

#[test]
fn five_wrong_codes_close_enrolment() {
    let (mut device, endpoint, _) = on_tcp("");
    start(&mut device, &endpoint);
    let right = code(&device, "update");
    let clock = SystemClock::new();
    let secret = PeerSecret::from_bytes([1; 32]);
    for number in 0..5 {
        let wrong = EnrolmentCode::from_random([number; 20]);
        let tried = endpoint
            .client(&clock, enrolling(&endpoint, &secret, &wrong, "eve"))
            .device();
        assert_eq!(tried, Err(ClientError::NotAdmitted(AccessRefusal::WrongCode)));
    }
    let tried = endpoint
        .client(&clock, enrolling(&endpoint, &secret, &right, "anna"))
        .device();
    assert_eq!(tried, Err(ClientError::NotAdmitted(AccessRefusal::NotOpen)));
    let refused = device
        .host(|client| client.enrol("update".parse().unwrap(), 15))
        .unwrap_err();
    assert!(refused.to_string().contains("closed after 5 wrong codes"), "{refused}");
}

#[test]
fn a_revoked_host_is_disconnected_within_seconds_and_a_configured_one_by_sighup() {
    let (mut device, endpoint, port) = on_tcp("");
    start(&mut device, &endpoint);
    let anna = Host::enrol(&device, &endpoint, "administer", 1);
    let bert = Host::enrol(&device, &endpoint, "update", 2);
    let clock = SystemClock::new();
    let mut session = endpoint.client(&clock, bert.options(&endpoint));
    session.status().unwrap();
    let hosts = anna.ask(&endpoint, |client| client.hosts()).unwrap();
    assert_eq!(hosts.iter().map(|host| host.sessions).collect::<Vec<_>>(), [1, 1]);
    anna.ask(&endpoint, |client| client.revoke("host-2")).unwrap();
    until("the session continues", || {
        let hosts = device.host(|client| client.hosts()).unwrap();
        hosts.iter().all(|host| host.name != "host-2")
    });
    // From here on, the host's requests are refused and its connection ends.
    let ended = until("the connection continues", || match session.status() {
        Err(ClientError::NotAdmitted(AccessRefusal::UnknownHost)) => true,
        Err(ClientError::Refused(failure)) if failure.code == FailureCode::NOT_ALLOWED => false,
        other => panic!("{other:?}"),
    });
    println!("a revoked host's connection ended after {ended:?}");
    assert!(ended < ENDS_WITHIN, "{ended:?}");
    // The same change through the configuration, without a restart.
    let carl = Host {
        secret: PeerSecret::from_bytes([3; 32]),
        device: anna.device,
    };
    let table = format!(
        "[[hosts]]\nname = 'carl'\nkey = '{}'\nroles = ['observe']\n",
        carl.secret.public()
    );
    let tcp = format!("[tcp]\nlisten = '127.0.0.1:{port}'\n");
    device.configure(&format!("{tcp}{table}"), &[super::device::publisher()]);
    device.signal(rustix::process::Signal::HUP);
    until("carl is refused", || {
        carl.ask(&endpoint, |client| client.status()).is_ok()
    });
    let refused = device.host(|client| client.revoke("carl")).unwrap_err();
    assert!(
        refused.to_string().contains("hint: remove it from [[hosts]]"),
        "{refused}"
    );
    let mut session = endpoint.client(&clock, carl.options(&endpoint));
    session.status().unwrap();
    device.configure(&tcp, &[super::device::publisher()]);
    device.signal(rustix::process::Signal::HUP);
    until("carl is still accepted", || {
        session.status().map(|_| ()) == Err(ClientError::NotAdmitted(AccessRefusal::UnknownHost))
    });
}

#[test]
fn damaged_files_of_access_control_disable_only_their_own_function() {
    let (mut device, endpoint, _) = on_tcp("");
    start(&mut device, &endpoint);
    let anna = Host::enrol(&device, &endpoint, "update", 1);
    device.push(&signed(&adapter("birds", 1))).unwrap();
    device.host(|client| client.mark_good("birds")).unwrap();
    device.stop();
    for (file, refusal) in [
        ("state/hosts", AccessRefusal::UnknownHost),
        ("state/session.key", AccessRefusal::Unavailable),
    ] {
        let sound = std::fs::read(device.path(file)).unwrap();
        for damage in [&sound[..sound.len() - 20], b"", b"\xff\x00garbage"] {
            std::fs::write(device.path(file), damage).unwrap();
            start(&mut device, &endpoint);
            device.switch("birds");
            assert_eq!(device.ask(&image(1))["task"], "birds", "{file}");
            let answer = anna.ask(&endpoint, |client| client.status().map(|_| ()));
            assert_eq!(answer, Err(ClientError::NotAdmitted(refusal)), "{file}");
            assert!(plain(&endpoint).is_err(), "{file}: damage opens no door");
            device.stop();
            assert!(device.log().contains(file), "{}", device.log());
        }
        std::fs::write(device.path(file), sound).unwrap();
    }
    start(&mut device, &endpoint);
    anna.ask(&endpoint, |client| client.status()).unwrap();
}

#[test]
fn without_descriptors_peers_wait_the_log_is_not_flooded_and_they_are_served_afterwards() {
    let (mut device, endpoint, port) = on_tcp("");
    start(&mut device, &endpoint);
    // The control socket works before the source and the output are open, so the test waits for all of them.
    device.wait_for_log(&["INFO ready"]);
    let whole = getrlimit(Resource::Nofile);
    let limit = |current| {
        let maximum = whole.maximum;
        prlimit(Some(device.pid()), Resource::Nofile, Rlimit { current, maximum }).unwrap()
    };
    let before = limit(Some(3));
    // The kernel completes the connections, but the device cannot accept them.
    let _peer = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _local = std::os::unix::net::UnixStream::connect(device.path("state/control.sock")).unwrap();
    let warnings = || device.log().matches("cannot accept a connection").count();
    until("the lack of descriptors is not logged", || warnings() == 2);
    // Each listener tries every 50 ms.
    thread::sleep(Duration::from_millis(500));
    assert_eq!(warnings(), 2, "{}", device.log());
    limit(before.current);
    device.status();
    assert_eq!(plain(&endpoint).unwrap(), "test");
}

#[test]
fn a_host_writes_no_more_than_its_quota() {
    let (mut device, endpoint, _) = on_tcp("[limits]\nhost_bytes_per_day = 10000\n");
    start(&mut device, &endpoint);
    let anna = Host::enrol(&device, &endpoint, "update", 1);
    let file = signed(&adapter("birds", 1));
    assert!(file.len() > 10_000);
    let refused = anna
        .ask(&endpoint, |client| client.push(&file, Kind::Adapter, &mut |_| {}))
        .unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused(failure) if failure.code == FailureCode::QUOTA),
        "{refused}"
    );
    // Local users have no quota.
    device.push(&file).unwrap();
}

#[test]
fn the_control_socket_can_be_given_to_a_group() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let own = rustix::process::getgid().as_raw();
    let mut device = Device::new(&format!("[control]\ngroup = '{own}'\n"));
    device.start();
    let socket = std::fs::metadata(device.path("state/control.sock")).unwrap();
    assert_eq!((socket.permissions().mode() & 0o777, socket.gid()), (0o660, own));
}
