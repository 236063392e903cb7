use super::*;

fn parse(text: &str) -> Result<Config, String> {
    toml::from_str(text).map_err(|e| e.to_string())
}

#[test]
fn a_file_says_everything_that_flags_say() {
    let peer = PeerId([3; 32]);
    let config = parse(&format!(
        "peers = ['{peer}@10.0.0.1:9090', '{peer}@shelf.example.org:9090']\n\
         [cores]\ncount = 2\ndriver = 'mio'\nsteer = 'mesh'\nspin = true\ncongestion = 'bbr'\n\
         [node]\ndata = '/srv/pangea'\np2p-addr = '[::]:9090'\ncapacity = '10GiB'\n\
         accept = 'listed'\nallow = ['{peer}']\nalias = 'shelf'\n\
         [put]\nk = 3\nm = 2\nlevel = 5\nsuite = 'aes'\nlease = '7d'\n"
    ))
    .unwrap();
    assert!(matches!(config.peers[..], [PeerName::At(_), PeerName::Named { .. }]));
    assert_eq!(config.cores.count, Some(2));
    assert_eq!(config.cores.driver, Some(DriverSetting::Mio));
    assert_eq!(config.node.capacity, Some(Size(10 << 30)));
    assert_eq!(config.node.allow, [peer]);
    let options = config.put.options(Vec::new(), Compress::Yes, None).unwrap();
    assert_eq!(options.code, Code::new(3, 2));
    assert_eq!(options.lease, Duration::from_secs(7 * 86_400));
}

#[test]
fn a_wrong_file_is_told_where_it_is_wrong() {
    for (text, key) in [
        ("peer = []", "peer"),
        ("[node]\ncapacity = 'lots'", "capacity"),
        ("[node]\ncapacity = 5", "capacity"),
        ("[cores]\ndriver = 'dpdk'", "dpdk"),
        ("peers = ['nonsense']", "nonsense"),
        ("[put]\nk = 300", "k = 300"),
        ("[put]\nlease = 'for ever'", "for ever"),
        ("[node\n", "[node"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(key) && error.contains("line"), "{text}: {error}");
    }
}

#[test]
fn a_flag_wins_over_the_file() {
    let flags = CoreSettings { count: Some(3), ..CoreSettings::default() };
    let file = CoreSettings {
        count: Some(2),
        driver: Some(DriverSetting::Mio),
        ..CoreSettings::default()
    };
    let both = flags.over(&file);
    assert_eq!((both.count, both.driver), (Some(3), Some(DriverSetting::Mio)));
}

#[test]
fn values_one_past_their_limit_are_refused_by_name() {
    let cores = |count| CoreSettings { count: Some(count), ..CoreSettings::default() };
    assert!(cores(limits::CORES_MAX).wishes().is_ok());
    for count in [0, limits::CORES_MAX + 1] {
        let refused = cores(count).wishes().unwrap_err();
        assert!(refused.to_string().starts_with("cores: "), "{refused}");
    }

    let node = |bytes| NodeSettings { capacity: Some(Size(bytes)), ..NodeSettings::default() };
    assert!(node(limits::CAPACITY_BYTES_MIN).check().is_ok());
    let refused = node(limits::CAPACITY_BYTES_MIN - 1).check().unwrap_err();
    assert!(refused.to_string().starts_with("capacity: "), "{refused}");
    let alias = |text: String| NodeSettings { alias: Some(text), ..NodeSettings::default() };
    assert!(alias("a".repeat(limits::ALIAS_BYTES_MAX)).check().is_ok());
    assert!(alias("a".repeat(limits::ALIAS_BYTES_MAX + 1)).check().is_err());
    assert!(alias("a\u{1b}[2J".into()).check().is_err());
    let allow = |count| NodeSettings { allow: vec![PeerId([1; 32]); count], ..Default::default() };
    assert!(allow(limits::PEERS_MAX).check().is_ok());
    assert!(allow(limits::PEERS_MAX + 1).check().is_err());

    let put = |settings: PutSettings| settings.options(Vec::new(), Compress::Yes, None);
    let lease = |span| PutSettings { lease: Some(Span(span)), ..PutSettings::default() };
    assert!(put(lease(limits::LEASE_MIN)).is_ok() && put(lease(limits::LEASE_MAX)).is_ok());
    assert!(put(lease(limits::LEASE_MIN - Duration::from_secs(1))).is_err());
    assert!(put(lease(limits::LEASE_MAX + Duration::from_secs(1))).is_err());
    let level = |level| PutSettings { level: Some(level), ..PutSettings::default() };
    assert!(put(level(limits::LEVEL_MIN)).is_ok() && put(level(limits::LEVEL_MAX)).is_ok());
    assert!(put(level(limits::LEVEL_MIN - 1)).is_err());
    assert!(put(level(limits::LEVEL_MAX + 1)).is_err());
    let code = |k, m| PutSettings { k, m, ..PutSettings::default() };
    assert!(put(code(Some(251), Some(4))).is_ok());
    for (k, m) in [(Some(0), Some(1)), (Some(252), Some(4)), (Some(3), None), (None, Some(3))] {
        assert!(put(code(k, m)).is_err(), "{k:?} {m:?}");
    }
}

#[test]
fn peers_count_once_and_have_a_limit() {
    let at = |port: u16| {
        let peer = PeerId([1; 32]);
        PeerName::At(PeerAddr { peer, addr: ([10, 0, 0, 1], port).into() })
    };
    let config = Config { peers: vec![at(1), at(2)], ..Config::default() };
    assert_eq!(config.peers_with(&[at(2), at(3)]).unwrap(), [at(2), at(3), at(1)]);
    let many: Vec<_> = (0..limits::PEERS_MAX as u16).map(|i| at(i + 1)).collect();
    assert!(Config::default().peers_with(&many).is_ok());
    let one_more: Vec<_> = (0..limits::PEERS_MAX as u16 + 1).map(|i| at(i + 1)).collect();
    assert!(Config::default().peers_with(&one_more).is_err());
}

#[test]
fn a_config_file_over_its_limit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let at_limit = "#".repeat(limits::CONFIG_BYTES_MAX as usize);
    std::fs::write(&path, &at_limit).unwrap();
    Config::read(Some(&path)).unwrap();
    std::fs::write(&path, at_limit + "#").unwrap();
    assert!(matches!(Config::read(Some(&path)), Err(ConfigInvalid::Unreadable { .. })));
    assert!(matches!(Config::read(Some(dir.path())), Err(ConfigInvalid::Unreadable { .. })));
}

#[test]
fn the_default_capacity_leaves_room_and_counts_what_is_kept() {
    let gib = 1 << 30;
    assert_eq!(default_capacity_bytes(50 * gib, 0), Some(49 * gib));
    assert_eq!(default_capacity_bytes(500 * gib, 0), Some(100 * gib));
    assert_eq!(default_capacity_bytes(20 * gib, 29 * gib), Some(48 * gib));
    let least = limits::CAPACITY_BYTES_MIN;
    assert_eq!(default_capacity_bytes(gib + least, 0), Some(least));
    assert_eq!(default_capacity_bytes(gib + least - 1, 0), None);
    assert_eq!(default_capacity_bytes(u64::MAX, u64::MAX), Some(100 * gib));
}

#[test]
fn a_client_takes_an_eighth_of_the_memory_within_bounds() {
    assert_eq!(memory::client_chunk_bytes(0), memory::CLIENT_CHUNK_BYTES_MIN);
    assert_eq!(memory::client_chunk_bytes(256 << 20), 32 << 20);
    assert_eq!(memory::client_chunk_bytes(u64::MAX), memory::CLIENT_CHUNK_BYTES_MAX);
}

#[test]
#[cfg(feature = "trace")]
fn nothing_of_a_trace_leaves_the_machine_unless_it_is_said() {
    assert!(!CoreSettings::default().trace().context);
    assert_eq!(CoreSettings::default().trace().clock, pangea_trace::Clock::Tick);
    let file = parse("[cores]\ntrace-clock = 'fine'\ntrace-context = 'any'\n").unwrap();
    let said = CoreSettings::default().over(&file.cores).trace();
    assert!(said.context);
    assert_eq!(said.clock, pangea_trace::Clock::Fine);
    let flag = CoreSettings { trace_context: Some(ContextSetting::Off), ..CoreSettings::default() };
    assert!(!flag.over(&file.cores).trace().context);
}

#[test]
#[cfg(feature = "trace-sample")]
fn one_trace_in_so_many_is_recorded() {
    assert_eq!(CoreSettings::default().trace().sampling, pangea_trace::Sampling::ALL);
    let file = parse("[cores]\ntrace-sample = 10\n").unwrap();
    assert_eq!(file.cores.trace().sampling, pangea_trace::Sampling::one_in(10));
    assert!(parse("[cores]\ntrace-sample = 0\n").is_err());
}
