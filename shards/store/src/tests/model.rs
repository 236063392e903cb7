use std::collections::BTreeMap;

use pangea_base::{Entropy, Hash, Locator, ShardKey};

use super::rig::*;
use crate::sim::Disk;
use crate::*;

/// The store and what it should hold.
struct Model {
    seed: u64,
    random: Entropy,
    rig: Rig,
    shards: BTreeMap<ShardKey, Vec<u8>>,
    blobs: BTreeMap<BlobKey, Vec<u8>>,
}

impl Model {
    fn put(&mut self, name: ShardKey, bytes: Vec<u8>) {
        let length_max = bytes.len() + self.random.below(9000) as usize;
        match self.rig.store.begin(name, meta(length_max)) {
            Ok(id) => {
                for group in bytes.chunks(16384) {
                    while self.rig.store.append(id, group).is_err() {
                        assert!(self.rig.step());
                    }
                }
                self.rig.store.commit(id);
                self.rig.settle();
                assert!(self.rig.stored.contains_key(&id), "{:?}", self.rig.failed.get(&id));
                assert!(self.shards.insert(name, bytes).is_none());
            }
            Err(StoreRefused::AlreadyHeld { root, length, .. }) => {
                let held = &self.shards[&name];
                assert_eq!((root, length), (Hash::of(held), held.len() as u64));
            }
            Err(refused) => panic!("{refused}"),
        }
    }

    fn delete(&mut self, name: ShardKey) {
        let deleted = self.rig.store.delete(shard_name(name)).is_ok();
        assert_eq!(deleted, self.shards.remove(&name).is_some(), "seed {}", self.seed);
        self.rig.settle();
    }

    fn put_blob(&mut self, locator: Locator, bytes: Vec<u8>) {
        let blob = BlobKey { locator, kind: BlobKind::Placement, id: Hash::of(&bytes) };
        self.rig.put_blob(blob, &bytes).unwrap();
        self.blobs.insert(blob, bytes);
    }

    fn delete_blob(&mut self) {
        if let Some((blob, _)) = self.blobs.pop_first() {
            self.rig.store.delete(blob_name(blob)).unwrap();
            self.rig.settle();
        }
    }

    fn abort(&mut self, name: ShardKey) {
        if let Ok(id) = self.rig.store.begin(name, meta(50_000)) {
            let _ = self.rig.store.append(id, &[1; 16384]);
            self.rig.store.abort(id);
        }
    }

    fn reopen(mut self) -> Model {
        let image = match self.random.below(2) {
            0 => self.rig.close(),
            _ => {
                self.rig.settle();
                self.rig.killed()
            }
        };
        let rig = Rig::open(Disk::with_image(image, self.random.u64()), config(0, 1));
        assert!(!rig.recovered().damaged() && rig.recovered().cut_blocks == 0);
        Model { rig, ..self }
    }

    fn compare(&mut self) {
        let seed = self.seed;
        for object in 0..3 {
            let locator = Locator([object; 32]);
            let held: Vec<ShardKey> = self.rig.store.shards_of(locator).map(|s| s.0.key).collect();
            let known = self.shards.keys().filter(|key| key.locator == locator);
            assert!(held.iter().eq(known), "seed {seed}");
        }
        if let Some((name, bytes)) = self.shards.iter().nth(self.random.below(20) as usize) {
            assert!(self.rig.get(*name).unwrap() == *bytes, "seed {seed}: wrong bytes");
        }
        if let Some((blob, bytes)) = self.blobs.first_key_value() {
            let got = self.rig.get_blob(blob.kind, blob.locator, blob.id).unwrap();
            assert!(got == bytes, "seed {seed}: wrong bytes of a blob");
        }
    }

    fn end(mut self) {
        let seed = self.seed;
        for (name, bytes) in &self.shards {
            assert!(self.rig.get(*name).unwrap() == *bytes, "seed {seed}: wrong bytes at the end");
            self.rig.store.delete(shard_name(*name)).unwrap();
        }
        self.blobs.keys().for_each(|blob| self.rig.store.delete(blob_name(*blob)).unwrap());
        self.rig.settle();
        assert_eq!(self.rig.store.used_bytes(), 0, "seed {seed}: all space comes back");
        assert_eq!(self.rig.store.owner_bytes(&owner(1)), 0);
        assert!(self.rig.store.idle());
        self.rig.close();
    }
}

/// Random puts, deletions, blobs, reads, aborts, reopenings and kills agree with a map.
fn agrees(seed: u64, operations: u64) {
    let mut model = Model {
        seed,
        random: Entropy::new([seed as u8; 32]),
        rig: Rig::open(Disk::new(seed), config(0, 1)),
        shards: BTreeMap::new(),
        blobs: BTreeMap::new(),
    };
    for number in 0..operations {
        let name = key(model.random.below(3) as u8, model.random.below(15) as u32);
        let size = model.random.below(3) * model.random.below(90_000);
        let bytes = bytes_of(seed * 100_000 + number, size as usize);
        match model.random.below(20) {
            0..=7 => model.put(name, bytes),
            8..=12 => model.delete(name),
            13 => model.put_blob(name.locator, bytes),
            14 => model.delete_blob(),
            15 => model.abort(key(9, number as u32)),
            16 => model = model.reopen(),
            _ => model.compare(),
        }
    }
    model.end();
}

#[test]
fn random_use_agrees_with_a_map() {
    (1..=12).for_each(|seed| agrees(seed, 600));
}

#[test]
fn the_same_inputs_give_the_same_files() {
    let run = || {
        let mut rig = Rig::open(Disk::new(4), config(0, 1));
        for chunk in 0..40 {
            rig.put_soon(key(1, chunk), &bytes_of(u64::from(chunk), 10_000)).unwrap();
        }
        rig.settle();
        rig.close()
    };
    assert_eq!(run(), run());
}
