//! Grants, proofs and receipts that were stolen, replayed, forged or damaged.

mod common;

use common::*;
use pangea_base::*;
use pangea_wire::*;

#[test]
fn a_bad_grant_is_named() {
    let (holder, origin) = (identity(1), identity(2));
    let channel = Channel {
        exporter: &EXPORTER,
        holder: holder.peer(),
        origin: origin.peer(),
        locator: locator(),
    };
    let verify = |challenge: &AuthChallenge, channel: Channel<'_>| said(challenge.verify(&channel));
    auth().verify(&channel).unwrap();
    let bent = |bend: &dyn Fn(&mut Grant)| {
        let mut grant = grant();
        bend(&mut grant);
        verify(&AuthChallenge::new(&origin, grant, &EXPORTER), channel)
    };
    let other = identity(9).peer();
    let other_exporter = [0xe1; 32];
    let elsewhere = AuthChallenge::new(&origin, grant(), &other_exporter);
    let thief = AuthChallenge::new(&identity(9), grant(), &EXPORTER);
    let mut mixed = auth();
    mixed.grant = Grant::issue(&holder, origin.peer(), locator(), 1 << 30, NOW, 3600, [0x4f; 16]);
    all_are_named(&[
        ("version 1", bent(&|g| g.version = 1), "version that this node does not know"),
        (
            "another holder's",
            verify(&auth(), Channel { holder: other, ..channel }),
            "another holder",
        ),
        (
            "another origin's",
            verify(&auth(), Channel { origin: other, ..channel }),
            "another origin",
        ),
        (
            "another object's",
            verify(&auth(), Channel { locator: Locator([1; 32]), ..channel }),
            "another object",
        ),
        ("with more bytes", bent(&|g| g.bytes_max += 1), "forged or damaged"),
        ("issued later", bent(&|g| g.issued.0 += 1), "forged or damaged"),
        ("with a longer life", bent(&|g| g.lifetime_seconds += 1), "forged or damaged"),
        ("with another nonce", bent(&|g| g.nonce[0] ^= 1), "forged or damaged"),
        ("with a bent signature", bent(&|g| g.signature[5] ^= 1), "forged or damaged"),
        (
            "given to another and renamed",
            bent(&|g| {
                *g = Grant::issue(&holder, other, locator(), 1, g.issued, 3600, [0; 16]);
                g.origin = origin.peer();
            }),
            "forged or damaged",
        ),
        ("on another connection", verify(&elsewhere, channel), "another connection"),
        (
            "replayed with another exporter",
            verify(&auth(), Channel { exporter: &other_exporter, ..channel }),
            "another connection",
        ),
        ("by a thief who is not the origin", verify(&thief, channel), "another connection"),
        ("with the proof of another grant", verify(&mixed, channel), "another connection"),
    ]);
}

#[test]
fn a_grant_is_over_by_the_clock_of_its_holder_alone() {
    let at = |seconds: u64| grant().is_over(UnixTime(seconds));
    let (issued, slack) = (NOW.0, limits::CLOCK_SLACK.as_secs());
    assert!(!at(issued) && !at(issued + 3599));
    assert!(at(issued + 3600), "from its last second on");
    assert!(!at(issued - slack), "the clock was set right a little");
    assert!(at(issued - slack - 1), "it comes from further ahead: how old it is cannot be told");
    assert!(at(0) && at(u64::MAX));
    // The end of time is no way around.
    let never = |issued: u64, life: u64| {
        let grant =
            Grant::issue(&identity(1), owner(), locator(), 1, UnixTime(issued), life, [0; 16]);
        grant.is_over(NOW)
    };
    assert!(never(u64::MAX, u64::MAX) && never(0, 0));
    // Its signature says nothing of its age.
    let old = Grant::issue(&identity(1), owner(), locator(), 1, UnixTime(0), 0, [0; 16]);
    assert_eq!(old.verify_signed(identity(1).peer(), owner(), locator()), Ok(()));
}

#[test]
fn a_signature_of_one_kind_is_none_of_another() {
    // A receipt's and a grant's bytes are signed under contexts of their own: even the very same
    // bytes would not pass as the other. Here: the signatures exchanged.
    let (mut grant, mut receipt) = (grant(), receipt());
    std::mem::swap(&mut grant.signature, &mut receipt.signature);
    let wrong = grant.verify_signed(grant.holder, grant.origin, grant.locator);
    assert_eq!(wrong, Err(GrantRefused::Signature));
    assert_eq!(receipt.verify(), Err(ReceiptRefused::Signature));
}

fn expected() -> ReceiptExpected {
    ReceiptExpected {
        holder: identity(1).peer(),
        owner: owner(),
        key: key(3, 9),
        root: Hash([0xab; 32]),
        length: 1_048_576,
        lease_seconds: LEASE_SECONDS,
    }
}

#[test]
fn a_receipt_that_answers_another_put_is_named() {
    let (good, expected) = (receipt(), expected());
    good.verify_answer(&expected).unwrap();
    let against = |expected: ReceiptExpected| said(good.verify_answer(&expected));
    let answer = |bend: &dyn Fn(&mut Receipt)| {
        let mut receipt = receipt();
        bend(&mut receipt);
        said(receipt.verify_answer(&expected))
    };
    all_are_named(&[
        ("version 1 as an answer", answer(&|r| old(r)), "does not take here"),
        (
            "for another owner",
            against(ReceiptExpected { owner: PeerId([1; 32]), ..expected }),
            "another owner",
        ),
        (
            "of another holder",
            against(ReceiptExpected { holder: PeerId([1; 32]), ..expected }),
            "another holder",
        ),
        ("for another object", answer(&|r| r.locator.0[0] ^= 1), "another object"),
        (
            "for another chunk",
            against(ReceiptExpected { key: key(4, 9), ..expected }),
            "another shard",
        ),
        (
            "for another index",
            against(ReceiptExpected { key: key(3, 8), ..expected }),
            "another shard",
        ),
        (
            "another root",
            against(ReceiptExpected { root: Hash([0; 32]), ..expected }),
            "root or length",
        ),
        ("another length", against(ReceiptExpected { length: 1, ..expected }), "root or length"),
        (
            "a short lease",
            against(ReceiptExpected { lease_seconds: LEASE_SECONDS * 2, ..expected }),
            "is for 3 years and not for the 6 years",
        ),
        (
            "a lease that is short by a second",
            against(ReceiptExpected { lease_seconds: LEASE_SECONDS + 1, ..expected }),
            "is for 100000000 seconds and not for the 100000001 seconds",
        ),
        ("a later end written in", answer(&|r| r.until.0 += 1), "forged or damaged"),
        (
            "an earlier beginning written in",
            answer(&|r| r.stored = Some(UnixTime(NOW.0 - 1))),
            "forged or damaged",
        ),
    ]);
}

#[test]
fn a_bad_receipt_is_named() {
    let bent = |bend: &dyn Fn(&mut Receipt)| {
        let mut receipt = receipt();
        bend(&mut receipt);
        said(receipt.verify())
    };
    all_are_named(&[
        ("version 3", bent(&|r| r.version = 3), "does not take here"),
        ("version 1 in its place", bent(&|r| r.version = 1), "does not take here"),
        ("without an owner", bent(&|r| r.owner = None), "does not take here"),
        ("without a beginning", bent(&|r| r.stored = None), "does not take here"),
        ("another owner written in", bent(&|r| r.owner = Some(r.holder)), "forged or damaged"),
        (
            "another holder written in",
            bent(&|r| r.holder = identity(9).peer()),
            "forged or damaged",
        ),
        ("a bent signature", bent(&|r| r.signature[63] ^= 0x80), "forged or damaged"),
        ("no signature", bent(&|r| r.signature = [0; 64]), "forged or damaged"),
    ]);
}

/// As version 1 would have it: nothing that it does not say.
fn old(receipt: &mut Receipt) {
    (receipt.version, receipt.owner, receipt.stored) = (1, None, None);
}

#[test]
fn a_receipt_is_judged_by_the_length_of_its_lease_and_by_no_clock() {
    // Holders whose clocks show 1970, today and the end of time keep it equally long.
    for stored in [0, NOW.0, u64::MAX - LEASE_SECONDS] {
        let until = UnixTime(stored + LEASE_SECONDS);
        let (root, stored) = (Hash([0xab; 32]), UnixTime(stored));
        let receipt =
            Receipt::issue(&identity(1), owner(), key(3, 9), root, 1_048_576, stored, until);
        assert_eq!(receipt.lease_seconds(), Some(LEASE_SECONDS));
        assert!(receipt.gives(0) && receipt.gives(LEASE_SECONDS));
        assert!(!receipt.gives(LEASE_SECONDS + 1) && !receipt.gives(u64::MAX));
        assert_eq!(receipt.verify_answer(&expected()), Ok(()));
    }
}

#[test]
fn a_receipt_of_one_version_is_none_of_the_other() {
    let mut relabelled = receipt();
    old(&mut relabelled);
    assert_eq!(relabelled.verify(), Err(ReceiptRefused::Signature));
    // What version 1 does not sign must not be there to be believed.
    relabelled.owner = Some(owner());
    assert_eq!(relabelled.verify(), Err(ReceiptRefused::Version));
    (relabelled.owner, relabelled.stored) = (None, Some(NOW));
    assert_eq!(relabelled.verify(), Err(ReceiptRefused::Version));
}
