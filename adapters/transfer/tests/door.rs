//! Admission to a test device with one known host and one open enrolment code.

use std::sync::Mutex;

use clr_transfer::{AccessRefusal, Admission, ClientOptions, EnrolmentCode, PeerKey, PeerSecret, Security};

/// Security of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Plain,
    /// Keys are known.
    Known,
    /// First contact, by code.
    Enrol,
}

impl Spoken {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Known, Self::Enrol];
    /// Returns the approximate number of bytes that the handshake adds before the first chunk.
    pub(crate) const fn more(self) -> u64 {
        match self {
            Self::Plain => 0,
            Self::Known => 144 + 30 + 6 * 25,
            Self::Enrol => 208 + 45 + 6 * 25,
        }
    }
}

pub(crate) struct Door {
    pub(crate) secret: PeerSecret,
    /// The key before the last rotation.
    pub(crate) old: Option<PeerSecret>,
    pub(crate) host: PeerSecret,
    pub(crate) code: EnrolmentCode,
    pub(crate) known: Mutex<Vec<PeerKey>>,
    /// Names under which hosts were enrolled.
    pub(crate) enrolled: Mutex<Vec<String>>,
    pub(crate) wrong: Mutex<u32>,
    /// Hosts that connected with the old key.
    pub(crate) announced: Mutex<Vec<PeerKey>>,
    /// The host of every session that began.
    pub(crate) entered: Mutex<Vec<Option<PeerKey>>>,
}

impl Default for Door {
    fn default() -> Self {
        let host = PeerSecret::from_bytes([2; 32]);
        Self {
            secret: PeerSecret::from_bytes([1; 32]),
            old: None,
            known: Mutex::new(vec![host.public()]),
            host,
            code: EnrolmentCode::from_random([7; 20]),
            enrolled: Mutex::default(),
            wrong: Mutex::default(),
            announced: Mutex::default(),
            entered: Mutex::default(),
        }
    }
}

impl Door {
    /// Returns a device's admission after a key rotation, and the options of a host that knows only the previous key.
    pub(crate) fn rotated() -> (Self, ClientOptions) {
        let before = Self::default();
        let options = before.options(Spoken::Known);
        let door = Self {
            secret: PeerSecret::from_bytes([3; 32]),
            old: Some(before.secret.clone()),
            ..before
        };
        (door, options)
    }

    pub(crate) fn options(&self, speaks: Spoken) -> ClientOptions {
        let secret = self.host.clone();
        ClientOptions::default().with_security(match speaks {
            Spoken::Plain => Security::Plain,
            Spoken::Known => Security::Known {
                secret,
                device: self.secret.public(),
            },
            Spoken::Enrol => Security::Enrol {
                secret,
                code: self.code.clone(),
                name: "anna".into(),
            },
        })
    }
}

impl Admission for Door {
    fn secret(&self) -> Option<PeerSecret> {
        Some(self.secret.clone())
    }

    fn old_secret(&self) -> Option<PeerSecret> {
        self.old.clone()
    }

    fn announced(&self, host: &PeerKey) {
        self.announced.lock().unwrap().push(*host);
    }

    fn admits_plain(&self) -> bool {
        false
    }

    fn admits(&self, host: &PeerKey) -> Result<(), AccessRefusal> {
        let known = self.known.lock().unwrap().contains(host);
        known.then_some(()).ok_or(AccessRefusal::UnknownHost)
    }

    fn enrolment(&self) -> Option<[u8; 32]> {
        Some(self.code.psk())
    }

    fn enrol(&self, host: &PeerKey, name: &str) -> Result<(), AccessRefusal> {
        self.known.lock().unwrap().push(*host);
        self.enrolled.lock().unwrap().push(name.to_owned());
        Ok(())
    }

    fn wrong_code(&self) {
        *self.wrong.lock().unwrap() += 1;
    }

    fn enter(&self, host: Option<&PeerKey>) -> Result<(), AccessRefusal> {
        self.entered.lock().unwrap().push(host.copied());
        Ok(())
    }
}
