//! Enrolment of hosts. One code is valid at a time, for one host and for a limited number of minutes. Five wrong codes
//! close enrolment for an hour.

use std::time::{Duration, Instant};

use clr_transfer::{AccessRefusal, Failure, FailureCode, PeerKey, Roles};

/// Number of wrong codes after which enrolment closes.
const MAX_WRONG_CODES: u32 = 5;
/// Time for which enrolment then stays closed.
const CLOSED_FOR: Duration = Duration::from_hours(1);
/// Longest validity of a code, in minutes.
const MAX_MINUTES: u32 = 24 * 60;

/// State of enrolment. A restart closes it.
#[derive(Debug, Default)]
pub(super) struct EnrolmentState {
    open: Option<Open>,
    wrong: u32,
    closed_until: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    psk: [u8; 32],
    roles: Roles,
    until: Instant,
    /// The host that used the code. This host may use the code again, because the reply to its first attempt may have
    /// been lost.
    used_by: Option<PeerKey>,
}

impl EnrolmentState {
    /// Opens enrolment with a new code, which replaces an earlier one. Returns how long the code is valid, in seconds.
    pub(super) fn open(&mut self, psk: [u8; 32], roles: Roles, minutes: u32) -> Result<u32, Failure> {
        self.open_at(psk, roles, minutes, Instant::now())
    }

    fn open_at(&mut self, psk: [u8; 32], roles: Roles, minutes: u32, now: Instant) -> Result<u32, Failure> {
        if let Some(left) = self.closed_until.and_then(|until| until.checked_duration_since(now)) {
            let minutes = left.as_secs().div_ceil(60);
            return Err(Failure::new(
                FailureCode::BUSY,
                format_args!(
                    "enrolment is closed after {MAX_WRONG_CODES} wrong codes\nhint: try again in {minutes} minutes, or restart the device"
                ),
            ));
        }
        let seconds = 60 * minutes.clamp(1, MAX_MINUTES);
        self.open = Some(Open {
            psk,
            roles,
            until: now + Duration::from_secs(seconds.into()),
            used_by: None,
        });
        Ok(seconds)
    }

    /// Returns the pre-shared key of the valid code.
    pub(super) fn psk(&self) -> Option<[u8; 32]> {
        self.psk_at(Instant::now())
    }

    fn psk_at(&self, now: Instant) -> Option<[u8; 32]> {
        let open = self.open.as_ref().filter(|open| now < open.until)?;
        Some(open.psk)
    }

    /// Returns the roles that the valid code grants to the host with this key. Refuses if no code is valid, or if
    /// another host has used the code.
    pub(super) fn roles_for(&self, key: &PeerKey) -> Result<Roles, AccessRefusal> {
        match &self.open {
            Some(open) if Instant::now() < open.until && open.used_by.is_none_or(|host| host == *key) => Ok(open.roles),
            _ => Err(AccessRefusal::NotOpen),
        }
    }

    pub(super) fn used_by(&mut self, key: &PeerKey) {
        self.wrong = 0;
        if let Some(open) = &mut self.open {
            open.used_by = Some(*key);
        }
    }

    /// Counts a wrong code. Returns whether that closes enrolment.
    pub(super) fn wrong(&mut self) -> bool {
        self.wrong_at(Instant::now())
    }

    fn wrong_at(&mut self, now: Instant) -> bool {
        self.wrong += 1;
        if self.wrong < MAX_WRONG_CODES {
            return false;
        }
        self.wrong = 0;
        self.open = None;
        self.closed_until = Some(now + CLOSED_FOR);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: Roles = Roles::ALL;

    #[test]
    fn a_code_is_valid_for_its_minutes_and_for_one_host() {
        let (mut enrolment, now) = (EnrolmentState::default(), Instant::now());
        assert_eq!(enrolment.psk_at(now), None);
        assert_eq!(enrolment.open_at([1; 32], ROLES, 15, now).unwrap(), 900);
        assert_eq!(enrolment.psk_at(now + Duration::from_secs(899)), Some([1; 32]));
        assert_eq!(enrolment.psk_at(now + Duration::from_mins(15)), None);
        let (anna, eve) = (PeerKey([1; 32]), PeerKey([2; 32]));
        assert_eq!(enrolment.roles_for(&anna), Ok(ROLES));
        enrolment.used_by(&anna);
        assert_eq!(enrolment.roles_for(&anna), Ok(ROLES), "the reply may have been lost");
        assert_eq!(enrolment.roles_for(&eve), Err(AccessRefusal::NotOpen));
    }

    #[test]
    fn five_wrong_codes_close_it_for_an_hour() {
        let (mut enrolment, now) = (EnrolmentState::default(), Instant::now());
        enrolment.open_at([1; 32], ROLES, 15, now).unwrap();
        assert_eq!(
            [(); 5].map(|()| enrolment.wrong_at(now)),
            [false, false, false, false, true]
        );
        assert_eq!(enrolment.psk_at(now), None);
        let refused = enrolment
            .open_at([2; 32], ROLES, 15, now + Duration::from_mins(50))
            .unwrap_err();
        assert!(refused.message.contains("closed") && refused.hint.unwrap().contains("10 minutes"));
        enrolment
            .open_at([2; 32], ROLES, 15, now + Duration::from_secs(3_601))
            .unwrap();
    }
}
