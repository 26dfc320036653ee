//! The process itself, as the kernel tells of it: the `process_…` figures that every Prometheus client has.

use std::fs;

/// What the kernel says of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// User and system time so far, in seconds.
    pub cpu_seconds: f64,
    /// Memory that is in RAM, in bytes.
    pub resident_bytes: f64,
    /// Address space, in bytes.
    pub virtual_bytes: f64,
    /// When it began, in seconds since 1970.
    pub start_seconds: f64,
    /// Threads.
    pub threads: f64,
    /// Open files and connections.
    pub open_fds: f64,
    /// How many of these it may have.
    pub max_fds: f64,
}

/// Asks the kernel; `None` where there is no `/proc`.
pub fn look() -> Option<Figures> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    #[allow(clippy::cast_precision_loss, reason = "two numbers of the kernel that are small")]
    let (tick, page) = (rustix::param::clock_ticks_per_second() as f64, rustix::param::page_size() as f64);
    let mut figures = parse(&stat, boot, tick, page)?;
    #[allow(clippy::cast_precision_loss, reason = "a count of files")]
    {
        figures.open_fds = fs::read_dir("/proc/self/fd").ok()?.count() as f64;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        figures.max_fds = limit.current.map_or(f64::INFINITY, |limit| limit as f64);
    }
    Some(figures)
}

/// Reads `/proc/…/stat` (proc_pid_stat(5)): fields are counted from behind the name, which may hold anything.
fn parse(stat: &str, boot: f64, tick: f64, page: f64) -> Option<Figures> {
    let fields: Vec<f64> =
        stat.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    // The name is field 2, the first behind it is field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Figures {
        cpu_seconds: (field(14)? + field(15)?) / tick,
        resident_bytes: field(24)? * page,
        virtual_bytes: field(23)?,
        start_seconds: boot + field(22)? / tick,
        threads: field(20)?,
        ..Figures::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_program_is_called() {
        let stat = "4242 (how) dah (1) S 1 4242 4242 0 -1 4194304 5000 0 7 0 150 50 0 0 20 0 12 0 1000 104857600 2560 \
                    18446744073709551615 1 1 0";
        let figures = parse(stat, 1_700_000_000.0, 100.0, 4096.0).unwrap();
        let expected = Figures {
            cpu_seconds: 2.0,
            resident_bytes: 10_485_760.0,
            virtual_bytes: 104_857_600.0,
            start_seconds: 1_700_000_010.0,
            threads: 12.0,
            ..Figures::default()
        };
        assert_eq!(figures, expected);
        assert_eq!(parse("", 0.0, 1.0, 1.0), None);
    }

    #[test]
    fn this_process_has_threads_files_and_memory() {
        let figures = look().unwrap();
        assert!(figures.threads >= 1.0 && figures.open_fds >= 3.0 && figures.max_fds >= figures.open_fds);
        assert!(figures.resident_bytes > 1e6 && figures.virtual_bytes > figures.resident_bytes);
    }
}
