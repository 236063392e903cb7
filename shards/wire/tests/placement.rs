//! Placements: merged by union, the newest lease wins, and forged receipts stay out.

mod common;

use common::*;
use pangea_base::*;
use pangea_wire::*;
use proptest::prelude::*;

fn receipt_of(holder: u8, chunk: u32, index: u8, lease: u64) -> Receipt {
    let root = Hash([index; 32]);
    Receipt::issue(&identity(holder), key(chunk, index), root, 6_592, UnixTime(lease))
}

fn placed(receipts: &[Receipt]) -> Placement {
    let mut placement = Placement::new(locator());
    for receipt in receipts {
        placement.add(receipt.clone(), None).unwrap();
    }
    placement
}

#[test]
fn the_newest_lease_of_a_holder_wins_in_any_order() {
    let (old, new) = (receipt_of(1, 0, 0, 100), receipt_of(1, 0, 0, 200));
    let mut placement = Placement::new(locator());
    assert_eq!(placement.add(old.clone(), None), Ok(Added::New));
    assert_eq!(placement.add(old.clone(), None), Ok(Added::Known));
    assert_eq!(placement.add(new.clone(), None), Ok(Added::Renewed));
    assert_eq!(placement.add(old.clone(), None), Ok(Added::Known));
    assert_eq!(placement.shard(ChunkNumber(0), ShardIndex(0)), std::slice::from_ref(&new));
    assert_eq!(placement.len(), 1);
    assert_eq!(placement, placed(&[new, old]));
}

#[test]
fn a_shard_keeps_the_eight_newest_holders() {
    let all: Vec<Receipt> = (1..=10).map(|n| receipt_of(n, 0, 0, 1000 + u64::from(n))).collect();
    let mut placement = placed(&all[2..]);
    assert_eq!(placement.len(), limits::HOLDERS_PER_SHARD_MAX);
    assert_eq!(placement.add(all[1].clone(), None), Ok(Added::Crowded));
    assert_eq!(placement.len(), 8);
    let kept: Vec<UnixTime> =
        placement.shard(ChunkNumber(0), ShardIndex(0)).iter().map(|r| r.lease).collect();
    assert_eq!(kept, (1003..=1010).rev().map(UnixTime).collect::<Vec<_>>());
    assert_eq!(placement, placed(&all));
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
    assert_eq!(refused(&|r| r.lease.0 = u64::MAX, None), forged);
    assert_eq!(refused(&|r| r.holder = identity(2).peer(), None), forged);
    assert_eq!(refused(&|r| r.chunk.0 = 1, None), forged);
    assert_eq!(refused(&|r| r.signature[0] ^= 1, None), forged);
    assert_eq!(refused(&|r| r.locator.0[0] ^= 1, None), Foreign);
    assert!(matches!(refused(&|r| r.version = 2, None), Wrong(_)));
    assert!(matches!(refused(&|r| r.index.0 = 255, None), Wrong(_)));
    assert!(matches!(refused(&|r| r.chunk.0 = limits::CHUNKS_MAX, None), Wrong(_)));
    assert!(matches!(refused(&|r| r.length = 0, None), Wrong(_)));
    // Genuine, and for a shard that the manifest does not have: its length is another.
    assert_eq!(refused(&|_| (), Some(&entry)), NotInManifest);
    let signed = |index: u8, root, length| {
        pangea_wire::Receipt::issue(&identity(1), key(0, index), root, length, NOW)
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
    let pages = placement.pages(&[at(1, "[fe80::1%2]:9"), at(2, "[::ffff:10.0.0.1]:9")]);
    let page = PlacementPage::parse(&pages[0], locator()).unwrap();
    assert_eq!(page.holders, [at(2, "10.0.0.1:9")]);
}

#[test]
fn what_has_expired_is_forgotten() {
    let mut placement = placed(&[receipt_of(1, 0, 0, 100), receipt_of(2, 0, 0, 101)]);
    placement.expire(UnixTime(100));
    assert_eq!(placement, placed(&[receipt_of(2, 0, 0, 101)]));
    placement.expire(UnixTime(101));
    assert!(placement.is_empty() && placement.shard(ChunkNumber(0), ShardIndex(0)).is_empty());
}

#[test]
fn a_bad_page_is_named() {
    let page = placed(&[receipt_of(1, 0, 0, 100), receipt_of(2, 0, 1, 100)]).pages(&[])[0].to_vec();
    let parse = |bytes: &[u8]| PlacementPage::parse(bytes, locator());
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
    assert_eq!(bent(0, 2), Version(2));
    assert_eq!(bent(1, 0), Foreign);
    assert_eq!(bent(33, 1), Number { number: 1, pages: 1 });
    assert_eq!(bent(34, 0), Number { number: 0, pages: 0 });
    let many = [&page[..34], &[0x81, 0x08], &page[35..]].concat();
    assert_eq!(parse(&many).unwrap_err(), Number { number: 0, pages: 1025 });
    // The second receipt moved before the first, and made the same as the first.
    assert_eq!(bent(37, 1), Unsorted);
    let receipt = (page.len() - 37) / 2;
    let twice = [&page[..37 + receipt], &page[37..37 + receipt]].concat();
    assert_eq!(parse(&twice).unwrap_err(), Unsorted);
    assert!(matches!(bent(37 + receipt + 1, 255), Wrong(_)));
    let billions = [&page[..35], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    assert!(matches!(parse(&billions).unwrap_err(), Undecodable(_)));
    let nowhere =
        PeerAddr { peer: receipt_of(1, 0, 0, 100).holder, addr: "0.0.0.0:1".parse().unwrap() };
    let pages = placed(&[receipt_of(1, 0, 0, 100)]).pages(&[nowhere]);
    assert!(parse(&pages[0]).unwrap().holders.is_empty(), "it is left out when it is written");
    let seen = PeerAddr { addr: "192.0.2.7:9".parse().unwrap(), ..nowhere };
    let mut page = placed(&[receipt_of(1, 0, 0, 100)]).pages(&[seen])[0].to_vec();
    assert_eq!(parse(&page).unwrap().holders, [seen]);
    let ip = 36 + 32 + 1;
    page[ip..ip + 4].fill(0);
    assert_eq!(parse(&page).unwrap_err(), Address, "it is refused when it is read");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_arrival_changes_nothing(
        seeds in prop::collection::vec((1u8..12, 0u32..2, 0u8..2, 0u64..4), 0..40),
        cut in 0usize..40,
    ) {
        let receipts: Vec<Receipt> =
            seeds.iter().map(|&(h, c, i, lease)| receipt_of(h, c, i, lease)).collect();
        let all = placed(&receipts);
        let backwards: Vec<Receipt> = receipts.iter().rev().cloned().collect();
        prop_assert_eq!(&placed(&backwards), &all);
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
        let mut read = Placement::new(locator());
        for (number, page) in (0..).zip(all.pages(&[])) {
            let page = PlacementPage::parse(&page, locator()).unwrap();
            prop_assert_eq!(page.number, number);
            for receipt in page.receipts {
                read.add(receipt, None).unwrap();
            }
        }
        prop_assert_eq!(&read, &all);
    }

    #[test]
    fn mutated_pages_are_read_or_refused(
        at in 0usize..320, byte: u8, cut in 0usize..400,
    ) {
        let receipts = [receipt_of(1, 0, 0, 100), receipt_of(2, 0, 1, 100)];
        let mut page = placed(&receipts).pages(&[])[0].to_vec();
        let length = page.len();
        page[at % length] = byte;
        page.truncate(cut);
        let _ = PlacementPage::parse(&page, locator());
    }
}
