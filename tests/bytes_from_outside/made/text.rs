//! Links, addresses, names, sizes, files of settings, command lines.

use pangea_base::PeerId;

use super::super::targets::forge;
use super::super::targets::samples::{link as link_sample, peer_addr};
use super::{Made, add, add_recipe};

pub fn make(all: &mut Vec<Made>) {
    links(all);
    forged_links(all);
    addresses(all);
    names(all);
    units(all);
    configs(all);
    config_values(all);
    arguments(all);
    keys(all);
    traces(all);
}

fn links(all: &mut Vec<Made>) {
    let good = link_sample(vec![peer_addr(9090)]).reveal().to_string();
    let replaced = |at: usize, with: &str| format!("{}{with}{}", &good[..at], &good[at + 1..]);
    let half = good[..good.len() / 2].to_owned();
    let short = good[..good.len() - 1].to_owned();
    let flipped = if good.as_bytes()[40] == b'a' { "b" } else { "a" };
    for (name, text) in [
        ("nothing", String::new()),
        ("only-spaces", "   \n".into()),
        ("something-else", "film.mkv".into()),
        ("a-url", "https://example.org/pangea1r".into()),
        ("in-capitals", good.to_uppercase()),
        ("only-the-prefix", "pangea".into()),
        ("prefix-and-version", "pangea1".into()),
        ("of-version-2", good.replacen("pangea1", "pangea2", 1)),
        ("of-version-0", good.replacen("pangea1", "pangea0", 1)),
        ("of-no-kind", good.replacen("pangea1r", "pangea1x", 1)),
        ("of-the-other-kind", good.replacen("pangea1r", "pangea1v", 1)),
        ("without-a-body", "pangea1r".into()),
        ("with-a-1-that-base32-lacks", replaced(40, "1")),
        ("with-a-space-inside", replaced(40, " ")),
        ("with-a-line-break-inside", replaced(40, "\n")),
        ("with-a-letter-of-three-bytes", replaced(40, "ア")),
        ("cut-in-half", half),
        ("cut-by-one", short),
        ("one-character-changed", replaced(40, flipped)),
        ("one-character-more", format!("{good}a")),
        ("twice", format!("{good}{good}")),
        ("with-a-full-stop", format!("{good}.")),
    ] {
        add(all, "link", name, text);
    }
    add_recipe(all, "link", "longer-than-any-link", "text pangea1r\nrepeat 1017 61");
}

fn forged_links(all: &mut Vec<Made>) {
    let hint = |family: u8, ip: &[u8], port: u8| [&[family][..], ip, &[port, 0], &[9; 32]].concat();
    let fine = hint(4, &[10, 0, 0, 1], 1);
    let payload = |count: u8, hints: &[u8]| [&[7; 64][..], &[count], hints].concat();
    let mapped = [&[0; 10][..], &[255; 6]].concat();
    for (name, count, hints) in [
        ("with-nine-addresses", 9, fine.repeat(9)),
        ("with-255-addresses-and-one-there", 255, fine.clone()),
        ("with-an-address-of-family-5", 1, hint(5, &[10, 0, 0, 1], 1)),
        ("with-port-0", 1, hint(4, &[10, 0, 0, 1], 0)),
        ("with-a-multicast-address", 1, hint(4, &[224, 0, 0, 1], 1)),
        ("with-an-unspecified-address", 1, hint(6, &[0; 16], 1)),
        ("with-a-broadcast-address-as-ipv6", 1, hint(6, &mapped, 1)),
        ("with-fewer-addresses-than-it-says", 2, fine.clone()),
    ] {
        add(all, "link", name, forge::link('r', &payload(count, &hints)));
    }
    let more = [payload(0, &[]), vec![0; 40]].concat();
    add(all, "link", "with-bytes-that-are-not-said", forge::link('r', &more));
    let whole = forge::link('v', &payload(0, &[]));
    add(all, "link", "with-a-tail-of-eight-digits", format!("{whole}aaaaaaaa"));
    add(all, "link", "with-half-a-key", forge::link('r', &[7; 40]));
}

fn addresses(all: &mut Vec<Made>) {
    let peer = PeerId([3; 32]).to_string();
    let multi = |middle: &str| format!("/ip4/10.0.0.1/{middle}/p2p/{peer}");
    for (name, text) in [
        ("nothing", String::new()),
        ("a-host-name", "example.org".into()),
        ("only-a-peer", peer.clone()),
        ("only-a-socket", "10.0.0.1:9090".into()),
        ("an-empty-peer", "@10.0.0.1:9090".into()),
        ("a-peer-with-a-0", format!("0{peer}@10.0.0.1:9090")),
        ("a-peer-cut-off", format!("{}@10.0.0.1:9090", &peer[..20])),
        ("an-rsa-peer", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N@10.0.0.1:9".into()),
        ("a-name-for-a-socket", format!("{peer}@localhost:9090")),
        ("no-port", format!("{peer}@10.0.0.1")),
        ("a-port-too-large", format!("{peer}@10.0.0.1:65536")),
        ("two-ats", format!("{peer}@@10.0.0.1:9090")),
        ("an-ip-with-five-parts", format!("{peer}@10.0.0.1.1:9090")),
        ("ipv6-without-brackets", format!("{peer}@::1:9090")),
        ("port-0", format!("{peer}@10.0.0.1:0")),
        ("an-unspecified-ip", format!("{peer}@0.0.0.0:9090")),
        ("an-address-of-one-link-and-not-which", format!("{peer}@[fe80::1]:9090")),
        ("multiaddr-of-the-wrong-family", format!("/ip4/::1/udp/1/quic-v1/p2p/{peer}")),
        ("multiaddr-over-tcp", multi("tcp/9090")),
        ("multiaddr-of-old-quic", multi("udp/9090/quic")),
        ("multiaddr-with-a-tail", format!("{}/p2p-circuit", multi("udp/9090/quic-v1"))),
        ("multiaddr-with-port-0", multi("udp/0/quic-v1")),
        ("multiaddr-of-a-dns-name", format!("/dns4/example.org/udp/1/quic-v1/p2p/{peer}")),
    ] {
        add(all, "address", name, text);
    }
    for (name, text) in [
        ("nothing", String::new()),
        ("with-letters-that-base58-lacks", "0OIl".into()),
        ("only-the-beginning", "12D3KooW".into()),
        ("one-character-short", peer[..peer.len() - 1].to_owned()),
        ("one-character-more", format!("{peer}1")),
        ("of-an-rsa-key", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".into()),
        ("with-a-space", format!("{peer} ")),
    ] {
        add(all, "peer-id", name, text);
    }
    add_recipe(all, "peer-id", "of-500-ones", "repeat 500 31");
    for (name, text) in [("31-digits", "1".repeat(31)), ("a-sign", format!("+{}", "1".repeat(31)))]
    {
        add(all, "trace-id", name, text);
    }
    add(all, "trace-id", "with-a-g", format!("{}g", "1".repeat(31)));
}

fn names(all: &mut Vec<Made>) {
    for (name, text) in [
        ("empty", ""),
        ("one-dot", "."),
        ("two-dots", ".."),
        ("three-dots", "..."),
        ("up-and-away", "../../etc/passwd"),
        ("from-the-root", "/etc/passwd"),
        ("a-backslash", "a\\b"),
        ("a-drive", "C:evil"),
        ("an-alternate-stream", "film.mkv:hidden"),
        ("a-zero-byte", "film\0.mkv"),
        ("a-line-break", "film\n.mkv"),
        ("a-carriage-return", "film\r.mkv"),
        ("an-escape", "film\u{1b}[2J.mkv"),
        ("a-c1-control", "film\u{9b}2J.mkv"),
        ("a-delete", "film\u{7f}.mkv"),
        ("right-to-left-override", "film\u{202e}vkm.exe"),
        ("right-to-left-isolate", "film\u{2067}.mkv"),
        ("arabic-letter-mark", "film\u{61c}.mkv"),
        ("zero-width-space", "film\u{200b}.mkv"),
        ("byte-order-mark", "\u{feff}film.mkv"),
        ("soft-hyphen", "fi\u{ad}lm.mkv"),
        ("line-separator", "film\u{2028}.mkv"),
        ("a-tag-character", "film\u{e0041}.mkv"),
        ("an-annotation", "film\u{fff9}.mkv"),
        ("a-word-joiner", "film\u{2060}.mkv"),
        ("a-space-before", " film.mkv"),
        ("a-space-behind", "film.mkv "),
        ("a-dot-before", ".bashrc"),
        ("a-dot-behind", "film.mkv."),
        ("an-ideographic-space-behind", "film\u{3000}"),
        ("device-con", "CON"),
        ("device-nul-in-small", "nul"),
        ("device-with-an-extension", "aux.txt"),
        ("device-com1", "COM1.mkv"),
        ("device-lpt-superscript", "lpt\u{b2}"),
        ("device-conin", "CONIN$"),
        ("device-with-a-space", "prn .txt"),
        ("decomposed-letters", "A\u{30a}ngstro\u{308}m"),
        ("angstrom-sign", "\u{212b}"),
        ("hangul-in-parts", "\u{1112}\u{1161}\u{11ab}"),
    ] {
        add(all, "label", name, text);
    }
    add(all, "label", "latin-1", b"\xc4rger.mkv");
    add(all, "label", "a-surrogate", b"film\xed\xa0\x80.mkv");
    add(all, "label", "an-overlong-slash", b"film\xc0\xaf.mkv");
    add(all, "label", "cut-inside-a-letter", b"film\xe3\x82");
    add_recipe(all, "label", "of-256-bytes", "repeat 256 61");
}

fn units(all: &mut Vec<Made>) {
    for (name, text) in [
        ("nothing", ""),
        ("only-a-unit", "GiB"),
        ("a-unit-that-could-be-two", "10G"),
        ("negative", "-1"),
        ("with-an-exponent", "1e3"),
        ("a-point-without-digits", "1."),
        ("digits-only-behind-the-point", ".5GB"),
        ("two-points", "1.2.3"),
        ("in-words", "ten"),
        ("with-more-behind-it", "10 GiB x"),
        ("with-a-comma", "1,5GiB"),
        ("of-ten-decimals", "1.0000000001KB"),
        ("in-arabic-digits", "\u{661}\u{660}GiB"),
        ("hexadecimal", "0x10"),
        ("beyond-64-bits", "16384PiB"),
        ("far-beyond-64-bits", "99999999999999999999999999999999999999B"),
    ] {
        add(all, "size", name, text);
    }
    add_recipe(all, "size", "of-41-digits", "repeat 41 39");
    for (name, text) in [
        ("nothing", ""),
        ("without-a-unit", "30"),
        ("only-a-unit", "d"),
        ("negative", "-1d"),
        ("in-months", "3 months"),
        ("in-two-units", "1h30m"),
        ("in-years", "1y"),
        ("of-ten-decimals", "1.0000000001s"),
        ("beyond-64-bits", "99999999999w"),
    ] {
        add(all, "span", name, text);
    }
}

fn configs(all: &mut Vec<Made>) {
    let peer = PeerId([3; 32]);
    for (name, text) in [
        ("not-toml", "[node\n"),
        ("an-unknown-key", "peer = []\n"),
        ("an-unknown-table", "[nodes]\n"),
        ("an-unknown-key-in-a-table", "[node]\nport = 1\n"),
        ("a-key-with-underscores", "[node]\np2p_addr = '1.2.3.4:5'\n"),
        ("a-key-twice", "[put]\nk = 1\nk = 2\n"),
        ("a-table-twice", "[put]\n[put]\n"),
        ("a-number-for-a-size", "[node]\ncapacity = 5\n"),
        ("a-size-in-words", "[node]\ncapacity = 'lots'\n"),
        ("a-size-beyond-64-bits", "[node]\ncapacity = '16384PiB'\n"),
        ("an-unknown-driver", "[cores]\ndriver = 'dpdk'\n"),
        ("a-driver-in-capitals", "[cores]\ndriver = 'MIO'\n"),
        ("a-text-for-a-switch", "[cores]\nspin = 'yes'\n"),
        ("a-negative-count", "[cores]\ncount = -1\n"),
        ("a-count-with-a-fraction", "[cores]\ncount = 1.5\n"),
        ("a-peer-that-is-none", "peers = ['nonsense']\n"),
        ("a-peer-that-cannot-be-dialled", &format!("peers = ['{peer}@0.0.0.0:9']\n")),
        ("peers-that-are-no-list", &format!("peers = '{peer}@1.2.3.4:9'\n")),
        ("an-allowed-peer-that-is-none", "[node]\nallow = ['me']\n"),
        ("an-address-with-a-name", "[node]\np2p-addr = 'localhost:9090'\n"),
        ("k-beyond-a-byte", "[put]\nk = 300\n"),
        ("a-lease-without-an-end", "[put]\nlease = 'for ever'\n"),
        ("an-unknown-cipher", "[put]\nsuite = 'rot13'\n"),
        ("a-null", "[put]\nlevel = null\n"),
        ("a-zero-byte", "peers = []\0\n"),
    ] {
        add(all, "config", name, text);
    }
    add(all, "config", "not-utf-8", b"alias = '\xff'\n");
    add_recipe(all, "config", "nested-100000-deep", "text peers = \nrepeat 100000 5b");
    add_recipe(all, "config", "longer-than-256-kib", "repeat 262145 23");
}

/// Files that say what they may, with values that nobody may choose.
fn config_values(all: &mut Vec<Made>) {
    for (name, text) in [
        ("no-cores", "[cores]\ncount = 0\n"),
        ("too-many-cores", "[cores]\ncount = 100000\n"),
        ("a-capacity-below-the-least", "[node]\ncapacity = '1MiB'\n"),
        ("an-alias-with-an-escape", "[node]\nalias = \"a\\u001b[2J\"\n"),
        ("an-alias-of-65-bytes", &format!("[node]\nalias = '{}'\n", "a".repeat(65))),
        ("k-of-0", "[put]\nk = 0\nm = 1\n"),
        ("k-and-m-of-256", "[put]\nk = 252\nm = 4\n"),
        ("k-without-m", "[put]\nk = 3\n"),
        ("m-without-k", "[put]\nm = 3\n"),
        ("a-level-of-10", "[put]\nlevel = 10\n"),
        ("a-level-of-minus-8", "[put]\nlevel = -8\n"),
        ("a-lease-of-a-minute", "[put]\nlease = '60s'\n"),
        ("a-lease-of-a-century", "[put]\nlease = '36500d'\n"),
    ] {
        add(all, "config", name, text);
    }
}

fn arguments(all: &mut Vec<Made>) {
    let peer = peer_addr(9);
    for (name, text) in [
        ("an-unknown-command", "upload\nfilm.mkv"),
        ("an-unknown-flag", "status\n--frobnicate"),
        ("put-without-a-file", "put"),
        ("get-without-a-link", "get"),
        ("a-flag-without-its-value", "node\n--capacity"),
        ("a-size-that-is-none", "node\n--capacity\n10G"),
        ("a-driver-that-is-none", "node\n--driver\ndpdk"),
        ("an-address-with-a-name", "node\n--p2p-addr\nlocalhost:9090"),
        ("a-peer-that-is-none", "put\nfilm.mkv\n--peer\nnonsense"),
        ("an-allowed-peer-that-is-none", "node\n--allow\nme,you"),
        ("k-beyond-a-byte", &format!("put\nf\n--peer\n{peer}\n-k\n300\n-m\n1")),
        ("a-negative-k", &format!("put\nf\n--peer\n{peer}\n-k\n-3\n-m\n1")),
        ("a-lease-without-a-unit", "put\nfilm.mkv\n--lease\n30"),
        ("a-level-beyond-a-byte", "put\nfilm.mkv\n--level\n200"),
        ("a-flag-twice", "node\n--capacity\n1GiB\n--capacity\n2GiB"),
        ("cores-in-words", "node\n--cores\nmany"),
        ("two-files-for-get", "get\n@a\n@b"),
        ("a-value-for-a-switch", "status\n--json=yes"),
        ("help-as-a-command", "help"),
    ] {
        add(all, "arguments", name, text);
    }
}

fn keys(all: &mut Vec<Made>) {
    let hex = "5a".repeat(32);
    add(all, "key-file", "empty", "");
    add(all, "key-file", "31-bytes", [7; 31]);
    add(all, "key-file", "33-bytes", [7; 33]);
    add(all, "key-file", "63-digits", &hex[1..]);
    add(all, "key-file", "65-digits", format!("{hex}5"));
    add(all, "key-file", "with-two-line-breaks", format!("{hex}\n\n"));
    add(all, "key-file", "with-a-g", format!("{}g", &hex[1..]));
    add(all, "key-file", "of-another-kind", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    add(all, "key-file", "zeros", [0; 32]);
    add(all, "key-file", "zeros-in-digits", "0".repeat(64));
}

/// What is no trace file.
fn traces(all: &mut Vec<Made>) {
    let header = |version: u16, node: u16| {
        let mut header = [&b"PANGEATR"[..], &version.to_le_bytes(), &[1, 0]].concat();
        header.extend(node.to_le_bytes());
        header.resize(128, 0);
        header
    };
    add(all, "trace", "empty", "");
    add(all, "trace", "a-header-cut-off", &header(1, 0)[..127]);
    add(all, "trace", "events-without-a-header", [7; 256]);
    add(all, "trace", "of-version-2", header(2, 0));
    add(all, "trace", "of-version-0", header(0, 0));
    let head = data_encoding::HEXLOWER.encode(&header(1, 0)[..24]);
    let nodes = format!("number 1025 {head} {}", "00".repeat(102));
    add_recipe(all, "trace", "of-1025-nodes", &nodes);
    add(all, "trace", "of-another-kind", "PK\u{3}\u{4}".repeat(64));
}
