//! Placements: merged by union, the newest lease wins, and forged receipts stay out.

mod common;

use common::*;
use pangea_base::*;
use pangea_wire::*;
use proptest::prelude::*;

/// Of this holder for this owner, ending then.
fn receipt_for(owner: u8, holder: u8, place: (u32, u8), root: u8, until: u64) -> Receipt {
    let (owner, key) = (identity(owner).peer(), key(place.0, place.1));
    let (stored, until) = (UnixTime(until.saturating_sub(1000)), UnixTime(until));
    Receipt::issue(&identity(holder), owner, key, Hash([root; 32]), 6_592, stored, until)
}

fn receipt_of(holder: u8, chunk: u32, index: u8, until: u64) -> Receipt {
    receipt_for(2, holder, (chunk, index), index, until)
}

fn placed(receipts: &[Receipt]) -> Placement {
    let mut placement = Placement::new(locator());
    for receipt in receipts {
        placement.add(receipt.clone(), None).unwrap();
    }
    placement
}

fn first(placement: &Placement) -> &[Receipt] {
    placement.shard(ChunkNumber(0), ShardIndex(0), Hash([0; 32]))
}

#[test]
fn the_last_end_that_a_holder_signed_wins_in_any_order() {
    let (old, new) = (receipt_of(1, 0, 0, 100), receipt_of(1, 0, 0, 200));
    let mut placement = Placement::new(locator());
    assert_eq!(placement.add(old.clone(), None), Ok(Added::New));
    assert_eq!(placement.add(old.clone(), None), Ok(Added::Known));
    assert_eq!(placement.add(new.clone(), None), Ok(Added::Renewed));
    assert_eq!(placement.add(old.clone(), None), Ok(Added::Known));
    assert_eq!(first(&placement), std::slice::from_ref(&new));
    assert_eq!(placement.len(), 1);
    assert_eq!(placement, placed(&[new, old]));
}

#[test]
fn a_shard_keeps_the_eight_holders_that_end_last() {
    let all: Vec<Receipt> = (1..=10).map(|n| receipt_of(n, 0, 0, 1000 + u64::from(n))).collect();
    let mut placement = placed(&all[2..]);
    assert_eq!(placement.len(), limits::HOLDERS_PER_SHARD_MAX);
    assert_eq!(placement.add(all[1].clone(), None), Ok(Added::Crowded));
    assert_eq!(placement.len(), 8);
    let kept: Vec<UnixTime> = first(&placement).iter().map(|r| r.until).collect();
    assert_eq!(kept, (1003..=1010).rev().map(UnixTime).collect::<Vec<_>>());
    assert_eq!(placement, placed(&all));
}

#[test]
fn a_receipt_for_another_root_takes_no_place_from_one_for_the_root_that_is_wanted() {
    let wanted = receipt_of(1, 0, 0, 100);
    // Of the same holder and of a crowd, for whatever owner, and to the end of time.
    let mut crowd: Vec<Receipt> =
        (1..=10).map(|holder| receipt_for(7, holder, (0, 0), 0xee, u64::MAX)).collect();
    crowd.push(receipt_for(2, 1, (0, 0), 0xdd, u64::MAX));
    for order in [[&crowd[..], std::slice::from_ref(&wanted)].concat(), {
        [std::slice::from_ref(&wanted), &crowd[..]].concat()
    }] {
        let placement = placed(&order);
        assert_eq!(first(&placement), std::slice::from_ref(&wanted));
        assert_eq!(placement.len(), 1 + limits::HOLDERS_PER_SHARD_MAX + 1);
        assert_eq!(placement, placed(&order.iter().rev().cloned().collect::<Vec<_>>()));
    }
}

#[test]
fn a_crowd_of_another_owner_pushes_nobody_out_where_the_owner_is_known() {
    let ours: Vec<Receipt> = (1..=3).map(|holder| receipt_of(holder, 0, 0, 100)).collect();
    // The very root that is wanted, signed by a crowd of holders that somebody made up.
    let crowd: Vec<Receipt> =
        (10..30).map(|holder| receipt_for(7, holder, (0, 0), 0, u64::MAX)).collect();
    let known = |receipts: &[Receipt]| {
        let mut placement = Placement::of_owner(locator(), owner());
        for receipt in receipts {
            placement.add(receipt.clone(), None).unwrap();
        }
        placement
    };
    let all = known(&[&ours[..], &crowd].concat());
    assert_eq!(all, known(&[&crowd[..], &ours].concat()));
    let holders: Vec<PeerId> = first(&all)[..3].iter().map(|receipt| receipt.holder).collect();
    assert_eq!(holders.len(), 3);
    assert!(ours.iter().all(|receipt| holders.contains(&receipt.holder)));
    assert_eq!(first(&all).len(), limits::HOLDERS_PER_SHARD_MAX);
    // Without that knowledge the last to end stay, whoever they are.
    assert!(first(&placed(&[&ours[..], &crowd].concat())).iter().all(|r| r.until.0 == u64::MAX));
}

#[test]
fn the_pages_of_an_owner_hold_its_receipts_alone() {
    let (ours, theirs) = (receipt_of(1, 0, 0, 100), receipt_for(7, 1, (0, 1), 1, 100));
    let placement = placed(&[ours.clone(), theirs.clone()]);
    for (whose, expected) in [(2, vec![ours]), (7, vec![theirs]), (9, vec![])] {
        let whose = identity(whose).peer();
        let pages = placement.pages(whose, &[]);
        assert_eq!(pages.len(), 1, "there is always a first page");
        let page = PlacementPage::parse(&pages[0], locator(), whose).unwrap();
        assert_eq!(page.receipts, expected);
        let wrong = PlacementPage::parse(&pages[0], locator(), PeerId([3; 32])).unwrap_err();
        assert_eq!(wrong, PlacementInvalid::OtherOwner);
    }
}

#[test]
fn only_the_page_that_was_asked_for_is_an_answer() {
    let [low, middle, high] = [1, 2, 3].map(|byte| PeerId([byte; 32]));
    let answers = |whose: PlacementOf| [low, middle, high].map(|owner| whose.is(owner));
    assert_eq!(answers(PlacementOf::Owner(middle)), [false, true, false]);
    assert_eq!(answers(PlacementOf::First), [true; 3]);
    assert_eq!(answers(PlacementOf::Behind(middle)), [false, false, true]);
    // So a walk over owners that goes on with each answer comes to an end.
    assert_eq!(answers(PlacementOf::Behind(high)), [false; 3]);
}

#[test]
fn a_forged_foreign_or_impossible_receipt_stays_out() {
    let mut placement = Placement::new(locator());
    let mut refused = |bend: &dyn Fn(&mut pangea_wire::Receipt), entry: Option<&ChunkEntry>| {
        let mut receipt = receipt_of(1, 0, 0, 100);
        bend(&mut receipt);
        placement.add(receipt, entry).unwrap_err()
    };
    let entry = chunk(10, 4, 60_000);
    assert_eq!(entry.shard_bytes, 6_464);
    use PlacementRefused::*;
    let forged = Receipt(ReceiptRefused::Signature);
    assert_eq!(refused(&|r| r.until.0 += 1, None), forged);
    assert_eq!(refused(&|r| r.holder = identity(2).peer(), None), forged);
    assert_eq!(refused(&|r| r.chunk.0 = 1, None), forged);
    assert_eq!(refused(&|r| r.signature[0] ^= 1, None), forged);
    assert_eq!(refused(&|r| r.locator.0[0] ^= 1, None), Foreign);
    assert_eq!(refused(&|r| r.owner = Some(identity(7).peer()), None), forged);
    assert!(matches!(refused(&|r| r.until.0 = u64::MAX, None), Wrong(_)));
    assert!(matches!(refused(&|r| r.stored = Some(UnixTime(101)), None), Wrong(_)));
    assert!(matches!(refused(&|r| r.version = 1, None), Wrong(_)));
    assert!(matches!(refused(&|r| r.version = 3, None), Wrong(_)));
    assert!(matches!(refused(&|r| r.owner = None, None), Wrong(_)));
    assert!(matches!(refused(&|r| r.index.0 = 255, None), Wrong(_)));
    assert!(matches!(refused(&|r| r.chunk.0 = limits::CHUNKS_MAX, None), Wrong(_)));
    assert!(matches!(refused(&|r| r.length = 0, None), Wrong(_)));
    // Genuine, and for a shard that the manifest does not have: its length is another.
    assert_eq!(refused(&|_| (), Some(&entry)), NotInManifest);
    let signed = |index: u8, root, length| {
        pangea_wire::Receipt::issue(&identity(1), owner(), key(0, index), root, length, NOW, UNTIL)
    };
    let fine = signed(3, Hash([3; 32]), 6_464);
    let others = [
        signed(3, Hash([4; 32]), 6_464),
        signed(14, Hash([14; 32]), 6_464),
        signed(3, Hash([3; 32]), 6_465),
    ];
    for other in others {
        assert_eq!(placement.add(other, Some(&entry)), Err(NotInManifest));
    }
    assert!(placement.is_empty());
    assert_eq!(placement.add(fine, Some(&entry)), Ok(Added::New));
    let mut foreign = Placement::new(Locator([1; 32]));
    assert_eq!(foreign.merge(placement), Err(Foreign));
}

#[test]
fn a_placement_tells_others_only_addresses_that_mean_something_to_them() {
    let placement = placed(&[receipt_of(1, 0, 0, 100), receipt_of(2, 0, 1, 100)]);
    let at = |holder, addr: &str| pangea_base::PeerAddr {
        peer: identity(holder).peer(),
        addr: addr.parse().unwrap(),
    };
    let pages = placement.pages(owner(), &[at(1, "[fe80::1%2]:9"), at(2, "[::ffff:10.0.0.1]:9")]);
    let page = PlacementPage::parse(&pages[0], locator(), owner()).unwrap();
    assert_eq!(page.holders, [at(2, "10.0.0.1:9")]);
}

#[test]
fn a_bad_page_is_named() {
    let page = placed(&[receipt_of(1, 0, 0, 100), receipt_of(2, 0, 1, 100)]).pages(owner(), &[])[0]
        .to_vec();
    let parse = |bytes: &[u8]| PlacementPage::parse(bytes, locator(), owner());
    assert_eq!(parse(&page).unwrap().receipts.len(), 2);
    let bent = |at: usize, byte: u8| {
        let mut page = page.clone();
        page[at] = byte;
        parse(&page).unwrap_err()
    };
    use PlacementInvalid::*;
    assert_eq!(parse(&vec![0; limits::PAGE_BYTES_MAX + 1]).unwrap_err(), TooLong(1_048_577));
    assert_eq!(parse(&[]).unwrap_err(), Undecodable(pangea_wire::Undecodable::EndsEarly));
    assert_eq!(
        parse(&page[..page.len() - 1]).unwrap_err(),
        Undecodable(pangea_wire::Undecodable::EndsEarly)
    );
    let trailing = [&page[..], &[0]].concat();
    assert_eq!(
        parse(&trailing).unwrap_err(),
        Undecodable(pangea_wire::Undecodable::TrailingBytes(1))
    );
    assert_eq!(bent(0, 0), Version(0));
    assert_eq!(bent(0, 3), Version(3));
    assert_eq!(bent(1, 0), Foreign);
    assert_eq!(bent(33, page[33] ^ 1), OtherOwner);
    assert_eq!(bent(65, 1), Number { number: 1, pages: 1 });
    assert_eq!(bent(66, 0), Number { number: 0, pages: 0 });
    let many = [&page[..66], &[0x81, 0x08], &page[67..]].concat();
    assert_eq!(parse(&many).unwrap_err(), Number { number: 0, pages: 1025 });
    // The second receipt moved before the first, and made the same as the first.
    assert_eq!(bent(69, 1), Unsorted);
    let receipt = (page.len() - 69) / 2;
    let twice = [&page[..69 + receipt], &page[69..69 + receipt]].concat();
    assert_eq!(parse(&twice).unwrap_err(), Unsorted);
    assert!(matches!(bent(69 + receipt + 1, 255), Wrong(_)));
    // Behind chunk, index, holder, root and a length of two bytes: the beginning of the lease.
    assert_eq!(&page[69 + 68..69 + 70], [0, 100], "from 0 to 100");
    assert!(matches!(bent(69 + 68, 101), Wrong(_)), "it begins after its end");
    let billions = [&page[..67], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    assert!(matches!(parse(&billions).unwrap_err(), Undecodable(_)));
    let nowhere =
        PeerAddr { peer: receipt_of(1, 0, 0, 100).holder, addr: "0.0.0.0:1".parse().unwrap() };
    let pages = placed(&[receipt_of(1, 0, 0, 100)]).pages(owner(), &[nowhere]);
    assert!(parse(&pages[0]).unwrap().holders.is_empty(), "it is left out when it is written");
    let seen = PeerAddr { addr: "192.0.2.7:9".parse().unwrap(), ..nowhere };
    let mut page = placed(&[receipt_of(1, 0, 0, 100)]).pages(owner(), &[seen])[0].to_vec();
    assert_eq!(parse(&page).unwrap().holders, [seen]);
    let ip = 68 + 32 + 1;
    page[ip..ip + 4].fill(0);
    assert_eq!(parse(&page).unwrap_err(), Address, "it is refused when it is read");
}

/// Everything in it, whatever was known of the manifest.
fn sorted(placement: &Placement) -> Vec<&Receipt> {
    let mut receipts: Vec<&Receipt> = placement.iter().collect();
    receipts.sort_by_key(|receipt| receipt.signature);
    receipts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_arrival_changes_nothing(
        seeds in prop::collection::vec(
            (2u8..4, 1u8..12, (0u32..2, 0u8..2), 0u8..3, 0u64..4, any::<bool>()), 0..40,
        ),
        cut in 0usize..40,
        owned: bool,
    ) {
        // The manifest has the roots that are the shards' indexes, and is known to some readers.
        let entry = chunk(10, 4, 61_500);
        assert_eq!(entry.shard_bytes, 6_592);
        let receipts: Vec<(Receipt, bool)> = seeds
            .iter()
            .map(|&(owner, holder, place, root, until, known)| {
                (receipt_for(owner, holder, place, root, until), known && root == place.1)
            })
            .collect();
        let placed = |receipts: &[(Receipt, bool)]| {
            let mut placement = match owned {
                true => Placement::of_owner(locator(), owner()),
                false => Placement::new(locator()),
            };
            for (receipt, known) in receipts {
                placement.add(receipt.clone(), known.then_some(&entry)).unwrap();
            }
            placement
        };
        let all = placed(&receipts);
        let backwards: Vec<_> = receipts.iter().rev().cloned().collect();
        prop_assert_eq!(&placed(&backwards), &all);
        // Without the receipts for other roots the wanted ones are the same.
        let mut wanted = receipts.clone();
        wanted.retain(|(receipt, _)| receipt.root.0[0] == receipt.index.0);
        let wanted = placed(&wanted);
        for receipt in wanted.iter() {
            let Receipt { chunk, index, root, .. } = *receipt;
            prop_assert_eq!(wanted.shard(chunk, index, root), all.shard(chunk, index, root));
        }
        let (left, right) = receipts.split_at(cut.min(receipts.len()));
        let (left, right) = (placed(left), placed(right));
        let mut one = left.clone();
        one.merge(right.clone()).unwrap();
        prop_assert_eq!(&one, &all);
        let mut other = right;
        other.merge(left).unwrap();
        prop_assert_eq!(&other, &all);
        other.merge(all.clone()).unwrap();
        prop_assert_eq!(&other, &all);
        prop_assert_eq!(all.iter().count(), all.len());
        // And through its pages.
        let mut read = placed(&[]);
        for whose in [identity(3).peer(), owner()] {
            for (number, page) in (0..).zip(all.pages(whose, &[])) {
                let page = PlacementPage::parse(&page, locator(), whose).unwrap();
                prop_assert_eq!(page.number, number);
                for receipt in page.receipts {
                    read.add(receipt, None).unwrap();
                }
            }
        }
        prop_assert_eq!(sorted(&read), sorted(&all));
    }

    #[test]
    fn mutated_pages_are_read_or_refused(
        at in 0usize..320, byte: u8, cut in 0usize..400,
    ) {
        let receipts = [receipt_of(1, 0, 0, 100), receipt_of(2, 0, 1, 100)];
        let mut page = placed(&receipts).pages(owner(), &[])[0].to_vec();
        let length = page.len();
        page[at % length] = byte;
        page.truncate(cut);
        let _ = PlacementPage::parse(&page, locator(), owner());
    }
}
