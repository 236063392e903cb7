//! Real nodes whose disks went bad: a flipped bit anywhere in a holder's data directory never gives
//! wrong bytes, and what is lost is done without.
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;

use common::{
    Network, Node, assert_nothing_left, assert_same, copy_directory, files_below, random_bytes,
};

/// Flips one bit of a file in place.
fn flip(path: &Path, bit: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    use std::os::unix::fs::FileExt;
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, bit / 8).unwrap();
}

/// Bits of a file to flip: the first and last ones, and some between, more where there is data.
fn sampled_bits(path: &Path, count: u64) -> Vec<u64> {
    let content = fs::read(path).unwrap();
    let bits = content.len() as u64 * 8;
    if bits == 0 {
        return Vec::new();
    }
    let seed = path.file_name().unwrap().to_string_lossy().into_owned();
    let random = random_bytes(&seed, count as usize * 16);
    let mut sampled = vec![0, bits - 1];
    let written: Vec<u64> =
        (0..content.len() as u64).filter(|&at| content[at as usize] != 0).collect();
    for pair in random.chunks_exact(16) {
        let [a, b] = [&pair[..8], &pair[8..]].map(|n| u64::from_le_bytes(n.try_into().unwrap()));
        sampled.push(a % bits);
        if !written.is_empty() {
            sampled.push(written[(b % written.len() as u64) as usize] * 8 + a % 8);
        }
    }
    sampled
}

#[test]
fn any_flipped_bit_of_the_only_holder_gives_the_right_bytes_or_an_error() {
    let mut network = Network::new(1);
    let small = network.text_file("small", 200_000);
    let large = network.random_file("large", 700_000);
    let links = [&small, &large].map(|file| network.put(file, &[]).link(0));
    network.nodes[0].kill();
    let data = network.nodes[0].data.clone();
    let sound = network.path("sound");
    fs::rename(&data, &sound).unwrap();
    let (mut right, mut refused_start, mut refused_get) = (0, 0, 0);
    let files = files_below(&sound);
    for file in &files {
        let within = file.strip_prefix(&sound).unwrap();
        for bit in sampled_bits(file, 4) {
            copy_directory(&sound, &data);
            flip(&data.join(within), bit);
            let what = format!("bit {bit} of {}", within.display());
            match network.nodes[0].restart(1) {
                Err(why) => {
                    assert!(why.contains("code Some(7)"), "{what}: {why}");
                    assert!(why.contains("error: "), "{what}: {why}");
                    assert!(!why.contains("panicked"), "{what}: {why}");
                    refused_start += 1;
                }
                Ok(()) => {
                    for (link, original) in links.iter().zip([&small, &large]) {
                        match gives_right_bytes(&network, link, original, &what) {
                            true => right += 1,
                            false => refused_get += 1,
                        }
                    }
                }
            }
            network.nodes[0].kill();
            fs::remove_dir_all(&data).unwrap();
        }
    }
    eprintln!(
        "{} files: {right} gets right all the same, {refused_get} refused, {refused_start} starts \
         refused",
        files.len()
    );
    assert!(refused_get > 0, "no flip ever touched a shard");
}

/// Whether a get brought the right bytes. Anything but that or an error in words is a failure.
#[track_caller]
fn gives_right_bytes(network: &Network, link: &str, original: &Path, what: &str) -> bool {
    let output = network.path("output");
    fs::create_dir_all(&output).unwrap();
    let copy = output.join("copy");
    let get = network.get(link, &copy);
    let right = match get.code {
        Some(0) => {
            assert_same(original, &copy);
            fs::remove_file(&copy).unwrap();
            true
        }
        Some(5 | 6) => {
            let words = get.refused(get.code.unwrap());
            let one = network.nodes.len() > 1 || words.contains("12D3KooW");
            assert!(one, "{what}: nobody is named: {words}");
            false
        }
        _ => panic!("{what}: {get}"),
    };
    assert_nothing_left(&output);
    right
}

#[test]
fn holders_with_bits_flipped_everywhere_are_named_and_done_without() {
    let mut network = Network::new(14);
    let original = network.random_file("file", 12 << 20);
    let link = network.put(&original, &[]).link(0);
    let bad = [0, 4, 8, 12];
    // Half of them in the shards only, so that they start and serve what they have.
    for at in [0, 4] {
        spoil(&mut network.nodes[at], "extent-");
        assert!(network.nodes[at].runs(), "damaged shards keep a node from serving the others");
    }
    for at in [8, 12] {
        spoil(&mut network.nodes[at], "");
    }
    let copy = network.path("copy");
    let get = network.get(&link, &copy);
    let result = get.ok();
    assert_same(&original, &copy);
    // Ten are good, so each of the others was asked; those that do not even start may go unnamed
    // where the ten were faster than a dial is given up.
    for at in [0, 4] {
        get.names(&network.nodes[at].id);
    }
    let damaged = result["bad_holders"].as_array().unwrap();
    assert!(!damaged.is_empty(), "what was flipped was never sent: {get}");
    // With a fifth there is nothing left but a refusal.
    spoil(&mut network.nodes[2], "extent-");
    assert!(!gives_right_bytes(&network, &link, &original, "five spoilt holders"));
    let words = network.run(&["get", &link, "-o", "never"]).refused(5);
    assert!(words.contains("9 of the 10 shards needed"), "{words}");
    for at in bad.into_iter().chain([2]) {
        assert!(words.contains(&network.nodes[at].id), "{at} is not named: {words}");
    }
}

/// Flips a bit in every 4 KiB of all files in a holder's store whose names begin so, and starts
/// it again.
fn spoil(node: &mut Node, beginning: &str) {
    node.kill();
    for file in files_below(&node.data.join("store")) {
        if !file.file_name().unwrap().to_string_lossy().starts_with(beginning) {
            continue;
        }
        let bytes = fs::metadata(&file).unwrap().len();
        // The first block of an extent says whose it is, and no shard is in it.
        let first = if beginning.is_empty() { 0 } else { 4096 };
        for at in (first..bytes).step_by(4096) {
            flip(&file, at * 8 + at / 4096 * 37 % (8 * (bytes - at).min(4096)));
        }
    }
    if let Err(why) = node.restart(1) {
        assert!(why.contains("code Some(7)") && why.contains("error: "), "{why}");
    }
}

#[test]
fn holders_that_lost_all_they_promised_are_named_and_done_without() {
    let mut network = Network::new(14);
    let original = network.random_file("file", 4 << 20);
    let link = network.put(&original, &[]).link(0);
    let bad = [1, 5, 9, 13];
    for at in bad {
        let node = &mut network.nodes[at];
        node.kill();
        fs::remove_dir_all(node.data.join("store")).unwrap();
        node.restart(1).unwrap_or_else(|why| panic!("{why}"));
    }
    let stat = network.run(&["stat", &link]);
    assert_eq!(stat.ok()["losses_left"], 0, "{stat}");
    let copy = network.path("copy");
    let get = network.get(&link, &copy);
    get.ok();
    assert_same(&original, &copy);
    for at in bad {
        get.names(&network.nodes[at].id);
    }
}
