//! Decoding limits, and the memory budget shared by decoders.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::memory;

/// Limits of decoding an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeLimits {
    /// Maximum bytes of the file.
    pub bytes: u64,
    /// Maximum number of pixels of the image as stored.
    pub pixels: u64,
    /// Maximum bytes of memory for the file, the decoder's buffers, conversion, rotation and scaling together. Large
    /// images that are decoded at the same time share this budget.
    pub memory: u64,
    /// Maximum wall-clock time. It is checked between rows; for a decoder that cannot be interrupted, pixels and memory
    /// bound the time.
    pub time: Duration,
}

impl DecodeLimits {
    /// Limits for host commands: files of 512 MB, 100 megapixels, 1.5 GB of memory and two minutes.
    pub const HOST: Self = Self {
        bytes: 512 << 20,
        pixels: 100_000_000,
        memory: 3 << 29,
        time: Duration::from_mins(2),
    };

    /// Default maximum bytes of a file on a device.
    pub const DEVICE_BYTES: u64 = 32 << 20;

    /// Returns the limits for a device whose network input is `height` × `width` pixels: files of 32 MB, 100 megapixels
    /// and ten seconds. The memory limit is 96 MB plus 256 bytes per input pixel, but at most an eighth of what the
    /// process may use, and at least 16 MB.
    #[must_use]
    pub fn device(height: u32, width: u32) -> Self {
        const LEAST: u64 = 16 << 20;
        let input = 256 * u64::from(height) * u64::from(width);
        let share = memory::of_process().map_or(u64::MAX, |bytes| bytes / 8);
        Self {
            bytes: Self::DEVICE_BYTES,
            pixels: 100_000_000,
            memory: ((96 << 20) + input).min(share).max(LEAST),
            time: Duration::from_secs(10),
        }
    }

    /// Returns the number of bytes up to which an image neither waits nor counts towards the budget, so that ordinary
    /// frames do not queue behind a large image.
    fn small(&self) -> u64 {
        self.memory / 16
    }
}

/// Memory reserved for large images that are being decoded.
#[derive(Debug, Default)]
pub(super) struct Pool {
    promised: Mutex<u64>,
    freed: Condvar,
}

/// A part of the budget, which is released when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    pool: Arc<Pool>,
    bytes: u64,
}

impl Pool {
    /// Reserves `bytes` of the budget. Waits until `deadline` for other large images to finish.
    pub(super) fn reserve(
        self: &Arc<Self>,
        bytes: u64,
        limits: &DecodeLimits,
        deadline: Instant,
    ) -> Result<Reservation, Refused> {
        if bytes > limits.memory {
            return Err(Refused::Memory(limits.memory));
        }
        let large = bytes > limits.small();
        if large {
            let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
            while *promised + bytes > limits.memory {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Refused::Time);
                }
                promised = match self.freed.wait_timeout(promised, left) {
                    Ok((promised, _)) => promised,
                    Err(poisoned) => poisoned.into_inner().0,
                };
            }
            *promised += bytes;
        }
        let reservation = Reservation {
            pool: Arc::clone(self),
            bytes: if large { bytes } else { 0 },
        };
        memory::probe(bytes).map_err(Refused::Memory)?;
        Ok(reservation)
    }
}

/// The reason why no memory was reserved.
#[derive(Debug)]
pub(super) enum Refused {
    /// Only this many bytes are available.
    Memory(u64),
    /// The deadline passed before memory was available.
    Time,
}

impl Reservation {
    /// Releases everything beyond `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        let back = self.bytes.saturating_sub(bytes);
        self.bytes -= back;
        self.give_back(back);
    }

    fn give_back(&self, bytes: u64) {
        if bytes > 0 {
            *self.pool.promised.lock().unwrap_or_else(PoisonError::into_inner) -= bytes;
            self.pool.freed.notify_all();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_images_share_the_budget_and_small_ones_do_not_wait() {
        let limits = DecodeLimits {
            memory: 1600,
            ..DecodeLimits::HOST
        };
        let pool = Arc::new(Pool::default());
        let now = Instant::now;
        let mut first = pool.reserve(1000, &limits, now()).unwrap();
        assert!(matches!(pool.reserve(1601, &limits, now()), Err(Refused::Memory(1600))));
        assert!(matches!(pool.reserve(601, &limits, now()), Err(Refused::Time)));
        drop(pool.reserve(600, &limits, now()).unwrap());
        drop(pool.reserve(100, &limits, now()).unwrap());
        first.shrink_to(400);
        let waiting = {
            let pool = Arc::clone(&pool);
            std::thread::spawn(move || {
                pool.reserve(1600, &limits, Instant::now() + Duration::from_mins(1))
                    .is_ok()
            })
        };
        drop(first);
        assert!(waiting.join().unwrap());
        assert_eq!(*pool.promised.lock().unwrap(), 0);
    }

    #[test]
    fn a_device_gets_a_share_of_the_memory_and_room_for_its_input() {
        let (small, large) = (DecodeLimits::device(32, 32), DecodeLimits::device(640, 640));
        assert!(small.memory >= 16 << 20 && small.memory <= large.memory);
        assert!(large.memory <= (96 << 20) + 256 * 640 * 640);
    }
}
