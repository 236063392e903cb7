//! The power cuts of one workload: when, what survives, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use pangea_base::{Entropy, Hash};
use pangea_store::sim::{Image, Survivors};

use super::check::{Checker, Rigour};
use super::workload::{Lived, Workload, entropy, live, round};

/// With more unsynced changes than this, only some are tried alone, missing and torn.
const SINGLES_MAX: usize = 8;
/// Random subsets at a moment.
const RANDOM: usize = 16;
/// Images of a moment in a long workload.
const LONG_MOMENT: usize = 4;

/// Which changes survive, as it is written in a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way(pub Survivors);

impl Way {
    /// Its kind, in words.
    pub fn kind(self) -> &'static str {
        match self.0 {
            Survivors::None => "none",
            Survivors::All => "all",
            Survivors::Only(_) => "only",
            Survivors::AllBut(_) => "all-but",
            Survivors::Random(_) => "random",
            Survivors::Torn { .. } => "torn",
            Survivors::TornAt { .. } => "torn-at",
            Survivors::OldLengths => "old-lengths",
            Survivors::NewLengths => "new-lengths",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self.0 {
            Survivors::None | Survivors::All | Survivors::OldLengths | Survivors::NewLengths => {
                write!(f, "{kind}")
            }
            Survivors::Only(number) | Survivors::AllBut(number) => write!(f, "{kind}:{number}"),
            Survivors::Random(seed) => write!(f, "{kind}:{seed}"),
            Survivors::Torn { part, unit } => write!(f, "{kind}:{part},{unit}"),
            Survivors::TornAt { number, part, unit } => write!(f, "{kind}:{number},{part},{unit}"),
        }
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Way, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let numbers: Vec<u64> = rest.split(',').filter_map(|part| part.parse().ok()).collect();
        let survivors = match (kind, &numbers[..]) {
            ("none", _) => Survivors::None,
            ("all", _) => Survivors::All,
            ("old-lengths", _) => Survivors::OldLengths,
            ("new-lengths", _) => Survivors::NewLengths,
            ("only", [number]) => Survivors::Only(*number as usize),
            ("all-but", [number]) => Survivors::AllBut(*number as usize),
            ("random", [seed]) => Survivors::Random(*seed),
            ("torn", [part, unit]) if *unit > 0 => {
                Survivors::Torn { part: *part as usize, unit: *unit as usize }
            }
            ("torn-at", [number, part, unit]) if *unit > 0 => Survivors::TornAt {
                number: *number as usize,
                part: *part as usize,
                unit: *unit as usize,
            },
            _ => {
                return Err(
                    "one of none, all, old-lengths, new-lengths, only:N, all-but:N, random:SEED, \
                     torn:EIGHTHS,UNIT, \
                     torn-at:N,EIGHTHS,UNIT"
                        .to_owned(),
                );
            }
        };
        Ok(Way(survivors))
    }
}

/// The states of `count` unsynced changes that are looked at.
fn ways(random: &mut Entropy, count: usize) -> Vec<Survivors> {
    let mut ways = vec![Survivors::None];
    if count == 0 {
        return ways;
    }
    ways.extend([Survivors::All, Survivors::OldLengths, Survivors::NewLengths]);
    let singles: Vec<usize> = match count {
        1 => Vec::new(),
        2..=SINGLES_MAX => (0..count).collect(),
        _ => (0..SINGLES_MAX).map(|_| random.below(count as u64) as usize).collect(),
    };
    for number in singles {
        ways.extend([Survivors::Only(number), Survivors::AllBut(number)]);
        for unit in [512, 4096] {
            ways.push(Survivors::TornAt { number, part: 1 + random.below(7) as usize, unit });
        }
    }
    for part in [1, 4, 7] {
        ways.extend([512, 4096].map(|unit| Survivors::Torn { part, unit }));
    }
    // All subsets of three are above already.
    if count > 3 {
        ways.extend((0..RANDOM).map(|_| Survivors::Random(random.u64())));
    }
    ways
}

/// So many of them, drawn.
pub fn some_ways(random: &mut Entropy, unsynced: usize, count: usize) -> Vec<Survivors> {
    if count == 0 {
        return Vec::new();
    }
    let all = ways(random, unsynced);
    let mut some: Vec<Survivors> = Vec::new();
    for _ in 0..count {
        let drawn = all[random.below(all.len() as u64) as usize];
        if !some.contains(&drawn) {
            some.push(drawn);
        }
    }
    some
}

/// A hash over one thing after another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain(pub Hash);

impl Default for Chain {
    fn default() -> Chain {
        Chain(Hash([0; 32]))
    }
}

impl Chain {
    pub fn add(&mut self, bytes: &[u8]) {
        self.0 = Hash::of(&[&self.0.0[..], bytes].concat());
    }
}

/// What came of a workload.
#[derive(Default)]
pub struct Outcome {
    pub images: u64,
    pub nested: u64,
    pub twice: u64,
    pub kinds: BTreeMap<&'static str, u64>,
    /// Over every image and what was found in it.
    pub hash: Chain,
    pub failure: Option<Failure>,
}

/// Something that did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    pub what: String,
    /// `None`: it went wrong without a cut.
    pub cut: Option<(usize, Way)>,
}

impl Failure {
    /// The command that does exactly this again.
    pub fn again(&self, seed: u64, workload: u64) -> String {
        let workload = format!("pangea-sim crash --seed {seed} --workload {workload}");
        match self.cut {
            None => workload,
            Some((moment, way)) => format!("{workload} --moment {moment} --survivors {way}"),
        }
    }
}

/// The seed of everything in a workload.
fn seed_of(seed: u64, number: u64) -> u64 {
    entropy(seed, number).u64()
}

/// Lives a workload of a seed.
pub fn live_numbered(seed: u64, number: u64) -> Result<(Workload, Lived), String> {
    let own = seed_of(seed, number);
    let workload = Workload::numbered(number, &mut entropy(own, 2));
    let lived = catch_unwind(AssertUnwindSafe(|| live(&workload, own)));
    let lived = lived.map_err(|panic| format!("a panic: {}", text_of(&*panic)))??;
    Ok((workload, lived))
}

/// Cuts the power in a workload: at every moment, or only as `only` says.
pub fn cut(seed: u64, number: u64, only: Option<(usize, Way)>) -> Outcome {
    let own = seed_of(seed, number);
    let mut outcome = Outcome::default();
    let (workload, lived) = match live_numbered(seed, number) {
        Ok(lived) => lived,
        Err(what) => {
            outcome.failure = Some(Failure { what, cut: None });
            return outcome;
        }
    };
    let mut random = entropy(own, 3);
    let mut checker = Checker::new(own, lived.now);
    let mut failed = None;
    let failure = std::cell::Cell::new(false);
    lived.disk.crash(
        |moment, unsynced| match only {
            _ if failure.get() => Vec::new(),
            Some((at, way)) if at == moment => vec![way.0],
            Some(_) => Vec::new(),
            None if moment < lived.start => Vec::new(),
            None if workload.is_long => some_ways(&mut random, unsynced, LONG_MOMENT),
            None => ways(&mut random, unsynced),
        },
        |moment, survivors, image| {
            if failure.get() {
                return;
            }
            let rigour = rigour(own, moment, Way(survivors));
            if let Err(what) =
                one(&mut checker, &lived, moment, survivors, image, rigour, &mut outcome)
            {
                failure.set(true);
                failed = Some(Failure { what, cut: Some((moment, Way(survivors))) });
            }
        },
    );
    outcome.failure = failed;
    (outcome.nested, outcome.twice) = (checker.nested, checker.twice);
    outcome
}

/// Half of the images are recovered twice, an eighth is cut during recovery. Which ones depends on
/// nothing but the image's name, so that a replay does the same.
fn rigour(own: u64, moment: usize, way: Way) -> Rigour {
    let drawn = Hash::of(format!("{own} {moment} {way}").as_bytes()).0[0];
    Rigour { twice: drawn.is_multiple_of(2), nested: (drawn / 2).is_multiple_of(8) }
}

fn one(
    checker: &mut Checker,
    lived: &Lived,
    moment: usize,
    survivors: Survivors,
    image: Image,
    rigour: Rigour,
    outcome: &mut Outcome,
) -> Result<(), String> {
    outcome.images += 1;
    *outcome.kinds.entry(Way(survivors).kind()).or_default() += 1;
    outcome.hash.add(format!("{moment} {}", Way(survivors)).as_bytes());
    let checked =
        catch_unwind(AssertUnwindSafe(|| checker.check(&lived.history, moment, image, rigour)));
    let state = checked.map_err(|panic| format!("a panic: {}", text_of(&*panic)))??;
    state.values().for_each(|(root, ..)| outcome.hash.add(&root.0));
    Ok(())
}

pub fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// The workloads of a run, in order: rounds over all of them, each with the next seed and in an
/// order of its own.
pub fn order(first_seed: u64, place: u64) -> (u64, u64) {
    let (turn, at) = (place / round(), place % round());
    let seed = first_seed.wrapping_add(turn);
    let mut numbers: Vec<u64> = (0..round()).collect();
    let mut random = entropy(seed, u64::MAX);
    for last in (1..numbers.len()).rev() {
        numbers.swap(last, random.below(last as u64 + 1) as usize);
    }
    (seed, numbers[at as usize])
}
