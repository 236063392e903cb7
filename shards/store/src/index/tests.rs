use super::*;

fn put(chunk: u32, owner: u8, length: u64, runs: Vec<Run>) -> Put {
    let locator = Locator([(chunk % 3) as u8; 32]);
    let key = ShardKey { locator, chunk: ChunkNumber(chunk), index: ShardIndex(0) };
    Put {
        key: Key::shard(PeerId([owner; 32]), key),
        prefix: Prefix(Some([owner; 6])),
        code: Code::new(2, 1),
        until: UnixTime(7),
        order: 0,
        stored: UnixTime(1),
        doubted: owner == 5,
        root: Hash([chunk as u8; 32]),
        length,
        runs,
    }
}

fn blob(locator: u8, owner: u8, kind: BlobKind, stored: u64) -> Put {
    let key = BlobKey { locator: Locator([locator; 32]), kind, id: Hash([9; 32]) };
    let runs = vec![Run { extent: 9, start: 9, blocks: 1 }];
    let key = Key::blob(PeerId([owner; 32]), key);
    Put { key, stored: UnixTime(stored), code: None, until: UnixTime(0), ..put(0, owner, 9, runs) }
}

#[test]
fn what_goes_in_comes_out_whole() {
    let one = put(1, 4, 4096, vec![Run { extent: 3, start: 9, blocks: 1 }]);
    let runs =
        vec![Run { extent: 0, start: 1, blocks: 16 }, Run { extent: 1, start: 5, blocks: 17 }];
    let two = put(2, 4, 32 * 4096, runs);
    let none = put(3, 5, 0, vec![]);
    let page = blob(1, 4, BlobKind::Placement, 3);
    let mut index = Index::default();
    for put in [&one, &two, &none, &page] {
        index.insert(0, put);
        assert_eq!(index.get(&put.key).as_ref(), Some(put));
    }
    assert_eq!(index.owner_bytes(&PeerId([4; 32])), 35 * 4096);
    assert_eq!(index.locate(&two.key, 15), Some((0, 0, 16)));
    assert_eq!(index.locate(&two.key, 16), Some((0, 1, 5)));
    assert_eq!(index.locate(&one.key, 0), Some((0, 3, 9)));
    assert_eq!(index.remove(&page.key), Some(page));
    assert_eq!(index.remove(&two.key), Some(two.clone()));
    assert_eq!(index.remove(&two.key), None);
    assert_eq!(index.owner_bytes(&PeerId([4; 32])), 4096);
    assert_eq!(index.remove(&one.key), Some(one));
    assert_eq!(index.accounts(), vec![(PeerId([5; 32]), Prefix(Some([5; 6])), 0)]);
}

#[test]
fn a_locator_lists_its_own_shards_only_and_those_of_every_owner() {
    let mut index = Index::default();
    for chunk in 0..30 {
        index.insert(0, &put(chunk, 1, 0, vec![]));
        index.insert(0, &put(chunk, 2, 0, vec![]));
    }
    let of = |owner: u8| {
        let all = index.shards_of(Locator([1; 32]));
        let all = all.filter(|(shard, _)| shard.owner == PeerId([owner; 32]));
        all.map(|(shard, _)| shard.key.chunk.0).collect::<Vec<_>>()
    };
    let expected: Vec<u32> = (0..30).filter(|chunk| chunk % 3 == 1).collect();
    assert_eq!((of(1), of(2)), (expected.clone(), expected));
    let key = ShardKey { locator: Locator([1; 32]), chunk: ChunkNumber(4), index: ShardIndex(0) };
    assert_eq!(index.shards_named(key).count(), 2);
}

#[test]
fn objects_without_a_root_are_listed_by_owner_and_age() {
    let mut index = Index::default();
    let stored = |put: Put, at| Put { stored: UnixTime(at), ..put };
    index.insert(0, &stored(put(0, 1, 0, vec![]), 30));
    index.insert(0, &stored(put(1, 1, 0, vec![]), 20));
    index.insert(0, &stored(put(2, 1, 0, vec![]), 40));
    index.insert(0, &stored(put(2, 2, 0, vec![]), 10));
    let list = |index: &Index| -> Vec<u8> {
        let owner = PeerId([1; 32]);
        let mut next = index.rootless_after(&owner, None);
        let all = std::iter::from_fn(|| {
            let now = next?;
            next = index.rootless_after(&owner, Some(now));
            Some(index.locator_of(now).0[0])
        });
        all.collect()
    };
    assert_eq!(list(&index), [1, 0, 2]);
    index.insert(0, &stored(put(5, 1, 0, vec![]), 5));
    assert_eq!(list(&index), [2, 1, 0], "the first of it counts");
    let root = blob(1, 1, BlobKind::ManifestRoot, 50);
    index.insert(0, &root);
    assert_eq!(list(&index), [2, 0]);
    // Somebody else's root roots nothing of this owner.
    index.insert(0, &blob(0, 2, BlobKind::ManifestRoot, 50));
    assert_eq!(list(&index), [2, 0]);
    index.remove(&root.key);
    assert_eq!(list(&index), [2, 1, 0]);
    let object = index.rootless_after(&PeerId([1; 32]), None).unwrap();
    assert_eq!(index.keys_of(object, 9).len(), 2);
    assert_eq!(index.keys_of(object, 1).len(), 1);
}

#[test]
fn what_is_over_is_found_by_its_end_of_all_and_of_an_owner() {
    let mut index = Index::default();
    for (chunk, owner, until) in [(0, 1, 50), (1, 2, 30), (2, 1, 40), (3, 1, 99)] {
        index.insert(0, &Put { until: UnixTime(until), ..put(chunk, owner, 0, vec![]) });
    }
    let mut last = None;
    while let Some(found) = index.after(last) {
        last = Some(found.cursor);
        if found.until < UnixTime(60) {
            assert!(index.note_over(&found) && !index.note_over(&found));
        }
    }
    let ends = |index: &Index, of: Option<PeerId>| {
        let mut ends = Vec::new();
        let mut last = None;
        while let Some(next) = index.over_after(of.as_ref(), last) {
            ends.push(next.0.0);
            last = Some(next);
        }
        ends
    };
    assert_eq!(ends(&index, None), [30, 40, 50]);
    assert_eq!(ends(&index, Some(PeerId([1; 32]))), [40, 50]);
    assert_eq!(ends(&index, Some(PeerId([3; 32]))), [0; 0]);
    index.remove(&put(2, 1, 0, vec![]).key);
    assert_eq!(ends(&index, None), [30, 50]);
    assert_eq!(ends(&index, Some(PeerId([1; 32]))), [50]);
}
