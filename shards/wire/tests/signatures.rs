//! Grants, proofs and receipts that were stolen, replayed, forged or damaged.

mod common;

use common::*;
use pangea_base::*;
use pangea_wire::*;

#[test]
fn a_bad_grant_is_named() {
    let (holder, origin) = (identity(1), identity(2));
    let good = grant();
    let channel = Channel {
        exporter: &EXPORTER,
        holder: holder.peer(),
        origin: origin.peer(),
        locator: locator(),
    };
    let verify =
        |challenge: &AuthChallenge, channel: Channel<'_>| said(challenge.verify(&channel, NOW));
    auth().verify(&channel, NOW).unwrap();
    auth().verify(&channel, UnixTime(good.expires.0 - 1)).unwrap();
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
    mixed.grant =
        Grant::issue(&holder, origin.peer(), locator(), 1 << 30, good.expires, [0x4f; 16]);
    all_are_named(&[
        ("version 2", bent(&|g| g.version = 2), "version that this node does not know"),
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
        ("at its last second", said(auth().verify(&channel, good.expires)), "has expired"),
        ("long over", said(auth().verify(&channel, UnixTime(u64::MAX))), "has expired"),
        ("with more bytes", bent(&|g| g.bytes_max += 1), "forged or damaged"),
        ("with a later end", bent(&|g| g.expires.0 += 1), "forged or damaged"),
        ("with another nonce", bent(&|g| g.nonce[0] ^= 1), "forged or damaged"),
        ("with a bent signature", bent(&|g| g.signature[5] ^= 1), "forged or damaged"),
        (
            "given to another and renamed",
            bent(&|g| {
                *g = Grant::issue(&holder, other, locator(), 1, g.expires, [0; 16]);
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
fn a_signature_of_one_kind_is_none_of_another() {
    // A receipt's and a grant's bytes are signed under contexts of their own: even the very same
    // bytes would not pass as the other. Here: the signatures exchanged.
    let (mut grant, mut receipt) = (grant(), receipt());
    std::mem::swap(&mut grant.signature, &mut receipt.signature);
    let wrong = grant.verify(grant.holder, grant.origin, grant.locator, NOW);
    assert_eq!(wrong, Err(GrantRefused::Signature));
    assert_eq!(receipt.verify(), Err(ReceiptRefused::Signature));
}

#[test]
fn a_bad_receipt_is_named() {
    let good = receipt();
    let expected = ReceiptExpected {
        holder: identity(1).peer(),
        key: key(3, 9),
        root: Hash([0xab; 32]),
        length: 1_048_576,
        lease_min: UnixTime(1_900_000_000),
    };
    good.verify_answer(&expected).unwrap();
    let against = |expected: ReceiptExpected| said(good.verify_answer(&expected));
    let bent = |bend: &dyn Fn(&mut Receipt)| {
        let mut receipt = receipt();
        bend(&mut receipt);
        said(receipt.verify())
    };
    let answer = |bend: &dyn Fn(&mut Receipt)| {
        let mut receipt = receipt();
        bend(&mut receipt);
        said(receipt.verify_answer(&expected))
    };
    all_are_named(&[
        ("version 2", bent(&|r| r.version = 2), "version that this node does not know"),
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
            against(ReceiptExpected { lease_min: UnixTime(1_900_000_001), ..expected }),
            "ends too early",
        ),
        ("a longer lease written in", answer(&|r| r.lease.0 += 1), "forged or damaged"),
        (
            "another holder written in",
            bent(&|r| r.holder = identity(9).peer()),
            "forged or damaged",
        ),
        ("a bent signature", bent(&|r| r.signature[63] ^= 0x80), "forged or damaged"),
        ("no signature", bent(&|r| r.signature = [0; 64]), "forged or damaged"),
    ]);
}
