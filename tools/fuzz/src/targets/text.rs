//! What people and files say in text.

use std::net::SocketAddr;

use pangea::config::{Compress, Config, PeerName};
use pangea::units::{Size, Span};
use pangea_base::{PeerAddr, PeerId};
use pangea_trace::TraceId;
use pangea_wire::{Label, Link, escaped};

use super::forge;
use super::samples::{link as link_sample, peer_addr};

/// A link as text; or, behind a 0 or 1, a payload that gets its checksum here.
pub fn link(data: &[u8]) {
    let forged = match data.split_first() {
        Some((kind @ (0 | 1), payload)) => {
            Some(forge::link(['r', 'v'][usize::from(*kind)], payload))
        }
        _ => None,
    };
    let text = match &forged {
        Some(text) => text,
        None => match std::str::from_utf8(data) {
            Ok(text) => text,
            Err(_) => return,
        },
    };
    let Ok(link) = text.parse::<Link>() else { return };
    let said = link.reveal();
    assert_eq!(*said, text.trim_ascii(), "a link has one text");
    let again: Link = said.parse().expect("what is revealed is a link");
    assert_eq!((again.manifest, again.hints()), (link.manifest, link.hints()));
    assert_eq!(link.to_verify().locator(), link.locator());
    let shown = format!("{link} {link:?} {}", link.public_id());
    assert!(!said.contains(&shown) && shown.len() < 100);
}

pub fn link_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for hints in [0, 1, 8] {
        let link = link_sample((1..=hints).map(peer_addr).collect());
        seeds.push(link.reveal().as_bytes().to_vec());
        seeds.push(link.to_verify().reveal().as_bytes().to_vec());
    }
    let hint = |family: u8, ip: &[u8]| [&[family][..], ip, &[1, 0], &[9; 32]].concat();
    for (count, hints) in [(0, vec![]), (1, hint(4, &[10, 0, 0, 1])), (1, hint(6, &[0x20; 16]))] {
        seeds.push([&[0][..], &[7; 64], &[count], &hints].concat());
        seeds.push([&[1][..], &[7; 64], &[count], &hints].concat());
    }
    seeds
}

/// Addresses and names of peers.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<PeerAddr>() {
        Ok(addr) => assert_eq!(addr.to_string().parse(), Ok(addr)),
        Err(refused) => assert!(refused.to_string().len() < 2000, "an error is short"),
    }
    if let Ok(peer) = text.parse::<PeerId>() {
        assert_eq!(peer.to_string(), text, "a peer's id has one text");
    }
    if let Ok(id) = text.parse::<TraceId>() {
        assert_eq!(id.to_string(), text.to_lowercase());
    }
}

pub fn address_seeds() -> Vec<Vec<u8>> {
    let peer = PeerId([3; 32]);
    let texts = [
        peer.to_string(),
        format!("{peer}@10.0.0.1:9090"),
        format!("{peer}@[2001:db8::7]:443"),
        format!("/ip4/10.0.0.1/udp/9090/quic-v1/p2p/{peer}"),
        format!("/ip6/::1/udp/1/quic-v1/p2p/{peer}"),
        "0123456789abcdef0123456789abcdef".into(),
    ];
    texts.map(String::into_bytes).into()
}

/// Names that others give to objects.
pub fn label(data: &[u8]) {
    if let Ok(label) = Label::from_bytes(data) {
        assert_eq!(label.as_str().as_bytes(), data);
        assert_eq!(Label::new(label.as_str()).as_ref(), Ok(&label));
        assert_eq!(Label::cleaned(label.as_str()), label, "a good name stays as it is");
        assert!(!label.as_str().contains(['/', '\\', '\0', ':']));
        assert!(label.as_str() != "." && label.as_str() != "..");
    }
    let text = String::from_utf8_lossy(data);
    let cleaned = Label::cleaned(&text);
    assert_eq!(Label::new(cleaned.as_str()), Ok(cleaned), "a cleaned name is a good one");
    let shown = escaped(&text).to_string();
    assert!(!shown.contains(char::is_control) && shown.chars().count() <= 256 * 10);
}

pub fn label_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "film.mkv",
        "a b",
        "Ångström",
        "e\u{301}",
        "CON",
        "nul.txt",
        "..",
        "a/b",
        " x",
        "a\u{202e}b",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// Sizes, times and socket addresses of the command line.
pub fn units(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Size>() {
        Ok(size) => assert!(!size.to_string().is_empty()),
        Err(refused) => assert!(refused.to_string().len() < 400, "an error is short"),
    }
    match text.parse::<Span>() {
        Ok(span) => assert!(!span.to_string().is_empty()),
        Err(refused) => assert!(refused.to_string().len() < 400, "an error is short"),
    }
}

pub fn units_seeds() -> Vec<Vec<u8>> {
    let texts = ["0", "4096", "10GiB", "1.5 kib", "16383PiB", "50us", "1.5s", "30d", "2w"];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// A configuration file, and what a node and a put make of it.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match toml::from_str::<Config>(text) {
        Ok(config) => {
            let _ = config.cores.wishes();
            let _ = config.node.check();
            let _ = config.peers_with(&[PeerName::At(peer_addr(1))]);
            let _ = config.put.options(vec![peer_addr(1)], Compress::Yes, None);
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}

pub fn config_seeds() -> Vec<Vec<u8>> {
    let peer = PeerId([3; 32]);
    let whole = format!(
        "peers = ['{peer}@10.0.0.1:9090']\n\
         [cores]\ncount = 2\ndriver = 'mio'\nsteer = 'mesh'\nspin = true\ncongestion = 'bbr'\n\
         [node]\ndata = '/srv/pangea'\np2p-addr = '[::]:9090'\ncapacity = '10GiB'\n\
         accept = 'listed'\nallow = ['{peer}']\nalias = 'shelf'\n\
         [put]\nk = 3\nm = 2\nlevel = -5\nsuite = 'aes'\nlease = '7d'\npad = true\n"
    );
    let texts =
        ["", "peers = []\n", "[put]\nk = 10\nm = 4\n", "node = { capacity = \"1.5TiB\" }\n"];
    let mut seeds: Vec<Vec<u8>> = texts.map(|text| text.as_bytes().to_vec()).into();
    seeds.push(whole.into_bytes());
    seeds
}

/// A command line, one argument to a line.
pub fn arguments(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // The kernel gives none that hold a zero byte; and clap's time grows with their number.
    if text.contains('\0') || text.lines().count() > 64 {
        return;
    }
    let arguments = text.lines().map(Into::into);
    if let Err(refused) = pangea::cli::parse(std::iter::once("pangea".into()).chain(arguments)) {
        assert!(!refused.to_string().is_empty());
    }
}

pub fn arguments_seeds() -> Vec<Vec<u8>> {
    let addr: SocketAddr = ([0, 0, 0, 0], 9090).into();
    let peer = peer_addr(9090);
    let texts = [
        format!(
            "node\n--data\n/srv/pangea\n--p2p-addr\n{addr}\n--capacity=50GiB\n--accept\nlisted"
        ),
        format!("put\nfilm.mkv\n--peer\n{peer}\n-k\n10\n-m\n4\n--level\n-3\n--lease\n30d\n--json"),
        "get\n@film.link\n-o\nfilm.mkv".into(),
        "stat\n-\n-vv".into(),
        "status\n--data\nn1".into(),
        "doctor".into(),
        "id\n--data\nn1".into(),
        "demo\n--nodes\n5".into(),
        "--help".into(),
    ];
    texts.map(String::into_bytes).into()
}
