//! Links: they read back, every damage is refused, and nothing but `reveal` shows the key.

mod common;

use common::*;
use data_encoding::{BASE32_NOPAD, BASE64, HEXLOWER};
use pangea_base::*;
use pangea_wire::*;
use proptest::prelude::*;

fn error(text: &str) -> LinkInvalid {
    text.parse::<Link>().map(|_| ()).expect_err("not a link")
}

#[test]
fn a_link_reads_back_in_both_kinds() {
    let link = link();
    let text = link.reveal();
    assert!(text.starts_with("pangea1r"));
    assert!(text.bytes().all(|c| matches!(c, b'a'..=b'z' | b'1'..=b'7')));
    let back: Link = text.parse().unwrap();
    assert_eq!(*back.reveal(), *text);
    assert_eq!(back.locator(), locator());
    let padded: Link = format!("  {}\n", *text).parse().unwrap();
    assert_eq!(*padded.reveal(), *text);

    let verify = link.to_verify();
    assert!(verify.reveal().starts_with("pangea1v"));
    let back: Link = verify.reveal().parse().unwrap();
    assert!(back.read_key().is_none());
    assert_eq!(back.locator(), locator());
    assert_eq!((back.manifest, back.hints()), (link.manifest, link.hints()));
    assert_eq!(*back.to_verify().reveal(), *verify.reveal());
}

#[test]
fn a_link_has_at_most_eight_hints_that_can_be_dialled() {
    let with =
        |hints: Vec<PeerAddr>| Link::new(ManifestId([1; 32]), LinkKey::Read(read_key()), hints);
    let eight: Vec<PeerAddr> = (1..=8)
        .map(|port| PeerAddr { peer: PeerId([port as u8; 32]), addr: ([255u16; 8], port).into() })
        .map(|hint| PeerAddr {
            addr: ([0x2001, 0, 0, 0, 0, 0, 0, 1], hint.addr.port()).into(),
            ..hint
        })
        .collect();
    let longest = with(eight.clone()).unwrap();
    assert!(longest.reveal().len() <= limits::LINK_TEXT_BYTES_MAX);
    assert_eq!(longest.reveal().parse::<Link>().unwrap().hints(), eight);
    let nine = [eight, vec![peer_addr(9)]].concat();
    assert_eq!(with(nine).unwrap_err(), LinkInvalid::TooManyHints);
    assert_eq!(with(vec![peer_addr(0)]).unwrap_err(), LinkInvalid::Hint);
}

#[test]
fn a_link_tells_others_only_addresses_that_mean_something_to_them() {
    let at = |addr: &str| PeerAddr { peer: PeerId([7; 32]), addr: addr.parse().unwrap() };
    let hints = ["[fe80::1%2]:9", "[::ffff:10.0.0.1]:9", "[fe80::1]:9", "[fd77::1%4]:9"].map(at);
    let link = Link::new(ManifestId([1; 32]), LinkKey::Read(read_key()), hints.to_vec()).unwrap();
    assert_eq!(link.hints(), [at("10.0.0.1:9"), at("[fd77::1]:9")]);
    assert_eq!(link.reveal().parse::<Link>().unwrap().hints(), link.hints());
}

#[test]
fn every_truncation_of_a_link_is_refused() {
    for link in [link(), link().to_verify()] {
        let text = link.reveal();
        for end in 0..text.len() {
            let cause = error(&text[..end]);
            let expected = if end < 6 { LinkInvalid::NotALink } else { LinkInvalid::Truncated };
            assert_eq!(cause, expected, "cut at {end}");
        }
        // Cut at the other end, or in the middle, or said twice.
        for start in 1..text.len() {
            error(&text[start..]);
        }
        for at in 8..text.len() {
            error(&format!("{}{}", &text[..at], &text[at + 1..]));
        }
        let twice = format!("{}{}", *text, &text[8..]);
        assert!(matches!(error(&twice), LinkInvalid::Checksum | LinkInvalid::TooLong));
    }
}

#[test]
fn every_single_bit_flip_of_a_link_is_refused() {
    for link in [link(), link().to_verify()] {
        let text = link.reveal();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                if let Ok(flipped) = String::from_utf8(bytes) {
                    error(&flipped);
                }
            }
        }
    }
}

#[test]
fn every_wrong_character_and_every_swap_is_refused() {
    let text = link().reveal();
    let alphabet = "abcdefghijklmnopqrstuvwxyz234567";
    for at in 8..text.len() {
        for other in alphabet.chars().filter(|c| *c != text.as_bytes()[at] as char) {
            error(&format!("{}{other}{}", &text[..at], &text[at + 1..]));
        }
        if at + 1 < text.len() && text.as_bytes()[at] != text.as_bytes()[at + 1] {
            let mut bytes = text.as_bytes().to_vec();
            bytes.swap(at, at + 1);
            error(&String::from_utf8(bytes).unwrap());
        }
    }
}

#[test]
fn each_kind_of_wrong_link_is_told_apart() {
    let text = link().reveal();
    let with = |at: usize, c: char| format!("{}{c}{}", &text[..at], &text[at + 1..]);
    let cases = [
        ("", LinkInvalid::NotALink),
        ("https://example.org", LinkInvalid::NotALink),
        ("PANGEA1R", LinkInvalid::NotALink),
        ("pangea", LinkInvalid::Truncated),
        ("pangea1", LinkInvalid::Truncated),
        ("pangea1r", LinkInvalid::Truncated),
        ("pangea2rabc", LinkInvalid::OtherVersion('2')),
        ("pangea1w", LinkInvalid::Kind),
        (&with(7, 'v'), LinkInvalid::Checksum),
        (&with(20, '1'), LinkInvalid::Character(21)),
        (&with(20, 'A'), LinkInvalid::Character(21)),
        (&with(20, ' '), LinkInvalid::Character(21)),
        (&format!("{}{}", *text, "a".repeat(1024)), LinkInvalid::TooLong),
        (&text[..text.len() - 8], LinkInvalid::Truncated),
        (&text[..60], LinkInvalid::Truncated),
        (&format!("{}a", *text), LinkInvalid::TooLong),
        (&format!("{}aa", *text), LinkInvalid::TooLong),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "{expected}");
    }
    let cause = error(&with(30, if text.as_bytes()[30] == b'a' { 'b' } else { 'a' }));
    assert_eq!(cause, LinkInvalid::Checksum);
}

/// Every way in which these secret bytes might be written.
fn forms(secret: &[u8; 32]) -> Vec<String> {
    let decimal: Vec<String> = secret[..3].iter().map(u8::to_string).collect();
    vec![
        HEXLOWER.encode(&secret[..4]),
        HEXLOWER.encode(&secret[..4]).to_uppercase(),
        BASE32_NOPAD.encode(&secret[..5]),
        BASE32_NOPAD.encode(&secret[..5]).to_lowercase(),
        BASE64.encode(&secret[..6]),
        decimal.join(", "),
        decimal.join(","),
    ]
}

#[test]
fn no_debug_display_or_error_shows_a_key() {
    let seed: [u8; 32] = Entropy::new([77; 32]).array();
    let read = || ReadKey(Secret::new(seed));
    let verify = read().verify_key();
    let id = ManifestId([0x1d; 32]);
    let link = Link::new(id, LinkKey::Read(read()), vec![peer_addr(1)]).unwrap();
    let weak = link.to_verify();
    let mut secrets = forms(&seed);
    secrets.extend(forms(verify.0.expose()));
    secrets.extend(forms(verify.manifest_key().expose()));
    secrets.extend(forms(read().content_key().0.expose()));
    // The text of a link carries the key at an odd place of the base32: any ten characters of it.
    for text in [link.reveal(), weak.reveal()] {
        let key_part = &text[8 + 52..8 + 102];
        secrets.extend((0..40).map(|at| key_part[at..at + 10].to_owned()));
    }
    assert!(secrets.iter().any(|form| link.reveal().contains(form)), "the forms are right");

    let mut shown = vec![
        format!("{link} {link:?} {link:#?} {weak} {weak:?} {weak:#?}"),
        format!("{:?} {:#?} {:?}", link.key, link.key, weak.key),
        format!("{:?} {:?} {:?}", read(), verify, read().content_key()),
        link.public_id(),
    ];
    let mut entropy = Entropy::new([1; 32]);
    let label = Some(Label::new("name").unwrap());
    let object = Object { label, owner: Some(owner()), chunks: vec![chunk(2, 1, 1000)] };
    let writer = ManifestWriter::new(&read(), Some(owner()), &mut entropy);
    let sealed = seal_manifest(&object, &read(), &mut entropy).unwrap();
    let reader = ManifestReader::root(&sealed.root, sealed.id, &verify).unwrap();
    shown.push(format!("{writer:?} {reader:?} {sealed:?}"));
    shown.push(format!("{:?}", ManifestWalk::new(reader)));
    // Errors hold nothing of the text, however it is damaged.
    let text = link.reveal();
    for at in 0..text.len() {
        for other in ["!", "A", "", "a", "é"] {
            let damaged = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            if let Err(cause) = damaged.parse::<Link>() {
                shown.push(format!("{cause} {cause:?}"));
            }
        }
    }
    for text in shown {
        for secret in &secrets {
            assert!(!text.contains(secret), "'{secret}' is shown in '{text}'");
        }
    }
    assert_eq!(link.to_string(), format!("read link {}", link.public_id()));
}

proptest! {
    #[test]
    fn any_link_reads_back(
        id: [u8; 32], secret: [u8; 32], reads: bool,
        hints in prop::collection::vec(
            (any::<std::net::IpAddr>(), 1u16.., any::<[u8; 32]>()), 0..=8,
        ),
    ) {
        let hints: Vec<PeerAddr> = hints
            .into_iter()
            .map(|(ip, port, peer)| PeerAddr { peer: PeerId(peer), addr: (ip, port).into() })
            .filter(|hint| is_dialable(hint.addr))
            .collect();
        let key = || Secret::new(secret);
        let key = match reads {
            true => LinkKey::Read(ReadKey(key())),
            false => LinkKey::Verify(VerifyKey(key())),
        };
        let link = Link::new(ManifestId(id), key, hints).unwrap();
        let back: Link = link.reveal().parse().unwrap();
        prop_assert!(*back.reveal() == *link.reveal());
        prop_assert_eq!(back.hints(), link.hints());
        prop_assert_eq!(back.read_key().is_some(), reads);
    }

    #[test]
    fn any_text_is_a_link_or_refused(text in any::<String>(), body in "[a-z2-7]{0,900}") {
        let _ = text.parse::<Link>();
        for looks_like_one in [format!("pangea1r{body}"), format!("pangea1v{body}{text}")] {
            prop_assert!(looks_like_one.parse::<Link>().is_err());
        }
    }
}
