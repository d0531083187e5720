//! Processor time and wall time between two moments: of the process under test, and of the engines that it works on.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::Args;
use crate::measure::{Usage, stopwatch_us, usage};

/// A process that is looked at beside the one under test: an engine on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beside {
    name: String,
    process: u32,
}

impl Beside {
    /// Reads `NAME=PID`.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not NAME=PID, such as kafka=4711");
        let (name, process) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
        Ok(Self { name: name.to_owned(), process: process.parse().map_err(|_| wrong())? })
    }
}

/// A measurement that has begun.
pub(super) struct Meter {
    process: u32,
    beside: Vec<(Beside, Duration)>,
    before: Usage,
    begun_us: u64,
}

/// What was spent since it began.
pub(super) struct Spent {
    /// Wall time.
    pub(super) took: Duration,
    /// User and system time of the process under test.
    pub(super) cpu: Duration,
    /// Its resident memory in the end.
    pub(super) resident_bytes: u64,
    /// The same of each process beside it.
    pub(super) beside: Vec<(String, Duration)>,
}

impl Meter {
    /// Begins for `process` and for what `--beside` names.
    pub(super) fn start(args: &Args, process: u32) -> anyhow::Result<Self> {
        let beside: anyhow::Result<Vec<_>> =
            args.beside.iter().map(|of| Ok((of.clone(), used(of.process, &of.name)?.cpu))).collect();
        Ok(Self { process, beside: beside?, before: used(process, "the platform")?, begun_us: stopwatch_us() })
    }

    /// Begins for this process, which runs what is measured itself.
    pub(super) fn own(args: &Args) -> anyhow::Result<Self> {
        Self::start(args, std::process::id())
    }

    /// What was spent until now; it goes on.
    pub(super) fn read(&self) -> anyhow::Result<Spent> {
        let took = Duration::from_micros(stopwatch_us() - self.begun_us);
        let after = used(self.process, "the platform")?;
        let mut beside = Vec::new();
        for (of, before) in &self.beside {
            let cpu = used(of.process, &of.name)?.cpu;
            ensure!(cpu >= *before, "the process {} of {} is another one now", of.process, of.name);
            beside.push((of.name.clone(), cpu - *before));
        }
        Ok(Spent { took, cpu: after.cpu - self.before.cpu, resident_bytes: after.resident_bytes, beside })
    }
}

impl Spent {
    /// Microseconds of the processor for each of `count`.
    pub(super) fn per(&self, count: u64) -> f64 {
        micros_per(self.cpu, count)
    }

    /// How many of `count` a second.
    pub(super) fn rate(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64()
    }

    /// The same as [`Spent::per`] for the processes beside, in words; empty where none were named.
    pub(super) fn beside(&self, count: u64) -> String {
        if self.beside.is_empty() {
            return String::new();
        }
        let each = self.beside.iter().map(|(name, cpu)| format!("{name} {:.2}", micros_per(*cpu, count)));
        format!(" (beside it, in the same unit: {})", each.collect::<Vec<_>>().join(", "))
    }
}

fn used(process: u32, what: &str) -> anyhow::Result<Usage> {
    usage(process).with_context(|| {
        format!("the processor time of {what}, process {process}, cannot be read: does it run on this machine?")
    })
}

fn micros_per(cpu: Duration, count: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_beside_is_a_name_and_a_number() {
        assert_eq!(Beside::read("kafka=12"), Ok(Beside { name: "kafka".to_owned(), process: 12 }));
        for wrong in ["kafka", "=12", "kafka=", "kafka=x", "kafka=-1"] {
            assert!(Beside::read(wrong).unwrap_err().contains("NAME=PID"), "{wrong}");
        }
    }

    #[test]
    fn what_is_beside_is_said_in_the_unit_of_the_figure() {
        let mut spent = Spent {
            took: Duration::from_secs(2),
            cpu: Duration::from_millis(30),
            resident_bytes: 0,
            beside: Vec::new(),
        };
        assert_eq!((spent.per(1_000), spent.rate(1_000), spent.beside(1_000)), (30.0, 500.0, String::new()));
        spent.beside = vec![("kafka".to_owned(), Duration::from_millis(10)), ("redis".to_owned(), Duration::ZERO)];
        assert_eq!(spent.beside(1_000), " (beside it, in the same unit: kafka 10.00, redis 0.00)");
    }
}
