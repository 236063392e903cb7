//! The checker notices, and what it checks is decided by the seed.

use clap::Parser;
use pangea_base::Entropy;
use pangea_store::Key;
use pangea_store::sim::Survivors;

use super::Options;
use super::check::{Checker, Rigour};
use super::cut::{Way, cut, live_numbered, order};
use super::replay::on_directories;
use super::workload::{STARTS, STEPS, Workload, round};

const PLAIN: Rigour = Rigour { twice: true, nested: false };

/// The number of the first workload that leaves a shard with bytes.
fn with_a_shard() -> u64 {
    let is_fit = |number: &u64| {
        let lived = live_numbered(1, *number).map(|(_, lived)| lived).unwrap();
        let last = lived.disk.moment();
        let mut checker = Checker::new(1, lived.now);
        let state = checker.check(&lived.history, last, lived.disk.image(), PLAIN).unwrap();
        state.iter().any(|(key, held)| matches!(key, Key::Shard(_)) && held.1 > 0)
    };
    (0..round()).find(is_fit).unwrap()
}

#[test]
fn a_damaged_block_of_an_acknowledged_shard_is_noticed() {
    let (_, lived) = live_numbered(1, with_a_shard()).unwrap();
    let mut checker = Checker::new(1, lived.now);
    let moment = lived.disk.moment();
    let mut image = lived.disk.image();
    let extents = image.iter_mut().filter(|(name, _)| name.as_str().contains("extent"));
    for (_, bytes) in extents {
        bytes[4096..].iter_mut().for_each(|byte| *byte ^= 1);
    }
    let wrong = checker.check(&lived.history, moment, image, PLAIN).unwrap_err();
    assert!(wrong.contains("shard"), "{wrong}");
}

#[test]
fn an_image_from_before_the_acknowledgement_is_noticed() {
    let (_, lived) = live_numbered(1, with_a_shard()).unwrap();
    let mut checker = Checker::new(1, lived.now);
    let (moment, mut old) = (lived.disk.moment(), None);
    lived.disk.crash(
        |at, _| if at == 0 { vec![Survivors::None] } else { Vec::new() },
        |_, _, image| old = Some(image),
    );
    let wrong = checker.check(&lived.history, moment, old.unwrap(), PLAIN).unwrap_err();
    assert!(wrong.contains("is lost"), "{wrong}");
}

#[test]
fn what_nobody_put_is_noticed() {
    let (_, lived) = live_numbered(1, with_a_shard()).unwrap();
    let mut checker = Checker::new(1, lived.now);
    // At the very beginning nothing had been put.
    let wrong = checker.check(&lived.history, 0, lived.disk.image(), PLAIN).unwrap_err();
    assert!(wrong.contains("is invented"), "{wrong}");
}

#[test]
fn the_same_seed_checks_the_same_images() {
    let number = with_a_shard();
    let (first, again, other) = (cut(1, number, None), cut(1, number, None), cut(2, number, None));
    assert!(first.failure.is_none() && first.images > 10, "{:?}", first.failure);
    assert_eq!((first.hash, first.nested), (again.hash, again.nested));
    assert!(first.hash != other.hash);
}

#[test]
fn survivors_are_read_as_they_are_written() {
    let torn = Survivors::Torn { part: 3, unit: 512 };
    let torn_at = Survivors::TornAt { number: 4, part: 1, unit: 4096 };
    let plain = [Survivors::None, Survivors::All, Survivors::Only(3), Survivors::AllBut(0)];
    for way in plain.into_iter().chain([Survivors::Random(77), torn, torn_at]) {
        assert_eq!(Way(way).to_string().parse(), Ok(Way(way)));
    }
    for way in [Survivors::OldLengths, Survivors::NewLengths] {
        assert_eq!(Way(way).to_string().parse(), Ok(Way(way)));
    }
    assert!("torn:1".parse::<Way>().is_err() && "torn:1,0".parse::<Way>().is_err());
}

#[test]
fn a_round_has_every_workload_once() {
    let mut numbers: Vec<u64> = (0..round()).map(|place| order(5, place).1).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..round()));
    assert_eq!(order(5, round()).0, 6);
    let mut random = Entropy::new([0; 32]);
    let sequences = (0..round()).map(|number| Workload::numbered(number, &mut random));
    let sequences: Vec<Workload> = sequences.filter(|workload| !workload.is_long).collect();
    let steps = STEPS.len();
    let expected = STARTS.len() * (steps + steps * steps + steps * steps * steps);
    assert_eq!(sequences.len(), expected);
    for (at, one) in sequences.iter().enumerate() {
        assert!(!sequences[..at].contains(one), "{one:?}");
    }
}

#[test]
fn every_kind_of_survivors_is_met() {
    let mut kinds: Vec<&str> = Vec::new();
    for place in 0..6 {
        let (seed, number) = order(3, place);
        let outcome = cut(seed, number, None);
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        kinds.extend(outcome.kinds.keys());
    }
    kinds.sort_unstable();
    kinds.dedup();
    let all = [
        "all",
        "all-but",
        "new-lengths",
        "none",
        "old-lengths",
        "only",
        "random",
        "torn",
        "torn-at",
    ];
    assert_eq!(kinds, all);
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

#[test]
fn images_on_real_files_hold_what_simulated_ones_hold() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let told = Cli::parse_from(["crash", "--images", "5", "--replay-on", dir]);
    assert!(on_directories(&told.options));
}
