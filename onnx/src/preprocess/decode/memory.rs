//! Memory limits of the system: of the process, its control group and the machine.

/// Smaller requests are not checked, because the rest of the program allocates as much.
const UNPROBED: u64 = 1 << 20;

/// Memory left for other threads while an image is decoded.
const ROOM: u64 = 8 << 20;

/// Checks that the system can provide `bytes`; otherwise returns the number of available bytes as `Err`.
///
/// Decoders allocate without checking, and a failed allocation ends the process. The limits on address space and data
/// (`ulimit -v`, `prlimit --data`) are therefore tested with an allocation that may fail and is never touched. The
/// memory of the control group and of the machine is read instead, because the kernel grants such an allocation and
/// later kills a process.
pub(super) fn probe(bytes: u64) -> Result<(), u64> {
    if bytes <= UNPROBED {
        return Ok(());
    }
    let wanted = usize::try_from(bytes + ROOM).map_err(|_| usize::MAX as u64)?;
    if Vec::<u8>::new().try_reserve_exact(wanted).is_err() {
        // Approximated by halving a few times.
        let fits = (1..24)
            .map(|halvings| wanted >> halvings)
            .find(|&less| Vec::<u8>::new().try_reserve_exact(less).is_ok());
        return Err((fits.unwrap_or(0) as u64).saturating_sub(ROOM));
    }
    match system::available() {
        Some(available) if bytes > ROOM && available < bytes + ROOM => Err(available.saturating_sub(ROOM)),
        _ => Ok(()),
    }
}

/// Returns the maximum bytes that the process may use; `None` if the system does not report it.
pub(super) fn of_process() -> Option<u64> {
    system::total()
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs::read_to_string;

    /// Returns the minimum of the machine's memory, the control group's limit and the process's limits.
    pub(super) fn total() -> Option<u64> {
        let machine = meminfo(&read_to_string("/proc/meminfo").ok()?, "MemTotal:");
        let process = read_to_string("/proc/self/limits").ok().and_then(|text| limits(&text));
        let groups = groups().into_iter().map(|group| group.most);
        machine.into_iter().chain(process).chain(groups).min()
    }

    /// Returns the free memory of the machine and the control groups.
    pub(super) fn available() -> Option<u64> {
        let machine = meminfo(&read_to_string("/proc/meminfo").ok()?, "MemAvailable:");
        let groups = groups().into_iter().map(|group| group.most.saturating_sub(group.used));
        machine.into_iter().chain(groups).min()
    }

    pub(super) fn meminfo(text: &str, field: &str) -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes << 10)
    }

    /// Returns the soft limits on data and address space in the text of `/proc/self/limits`.
    pub(super) fn limits(text: &str) -> Option<u64> {
        let of = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        of("Max data size").into_iter().chain(of("Max address space")).min()
    }

    /// A control group with a limit.
    struct Group {
        most: u64,
        /// Used bytes, without memory that the kernel may reclaim.
        used: u64,
    }

    /// Returns the control groups (version 2) from the process's own to the root, as far as they have limits.
    fn groups() -> Vec<Group> {
        let text = read_to_string("/proc/self/cgroup").unwrap_or_default();
        let Some(own) = text.lines().find_map(|line| line.strip_prefix("0::")) else {
            return Vec::new();
        };
        let number = |path: String| -> Option<u64> { read_to_string(path).ok()?.trim().parse().ok() };
        let of = |path: &str| {
            let folder = format!("/sys/fs/cgroup{}", path.trim_end_matches('/'));
            let limits = ["max", "high"].map(|limit| number(format!("{folder}/memory.{limit}")));
            let most = limits.into_iter().flatten().min()?;
            let current = number(format!("{folder}/memory.current")).unwrap_or(0);
            let stat = read_to_string(format!("{folder}/memory.stat")).unwrap_or_default();
            let cache = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
            let cache = cache.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            Some(Group {
                most,
                used: current.saturating_sub(cache),
            })
        };
        std::path::Path::new(own)
            .ancestors()
            .filter_map(|path| of(path.to_str()?))
            .collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn total() -> Option<u64> {
        None
    }

    pub(super) fn available() -> Option<u64> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_system_reports_its_memory() {
        let total = of_process().unwrap();
        assert!(total > 1 << 20, "{total}");
        assert!(probe(4 << 20).is_ok());
        assert!(probe(1 << 60).is_err());
    }

    #[test]
    fn limits_and_fields_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max data size             500000000            unlimited            bytes     \n\
                    Max address space         unlimited            unlimited            bytes     \n";
        assert_eq!(system::limits(text), Some(500_000_000));
        assert_eq!(system::limits("Max data size  unlimited unlimited bytes\n"), None);
        assert_eq!(
            system::meminfo("MemFree: 1 kB\nMemTotal:   2048 kB\n", "MemTotal:"),
            Some(2 << 20)
        );
    }
}
