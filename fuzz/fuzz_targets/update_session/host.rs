//! A host on an unreliable line: it sends one request at a time and checks each reply.

use clr_adapters::Digest;
use clr_transfer::{Begin, Decoder, Head, Kind, Request, Response, Session, SessionLimits};
use libfuzzer_sys::arbitrary::{self, Arbitrary};

use crate::{HELLO, answers, device::Keeping, framed, written};

/// Actions of a host, and faults of the line.
#[derive(Arbitrary, Debug)]
pub enum Act {
    /// Opens a new connection. The device keeps its data.
    Connect {
        session: u8,
    },
    Begin {
        file: u8,
    },
    /// Sends a piece of a file; with `wrong`, sends other bytes.
    Chunk {
        file: u8,
        transfer: u8,
        offset: u16,
        length: u16,
        wrong: bool,
    },
    /// Sends the next piece, as a correct host does.
    Next {
        file: u8,
        length: u16,
    },
    Commit {
        file: u8,
    },
    Abort {
        file: u8,
    },
    Switch,
    Rollback,
    /// The last request once more.
    Double,
    /// A request from before.
    Late {
        back: u8,
    },
    /// A frame with a bit flipped.
    Damaged {
        at: u16,
    },
    /// Sends a truncated frame, followed by the next frame.
    Cut {
        at: u16,
    },
}

/// A host on an unreliable line: it sends one request at a time and checks each reply.
pub struct Host<'d> {
    device: &'d Keeping,
    files: [Vec<u8>; 3],
    session: Session<'d>,
    decoder: Decoder,
    number: u32,
    sequence: u32,
    /// Messages of this session by sequence number, from 1, and the reply to the last.
    sent: Vec<Vec<u8>>,
    last: Option<(Head, Vec<u8>)>,
    /// For each file, the transfer number and the number of bytes held, as reported by the device.
    known: [Option<(u32, u64)>; 3],
}

impl<'d> Host<'d> {
    pub fn new(device: &'d Keeping) -> Self {
        let mut host = Self {
            device,
            files: [1_usize, 700, 9000].map(|length| (0..length).map(|at| (at * 7 % 251) as u8).collect()),
            session: Session::new(device, SessionLimits::default()),
            decoder: Decoder::default(),
            number: 0,
            sequence: 0,
            sent: Vec::new(),
            last: None,
            known: [None; 3],
        };
        host.connect(1);
        host
    }

    fn connect(&mut self, number: u32) {
        self.session = Session::new(self.device, SessionLimits::default());
        self.decoder = Decoder::default();
        (self.number, self.sequence, self.last, self.known) = (number, 0, None, [None; 3]);
        self.sent.clear();
        let reply = self.ask(&HELLO);
        assert!(matches!(
            Response::read(&reply),
            Ok(Response::Welcome { chunk: 4096, .. })
        ));
    }

    fn begin(&self, file: usize) -> Begin {
        Begin {
            digest: Digest::of(&self.files[file]),
            length: self.files[file].len() as u64,
            kind: Kind::Adapter,
        }
    }

    /// Sends a request and returns its reply. There must be exactly one, with the sequence number of the request.
    fn ask(&mut self, request: &Request<'_>) -> Vec<u8> {
        self.sequence += 1;
        let message = written(request);
        let frame = framed(self.number, self.sequence, &message);
        let mut replies = answers(&mut self.session, &mut self.decoder, &frame);
        let (head, reply) = replies.pop().expect("an answer");
        assert!(replies.is_empty(), "one answer to one request");
        assert_eq!((head.session, head.sequence), (self.number, self.sequence));
        self.sent.push(message);
        self.last = Some((head, reply.clone()));
        reply
    }

    fn chunk(&mut self, file: usize, transfer: u32, offset: u64, data: &[u8]) {
        let reply = self.ask(&Request::Chunk { transfer, offset, data });
        match Response::read(&reply).expect("a reply") {
            Response::Held { held } => {
                let of = self.known.iter_mut().flatten().find(|known| known.0 == transfer);
                let known = of.expect("a transfer that was opened");
                assert!(held >= known.1, "held bytes were lost");
                known.1 = held;
            }
            Response::Failed(_) => {}
            other => panic!("file {file}: {other:?}"),
        }
    }

    /// Sends bytes that must not be executed, and asserts that nothing changes.
    fn idle(&mut self, bytes: &[u8]) -> Vec<(Head, Vec<u8>)> {
        let before = self.device.acts();
        let replies = answers(&mut self.session, &mut self.decoder, bytes);
        assert_eq!(self.device.acts(), before, "a request was executed twice");
        replies
    }

    pub fn act(&mut self, act: &Act) {
        let frame = |host: &Self, sequence: u32| {
            let message = &host.sent[sequence as usize - 1];
            framed(host.number, sequence, message)
        };
        match *act {
            Act::Connect { session } => self.connect(session.into()),
            Act::Begin { file } => {
                let file = usize::from(file % 3);
                let reply = self.ask(&Request::Begin(self.begin(file)));
                let Ok(Response::Begun { transfer, held }) = Response::read(&reply) else {
                    panic!("not begun")
                };
                assert!(held <= self.files[file].len() as u64);
                assert!(
                    self.known.iter().flatten().all(|known| known.0 < transfer),
                    "a number twice"
                );
                self.known[file] = Some((transfer, held));
            }
            Act::Chunk {
                file,
                transfer,
                offset,
                length,
                wrong,
            } => {
                let file = usize::from(file % 3);
                let mut data = self.files[file].clone();
                data.drain(..usize::from(offset).min(data.len()));
                data.resize(usize::from(length % 5000), 0);
                if wrong {
                    data.iter_mut().for_each(|byte| *byte ^= 0x55);
                }
                let number = self.known[file].map_or(0, |known| known.0);
                self.chunk(file, number.wrapping_add((transfer / 64).into()), offset.into(), &data);
            }
            Act::Next { file, length } => {
                let file = usize::from(file % 3);
                let Some((transfer, held)) = self.known[file] else {
                    return;
                };
                let rest = &self.files[file][held as usize..];
                let data = rest[..rest.len().min(usize::from(length) % 4097)].to_vec();
                self.chunk(file, transfer, held, &data);
            }
            Act::Commit { file } => {
                let file = usize::from(file % 3);
                let begin = self.begin(file);
                let reply = self.ask(&Request::Commit(begin.clone()));
                let whole = self.device.held(&begin.digest).map(|held| held == self.files[file]);
                let committed = matches!(Response::read(&reply), Ok(Response::Committed(_)));
                assert_eq!(
                    committed,
                    whole == Some(true),
                    "committed is what is whole, and nothing else"
                );
                if committed {
                    self.known[file] = None;
                }
            }
            Act::Abort { file } => {
                let file = usize::from(file % 3);
                let digest = Digest::of(&self.files[file]);
                self.ask(&Request::Abort { digest });
                self.known[file] = None;
            }
            Act::Switch => _ = self.ask(&Request::Switch { task: "birds" }),
            Act::Rollback => _ = self.ask(&Request::Rollback { task: "birds" }),
            Act::Double => {
                let bytes = frame(self, self.sequence);
                let expected: Vec<_> = self.last.clone().into_iter().collect();
                assert_eq!(self.idle(&bytes), expected, "a doubled request has the answer it had");
            }
            Act::Late { back } => {
                let Some(sequence) = self.sequence.checked_sub(1 + u32::from(back)).filter(|&at| at > 0) else {
                    return;
                };
                // A greeting is valid at any position, because it starts a new session.
                if sequence > 1 {
                    let bytes = frame(self, sequence);
                    assert_eq!(self.idle(&bytes), [], "a late request is skipped");
                }
            }
            Act::Damaged { at } => {
                let message = written(&Request::Rollback { task: "birds" });
                let mut bytes = framed(self.number, self.sequence + 1, &message);
                let at = usize::from(at) % ((bytes.len() - 2) * 8);
                bytes[1 + at / 8] ^= 1 << (at % 8);
                for (head, reply) in self.idle(&bytes) {
                    assert_eq!((head.sequence, Response::read(&reply)), (0, Ok(Response::Damaged)));
                }
            }
            Act::Cut { at } => {
                let bytes = frame(self, self.sequence);
                let cut = &bytes[..1 + usize::from(at) % (bytes.len() - 1)];
                let mut replies = self.idle(&[cut, &bytes].concat());
                assert_eq!(replies.pop(), self.last.clone(), "the frame after a cut one is read");
                let damaged = replies
                    .iter()
                    .all(|(head, reply)| head.sequence == 0 && Response::read(reply) == Ok(Response::Damaged));
                assert!(damaged || cut.len() + 1 == bytes.len());
            }
        }
    }
}
