//! Random histories of a family, and the few that need a name.

use super::*;
use crate::supervise::policy::{Backoff, Intensity};

/// A runner as the family sees it: commands and reports are under way for a while.
#[derive(Default)]
struct Puppet {
    exists: bool,
    up: bool,
    commands: VecDeque<Command>,
    reports: VecDeque<Report>,
}

#[derive(Clone, Copy, Debug)]
enum Command {
    Start,
    Fell(Death),
    End,
}

#[derive(Clone, Copy, Debug)]
enum Report {
    Up,
    Died(Death),
    Ended,
}

impl Puppet {
    fn obey(&mut self, dies_at_once: bool) {
        match self.commands.pop_front() {
            Some(Command::Start) => {
                assert!(!self.up, "started twice");
                self.up = !dies_at_once;
                self.reports.push_back(if self.up { Report::Up } else { Report::Died(Death::Panic) });
            }
            Some(Command::Fell(death)) if self.up => self.die(death),
            Some(Command::End) => {
                (self.exists, self.up) = (false, false);
                self.reports.push_back(Report::Ended);
            }
            Some(Command::Fell(_)) | None => {}
        }
    }

    fn die(&mut self, death: Death) {
        self.up = false;
        self.reports.push_back(Report::Died(death));
    }
}

struct Stage {
    family: Family,
    puppets: Vec<Puppet>,
    now: Instant,
    over: bool,
}

impl Stage {
    fn carry_out(&mut self) {
        loop {
            let steps = self.family.advance(self.now);
            if steps.is_empty() {
                return;
            }
            for step in steps {
                match step {
                    Step::Raise(child) => {
                        assert!(!self.over, "nobody is raised at the end");
                        self.puppets[child].exists = true;
                        self.puppets[child].commands.push_back(Command::Start);
                    }
                    Step::Fell(child, death) => self.puppets[child].commands.push_back(Command::Fell(death)),
                    Step::End(child, _) if self.puppets[child].exists => {
                        self.puppets[child].commands.push_back(Command::End);
                    }
                    Step::End(child, _) => self.family.gone(child),
                    Step::GivenUp | Step::Closed => {
                        assert!(self.family.is_idle());
                        self.over = true;
                    }
                }
            }
        }
    }

    fn hear(&mut self, child: usize, luck: f64) {
        match self.puppets[child].reports.pop_front() {
            Some(Report::Up) => drop(self.family.up(child)),
            Some(Report::Died(death)) => drop(self.family.died(child, death, self.now, Duration::ZERO, luck)),
            Some(Report::Ended) => self.family.gone(child),
            None => {}
        }
        self.carry_out();
    }
}

/// True when the whole family left.
fn play(seed: u64) -> bool {
    let mut random = fastrand::Rng::with_seed(seed);
    let second = Duration::from_secs(1);
    let supervision = Supervision {
        strategy: [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne][random.usize(0..3)],
        intensity: Intensity { restarts: random.u32(2..40), within: 30 * second },
        backoff: Backoff { base: second, cap: 8 * second, healthy: 60 * second },
    };
    let len = random.usize(1..6);
    let policies = [Policy::Permanent, Policy::Permanent, Policy::Transient, Policy::Temporary];
    let policies: Vec<_> = (0..len).map(|_| policies[random.usize(0..4)]).collect();
    let wanted: Vec<_> = (0..len).map(|_| random.u8(0..8) > 0).collect();
    let mut stage = Stage {
        family: Family::new(&supervision, policies.clone(), &wanted),
        puppets: (0..len).map(|_| Puppet::default()).collect(),
        now: Instant::now(),
        over: false,
    };
    stage.carry_out();
    for _ in 0..random.usize(0..120) {
        let child = random.usize(0..len);
        match random.u8(0..20) {
            0 | 1 if stage.puppets[child].up => stage.puppets[child].die(Death::Panic),
            2 if stage.puppets[child].up => stage.puppets[child].die(Death::Ended),
            3 => drop(stage.family.restart(child, stage.now)),
            4 if random.bool() => {
                if let Some(step) = stage.family.stop(child) {
                    stage.family.ready.push(step);
                }
            }
            5 if stage.family.is_up(child) => {
                stage.family.felling(child);
                stage.puppets[child].commands.push_back(Command::Fell(Death::Stall));
            }
            6 if random.u8(0..20) == 0 => stage.family.close(),
            7..=11 => stage.puppets[child].obey(random.u8(0..6) == 0),
            12..=17 => stage.hear(child, random.f64()),
            _ => stage.now += random.u32(0..3) * second,
        }
        stage.carry_out();
    }
    // From here on nobody dies by himself: all must come to rest.
    for _ in 0..40 {
        for child in 0..len {
            while !stage.puppets[child].commands.is_empty() || !stage.puppets[child].reports.is_empty() {
                stage.puppets[child].obey(false);
                stage.hear(child, 0.5);
            }
        }
        stage.now = stage.family.next_due(stage.now).unwrap_or(stage.now);
        stage.carry_out();
    }
    let rests = stage.family.episodes.is_empty() && stage.family.opening.is_empty();
    assert!(rests || stage.over, "{:?} {:?}", stage.family.episodes, stage.family.opening);
    for (child, puppet) in stage.puppets.iter().enumerate() {
        let phase = stage.family.phases[child];
        assert!(matches!(phase, Phase::Up | Phase::Idle), "child {child} hangs in {phase:?}");
        assert_eq!(phase == Phase::Up, puppet.up, "child {child}");
        assert_eq!(phase == Phase::Idle, !puppet.exists, "child {child}");
    }
    assert!(stage.over || stage.family.farewell.is_none(), "a farewell comes to its end");
    stage.over
}

#[test]
fn in_every_history_each_child_is_raised_once_and_all_come_to_rest() {
    let mut left = 0;
    for seed in 0..20_000 {
        match crate::supervise::panics::guarded(|| play(seed)) {
            Ok(over) => left += u32::from(over),
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    assert!((2_000..18_000).contains(&left), "both ends are common: {left}");
}

#[test]
fn a_death_that_joins_an_episode_never_brings_it_forward() {
    let second = Duration::from_secs(1);
    let supervision = Supervision {
        strategy: Strategy::OneForAll,
        intensity: Intensity { restarts: 100, within: second },
        backoff: Backoff { base: second, cap: 60 * second, healthy: 60 * second },
    };
    let mut family = Family::new(&supervision, vec![Policy::Permanent; 2], &[true; 2]);
    let start = Instant::now();
    // The row of the first: the third death in a row, with a pause of 4 s.
    for _ in 0..3 {
        family.died(0, Death::Panic, start, Duration::ZERO, 0.5);
    }
    assert_eq!(family.next_due(start), Some(start + 4 * second));
    let first_of_the_other = family.died(1, Death::Panic, start + second, Duration::ZERO, 0.5);
    assert_eq!(first_of_the_other, Outcome::Restart(second));
    assert_eq!(family.next_due(start + second), Some(start + 4 * second));
    assert_eq!(family.advance(start + 3 * second), []);
    assert_eq!(family.advance(start + 4 * second), [Step::Raise(0)]);
}
