//! The command line where no peers are needed: help, exit codes, and every bad input that is
//! refused before the network is touched.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use pangea_base::{ManifestId, PeerAddr, PeerId, ReadKey, Secret};
use pangea_wire::{Link, LinkKey};
use serde_json::Value;
use tempfile::TempDir;

const COMMANDS: [&str; 8] = ["node", "put", "get", "stat", "status", "doctor", "id", "demo"];

/// A user with an empty home.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> User {
        User { home: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_string()
    }

    fn write(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pangea"));
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_DATA_HOME", self.home.path().join("data"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    fn run_with_stdin(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The command may refuse before it reads.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        Ran::of(child.wait_with_output().unwrap())
    }

    fn key_path(&self) -> std::path::PathBuf {
        self.home.path().join("data/pangea/identity.key")
    }
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn refused(&self, code: i32, word: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        assert!(self.stderr.contains(word), "no '{word}' in {self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }

    #[track_caller]
    fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_else(|| panic!("no line: {self:?}"));
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

fn link_text() -> String {
    let key = LinkKey::Read(ReadKey(Secret::new([0x5a; 32])));
    let addr: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let hint = PeerAddr { peer: PeerId([1; 32]), addr };
    Link::new(ManifestId([7; 32]), key, vec![hint]).unwrap().reveal().to_string()
}

fn somebody() -> String {
    format!("{}@127.0.0.1:9", PeerId([1; 32]))
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn every_help_has_examples_and_exit_codes() {
    let user = User::new();
    let general = user.run(&["--help"]);
    assert_eq!(general.code, Some(0));
    for command in COMMANDS {
        assert!(general.stdout.contains(&format!("\n  {command} ")), "{command}");
        for flag in ["--help", "-h"] {
            let help = user.run(&[command, flag]);
            assert_eq!(help.code, Some(0), "{command}");
            for word in ["EXAMPLES:", "EXIT CODES:", "  130  ", "--json", "pangea "] {
                assert!(help.stdout.contains(word), "{command} {flag}: {word}");
            }
            assert_eq!(help.stderr, "");
        }
    }
    assert!(user.run(&["--version"]).stdout.starts_with("pangea 0."));
    assert!(fs::read_dir(user.home.path()).unwrap().next().is_none(), "help leaves no files");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let user = User::new();
    let wrong: [&[&str]; 8] = [
        &["fly"],
        &["get"],
        &["put", "x", "--no-such-flag"],
        &["put", "x", "--peer", "nonsense"],
        &["node", "--driver", "dpdk"],
        &["node", "--p2p-addr", "example.org:9090"],
        &["demo", "--nodes", "0"],
        &["demo", "--nodes", "3", "--kill", "4"],
    ];
    for arguments in wrong {
        user.run(arguments).refused(2, "");
        let with_json = [arguments, &["--json"]].concat();
        let json = user.run(&with_json).json();
        assert_eq!(json["error"]["kind"], "usage", "{arguments:?}");
    }
    assert_eq!(user.run(&[]).code, Some(2));
}

#[test]
fn an_error_is_one_json_object_with_kind_and_message() {
    let user = User::new();
    let ran = user.run(&["--json", "stat", "hello"]);
    ran.refused(3, "link");
    assert_eq!(ran.stdout.lines().count(), 1);
    let json = ran.json();
    assert_eq!(json.as_object().unwrap().len(), 1);
    assert_eq!(json["error"].as_object().unwrap().len(), 2);
    assert_eq!(json["error"]["kind"], "bad_link");
    assert!(json["error"]["message"].as_str().unwrap().contains("link"));
}

#[test]
fn a_link_that_is_not_whole_or_not_a_link_is_exit_code_3() {
    let user = User::new();
    let link = link_text();
    let other = |c: char| if c == 'a' { 'b' } else { 'a' };
    let mut flipped: Vec<char> = link.chars().collect();
    flipped[40] = other(flipped[40]);
    let flipped: String = flipped.iter().collect();
    let newer = link.replacen("pangea1", "pangea2", 1);
    let cut = &link[..link.len() - 7];
    let doubled = format!("{link}{link}");
    for bad in ["hello", "pangea1", "pangea1r", &flipped, &newer, cut, &doubled] {
        for command in ["get", "stat"] {
            user.run(&[command, bad]).refused(3, "link");
            user.run_with_stdin(&[command, "-"], bad.as_bytes()).refused(3, "link");
        }
        let file = user.write("link", bad.as_bytes());
        user.run(&["get", &format!("@{file}")]).refused(3, "link");
    }
    user.run(&["get", ""]).refused(3, "empty");
    user.run_with_stdin(&["get", "-"], b"\n").refused(3, "empty");
    user.write("film.link", link.as_bytes());
    user.run(&["get", "film.link"]).refused(3, "write @ before");
}

#[test]
fn a_link_file_that_cannot_be_read_is_exit_code_7() {
    let user = User::new();
    user.run(&["get", "@missing.link"]).refused(7, "missing.link");
    let home = user.path("");
    user.run(&["get", &format!("@{home}")]).refused(7, "directory");
    let huge = user.write("huge", &vec![b'a'; (8 << 10) + 1]);
    user.run(&["get", &format!("@{huge}")]).refused(7, "longer than any link");
    let binary = user.write("binary", &[0xff; 100]);
    user.run(&["get", &format!("@{binary}")]).refused(7, "not text");
}

#[test]
fn no_error_ever_shows_a_links_key() {
    let user = User::new();
    let link = link_text();
    let flipped = format!("{}a", &link[..link.len() - 1]);
    let key = &link[10..link.len() - 10];
    let file = format!("@{}", user.write("two.link", format!("{link} {link}").as_bytes()));
    let mistakes: [&[&str]; 10] = [
        &["get", &link, &link],
        &["get", &flipped],
        &["get", "x", "-o", &link, "--peer", &link],
        &["put", &link],
        &[&link],
        &["node", "--data", "d", "--driver", &link],
        &["put", "x", "--suite", &link],
        &["stat", &file],
        &["status", "--data", &link],
        &["get", &link, "--config", &link],
    ];
    for arguments in mistakes {
        for json in [&["--json"][..], &["-vv"]] {
            let ran = user.run(&[arguments, json].concat());
            assert_ne!(ran.code, Some(0), "{arguments:?}");
            let shown = format!("{}{}", ran.stdout, ran.stderr);
            assert!(!shown.contains(&key[..16]), "{arguments:?}: {shown}");
            assert!(!shown.contains(&key[key.len() - 16..]), "{arguments:?}: {shown}");
        }
    }
}

#[test]
fn what_cannot_be_put_is_named() {
    let user = User::new();
    user.run(&["put", "missing", "--peer", &somebody()]).refused(7, "missing");
    fs::create_dir(user.path("photos")).unwrap();
    user.run(&["put", "photos", "--peer", &somebody()]).refused(7, "tar -c");
    user.write("file", b"content");
    user.run(&["put", "file"]).refused(4, "--peer");
    let wrong: [(&[&str], &str); 8] = [
        (&["-k", "3"], "m: "),
        (&["-m", "3"], "k: "),
        (&["-k", "0", "-m", "1"], "k and m"),
        (&["-k", "200", "-m", "100"], "k and m"),
        (&["--level", "100"], "level"),
        (&["--lease", "5s"], "lease"),
        (&["--lease", "long"], "30d"),
        (&["--name", "../up"], "--name"),
    ];
    let peer = somebody();
    for (flags, word) in wrong {
        let arguments = [&["put", "file", "--peer", &peer][..], flags].concat();
        user.run(&arguments).refused(2, word);
    }
}

/// Root may read everything, so the command runs as nobody then.
#[test]
#[cfg(unix)]
fn an_unreadable_file_is_named() {
    use std::os::unix::process::CommandExt;
    let user = User::new();
    let file = user.write("secret", b"content");
    set_mode(Path::new(&file), 0o000);
    let mut command = user.command(&["put", &file, "--peer", &somebody()]);
    if rustix::process::geteuid().is_root() {
        set_mode(user.home.path(), 0o755);
        command.uid(65534).gid(65534);
    }
    match command.output() {
        Ok(output) => Ran::of(output).refused(7, "permission"),
        // The build directory is closed to nobody.
        Err(cause) => eprintln!("SKIPPED an_unreadable_file_is_named: {cause}"),
    }
}

#[test]
fn an_output_that_exists_is_refused_before_anything_is_fetched() {
    let user = User::new();
    let link = link_text();
    user.write("film.mkv", b"the old one");
    user.run(&["get", &link, "-o", "film.mkv"]).refused(7, "exists already");
    assert_eq!(fs::read(user.path("film.mkv")).unwrap(), b"the old one");
    fs::create_dir(user.path("films")).unwrap();
    user.run(&["get", &link, "-o", "films"]).refused(7, "directory");
    user.run(&["get", &link, "-o", "nowhere/film.mkv"]).refused(7, "nowhere");
    user.run(&["get", &link, "-o", ".."]).refused(7, "directory");
    assert_eq!(fs::read_dir(user.path("films")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(user.home.path()).unwrap().count(), 2, "nothing is left behind");
}

#[test]
fn a_link_out_that_cannot_be_written_is_refused_before_anything_is_stored() {
    let user = User::new();
    user.write("file", b"content");
    user.write("old.link", b"the old one");
    let put = |out: &str| user.run(&["put", "file", "--peer", &somebody(), "--link-out", out]);
    put("old.link").refused(7, "exists already");
    assert_eq!(fs::read(user.path("old.link")).unwrap(), b"the old one");
    put("nowhere/new.link").refused(7, "nowhere");
    put(".").refused(7, "");
    put("..").refused(7, "");
}

#[test]
fn the_users_identity_is_made_once_for_the_user_only() {
    let user = User::new();
    let first = user.run(&["id", "--json"]).json();
    assert_eq!(first["made"], true);
    assert!(first["id"].as_str().unwrap().starts_with("12D3KooW"));
    let second = user.run(&["id", "--json"]).json();
    assert_eq!(second["made"], false);
    assert_eq!(first["id"], second["id"]);
    assert_eq!(first["file"], user.key_path().to_str().unwrap());
    assert_eq!(user.run(&["id"]).stdout.trim_end(), first["id"].as_str().unwrap());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&user.key_path()), 0o600);
        assert_eq!(mode(user.key_path().parent().unwrap()), 0o700);
    }
}

#[test]
fn without_a_home_the_user_is_told_what_is_missing() {
    let user = User::new();
    let output = user.command(&["id"]).env_remove("HOME").env_remove("XDG_DATA_HOME").output();
    Ran::of(output.unwrap()).refused(2, "HOME");
}

#[test]
#[cfg(unix)]
fn a_key_file_that_is_not_as_it_should_be_is_refused() {
    let user = User::new();
    user.run(&["id"]);
    let path = user.key_path();
    let good = fs::read(&path).unwrap();

    set_mode(&path, 0o644);
    user.run(&["id"]).refused(7, "others may read");
    set_mode(&path, 0o600);

    for bad in [&b""[..], b"garbage", &good[..40], &[good.clone(), good.clone()].concat()] {
        fs::write(&path, bad).unwrap();
        let ran = user.run(&["id"]);
        ran.refused(7, "32 bytes or 64 hexadecimal");
        assert_eq!(fs::read(&path).unwrap(), bad, "a bad key is never replaced");
    }
    fs::write(&path, [0; 32]).unwrap();
    user.run(&["id"]).refused(7, "zeros");

    fs::write(&path, &good).unwrap();
    let elsewhere = user.path("elsewhere.key");
    fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    user.run(&["id"]).refused(7, "symbolic link");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    user.run(&["id"]).refused(7, "not a regular file");
    fs::remove_dir(&path).unwrap();

    if rustix::process::geteuid().is_root() {
        fs::rename(&elsewhere, &path).unwrap();
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        user.run(&["id"]).refused(7, "another user");
    } else {
        eprintln!("SKIPPED another user's key file: only root can make one");
    }
}

#[test]
fn a_nodes_identity_is_shown_and_not_made_by_asking() {
    let user = User::new();
    user.run(&["id", "--data", "n1"]).refused(7, "there is no key file");
    assert!(!Path::new(&user.path("n1")).exists());
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let user = User::new();
    fs::create_dir(user.path("n1")).unwrap();
    let lock = fs::File::create(user.path("n1/lock")).unwrap();
    lock.lock().unwrap();
    user.run(&["node", "--data", "n1"]).refused(7, "in use by another process");
    assert!(!Path::new(&user.path("n1/identity.key")).exists());
}

#[test]
fn a_data_directory_of_another_version_or_kind_is_refused() {
    let user = User::new();
    fs::create_dir(user.path("n1")).unwrap();
    user.write("n1/version", b"pangea data directory, version 9\n");
    user.run(&["node", "--data", "n1"]).refused(7, "another version");
    fs::create_dir(user.path("photos")).unwrap();
    user.write("photos/cat.jpg", b"meow");
    user.run(&["node", "--data", "photos"]).refused(7, "cat.jpg");
    assert_eq!(fs::read_dir(user.path("photos")).unwrap().count(), 1);
    user.write("file", b"");
    user.run(&["node", "--data", "file"]).refused(7, "not a directory");
}

#[test]
fn a_nodes_settings_are_checked_before_it_touches_anything() {
    let user = User::new();
    let wrong: [(&[&str], &str); 6] = [
        (&["--capacity", "1MiB"], "64 MiB"),
        (&["--capacity", "10G"], "10GiB"),
        (&["--cores", "0"], "cores"),
        (&["--cores", "1000"], "cores"),
        (&["--accept", "friends"], "listed"),
        (&["--alias", &"a".repeat(65)], "alias"),
    ];
    for (flags, word) in wrong {
        user.run(&[&["node", "--data", "n1"][..], flags].concat()).refused(2, word);
        assert!(!Path::new(&user.path("n1")).exists(), "{flags:?}");
    }
}

#[test]
fn a_wrong_configuration_file_names_the_key() {
    let user = User::new();
    user.run(&["doctor", "--config", "missing.toml"]).refused(7, "missing.toml");
    for (text, word) in [
        ("prees = []", "prees"),
        ("[node]\ncapacity = 'much'", "capacity"),
        ("[cores]\ncount = 'two'", "count"),
        ("[cores]\ncount = 0", "cores: "),
        ("peers = ['12D3KooW@1.2.3.4:5']", "peers"),
        ("peers", "peers"),
    ] {
        let file = user.write("config.toml", text.as_bytes());
        user.run(&["doctor", "--config", &file]).refused(2, word);
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let user = User::new();
    let file = user.write("config.toml", b"[put]\nlease = '1s'\n");
    user.write("x", b"content");
    // Only a good lease comes as far as the missing peers.
    let put = |environment: Option<&str>, flags: &[&str]| {
        let mut command = user.command(&[&["put", "x", "--config", &file], flags].concat());
        environment.map(|lease| command.env("PANGEA_LEASE", lease));
        Ran::of(command.output().unwrap())
    };
    put(None, &[]).refused(2, "1.0 s");
    put(Some("2s"), &[]).refused(2, "2.0 s");
    put(Some("2s"), &["--lease", "3s"]).refused(2, "3.0 s");
    put(Some("2d"), &[]).refused(4, "no peers");
    put(Some("2s"), &["--lease", "2d"]).refused(4, "no peers");
    let config = user.command(&["put", "x"]).env("PANGEA_CONFIG", &file).output().unwrap();
    Ran::of(config).refused(2, "1.0 s");
}

#[test]
fn status_without_a_node_is_exit_code_8() {
    let user = User::new();
    let ran = user.run(&["status", "--data", "n1", "--json"]);
    if cfg!(unix) {
        ran.refused(8, "no node is running");
    }
    assert_eq!(ran.json()["error"]["kind"], "start");
}

#[test]
fn doctor_tells_what_was_found_and_what_a_node_makes_of_it() {
    let user = User::new();
    let json = user.run(&["doctor", "--driver", "mio", "--cores", "1", "--json"]).json();
    assert_eq!(json["driver"], "mio");
    assert_eq!(json["cores"], 1);
    assert!(json["why"].as_str().unwrap().contains("asked for"));
    let parts = json["memory_budget"].as_object().unwrap();
    let sum: u64 = parts.values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(json["memory_budget_bytes"], sum);
    for key in ["os", "arch", "cpu", "io_uring", "ebpf", "memory_usable_bytes", "notes"] {
        assert!(!json[key].is_null(), "{key}");
    }
    let text = user.run(&["doctor"]);
    assert_eq!(text.code, Some(0));
    for word in ["io_uring", "driver", "Memory at most", "Runs "] {
        assert!(text.stdout.contains(word), "{word}: {}", text.stdout);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_result_that_cannot_be_written_is_an_error() {
    let user = User::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = user.command(&["doctor"]).stdout(full).output().unwrap();
    Ran::of(output).refused(7, "stdout");
}
