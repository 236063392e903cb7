//! Files: what is written is read, what fails is a value, and the page always comes back.

use pangea_base::PagePool;
use pangea_base::file::{
    FileFault, FileId, FileName, FileOp, FileRequest, FileValue, Listed, OpenMode,
};
use pangea_reactor::{DriverChoice, FILES_IN_FLIGHT_MAX, Park};

use crate::support::{Node, name, on_both, page_of};

on_both!(
    what_was_written_is_read_after_sync,
    a_read_past_the_end_is_short_and_a_read_behind_it_empty,
    an_unaligned_file_reads_to_its_last_byte,
    a_missing_file_is_missing,
    names_without_a_data_directory_are_a_fault,
    a_closed_file_is_a_fault_and_its_page_comes_back,
    files_are_listed_renamed_and_removed,
    strangers_files_are_not_listed,
    #[cfg(unix)]
    what_is_no_regular_file_is_listed_as_that_and_no_link_is_followed,
    punched_and_reserved_space,
    an_adopted_file_is_read_and_written,
    an_output_is_emptied_first,
    a_full_disk_is_a_fault_and_the_page_comes_back,
    a_denied_file_is_a_fault,
    a_link_on_the_way_is_a_fault_with_words,
    what_is_no_regular_file_is_a_fault_at_once,
    many_operations_at_once_all_end_and_one_more_is_refused,
    registered_pages_carry_the_same_bytes,
    the_direct_files_say_whether_they_are,
);

pub fn create(node: &mut Node, path: &str) -> FileId {
    open(node, path, OpenMode::DirectCreate).0
}

fn open(node: &mut Node, path: &str, mode: OpenMode) -> (FileId, u64) {
    match node.value(FileOp::Open { name: name(path), mode }) {
        Ok(FileValue::Opened { file, length }) => (file, length),
        other => panic!("{path}: {other:?}"),
    }
}

fn pool() -> PagePool {
    PagePool::new(65536, 16)
}

fn what_was_written_is_read_after_sync(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, pool) = (Node::in_dir(choice, dir.path()), pool());
    let file = create(&mut node, "store/p00/extent-1");
    for i in 0..4u8 {
        let done = node.write(file, u64::from(i) * 65536, page_of(&pool, i, 65536));
        assert_eq!(done.result, Ok(FileValue::Bytes(65536)));
        assert!(done.page.is_some());
    }
    assert_eq!(node.value(FileOp::Sync { file }), Ok(FileValue::Done));
    for i in (0..4u8).rev() {
        let done = node.read(file, u64::from(i) * 65536, pool.take().unwrap(), 65536);
        assert_eq!(done.result, Ok(FileValue::Bytes(65536)));
        let page = done.page.unwrap();
        assert_eq!((page.len(), page.iter().all(|&b| b == i)), (65536, true));
    }
    assert_eq!(node.value(FileOp::Close { file }), Ok(FileValue::Done));
    let (_, length) = open(&mut node, "store/p00/extent-1", OpenMode::Direct);
    assert_eq!(length, 4 * 65536);
    assert_eq!(pool.available(), 16);
}

fn a_read_past_the_end_is_short_and_a_read_behind_it_empty(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, pool) = (Node::in_dir(choice, dir.path()), pool());
    let file = create(&mut node, "short");
    node.write(file, 0, page_of(&pool, 3, 4096 * 3));
    let done = node.read(file, 4096, pool.take().unwrap(), 65536);
    assert_eq!(done.result, Ok(FileValue::Bytes(8192)));
    assert_eq!(done.page.unwrap().len(), 8192);
    let done = node.read(file, 65536, pool.take().unwrap(), 65536);
    assert_eq!(done.result, Ok(FileValue::Bytes(0)));
    assert_eq!(done.page.unwrap().len(), 0);
}

fn an_unaligned_file_reads_to_its_last_byte(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("odd"), vec![5; 10_001]).unwrap();
    let (mut node, pool) = (Node::in_dir(choice, dir.path()), pool());
    for mode in [OpenMode::Direct, OpenMode::Read] {
        let (file, length) = open(&mut node, "odd", mode);
        assert_eq!(length, 10_001);
        let done = node.read(file, 0, pool.take().unwrap(), 65536);
        assert_eq!(done.result, Ok(FileValue::Bytes(10_001)));
        assert!(done.page.unwrap().iter().all(|&b| b == 5));
    }
}

fn a_missing_file_is_missing(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::in_dir(choice, dir.path());
    for mode in [OpenMode::Direct, OpenMode::Read] {
        let op = FileOp::Open { name: name("no/such"), mode };
        assert_eq!(node.value(op), Err(FileFault::Missing));
    }
    let op = FileOp::Remove { name: name("no-such") };
    assert_eq!(node.value(op), Err(FileFault::Missing));
    let op = FileOp::Rename { from: name("no-such"), to: name("other") };
    assert_eq!(node.value(op), Err(FileFault::Missing));
    let op = FileOp::List { directory: name("no-such") };
    assert_eq!(node.value(op), Ok(FileValue::Names(Vec::new())));
}

fn names_without_a_data_directory_are_a_fault(choice: DriverChoice) {
    let mut node = Node::new(choice);
    let op = FileOp::Open { name: name("a"), mode: OpenMode::Read };
    match node.value(op) {
        Err(FileFault::Other { text, .. }) => assert!(text.contains("data directory")),
        other => panic!("{other:?}"),
    }
}

fn a_closed_file_is_a_fault_and_its_page_comes_back(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, pool) = (Node::in_dir(choice, dir.path()), pool());
    let file = create(&mut node, "a");
    assert_eq!(node.value(FileOp::Close { file }), Ok(FileValue::Done));
    let other = create(&mut node, "b");
    assert_ne!(file, other);
    let done = node.write(file, 0, page_of(&pool, 1, 4096));
    assert!(done.result.is_err() && done.page.is_some());
    assert!(node.value(FileOp::Close { file }).is_err());
    assert_eq!(std::fs::metadata(dir.path().join("b")).unwrap().len(), 0);
}

fn files_are_listed_renamed_and_removed(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, pool) = (Node::in_dir(choice, dir.path()), pool());
    for path in ["d/one", "d/two", "d/below/three"] {
        let file = create(&mut node, path);
        node.write(file, 0, page_of(&pool, 1, 4096));
        node.value(FileOp::Close { file }).unwrap();
    }
    let op = FileOp::Rename { from: name("d/below/three"), to: name("d/one") };
    assert_eq!(node.value(op), Ok(FileValue::Done));
    assert_eq!(node.value(FileOp::Remove { name: name("d/two") }), Ok(FileValue::Done));
    let expected = [(name("d/below"), Listed::Directory), (name("d/one"), Listed::File(4096))];
    assert_eq!(listed(&mut node, "d"), expected);
}

fn strangers_files_are_not_listed(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("d/lost+found")).unwrap();
    for stranger in ["README", ".hidden", "with space", "ours-1.x"] {
        std::fs::write(dir.path().join("d").join(stranger), b"123").unwrap();
    }
    let mut node = Node::in_dir(choice, dir.path());
    assert_eq!(listed(&mut node, "d"), [(name("d/ours-1.x"), Listed::File(3))]);
}

#[cfg(unix)]
fn what_is_no_regular_file_is_listed_as_that_and_no_link_is_followed(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("d");
    std::fs::create_dir_all(below.join("extent-1")).unwrap();
    std::fs::write(dir.path().join("elsewhere"), b"1234").unwrap();
    std::os::unix::fs::symlink("../elsewhere", below.join("extent-2")).unwrap();
    std::os::unix::fs::symlink("nowhere", below.join("extent-3")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(below.join("extent-4")).unwrap();
    std::fs::write(below.join("extent-5"), b"12345").unwrap();
    let mut node = Node::in_dir(choice, dir.path());
    let expected = [
        (name("d/extent-1"), Listed::Directory),
        (name("d/extent-2"), Listed::Other),
        (name("d/extent-3"), Listed::Other),
        (name("d/extent-4"), Listed::Other),
        (name("d/extent-5"), Listed::File(5)),
    ];
    assert_eq!(listed(&mut node, "d"), expected);
}

/// What is directly below a directory, in the order of the names.
fn listed(node: &mut Node, directory: &str) -> Vec<(FileName, Listed)> {
    match node.value(FileOp::List { directory: name(directory) }) {
        Ok(FileValue::Names(mut names)) => {
            names.sort_by(|a, b| a.0.cmp(&b.0));
            names
        }
        other => panic!("{other:?}"),
    }
}

fn punched_and_reserved_space(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, pool) = (Node::in_dir(choice, dir.path()), pool());
    let file = create(&mut node, "space");
    let path = dir.path().join("space");
    assert_eq!(node.value(FileOp::Allocate { file, length: 1 << 20 }), Ok(FileValue::Done));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
    // A smaller reservation takes nothing away.
    assert_eq!(node.value(FileOp::Allocate { file, length: 4096 }), Ok(FileValue::Done));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
    node.write(file, 0, page_of(&pool, 9, 65536));
    node.value(FileOp::Sync { file }).unwrap();
    let op = FileOp::Punch { file, offset: 0, length: 65536 };
    assert_eq!(node.value(op), Ok(FileValue::Done));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
    #[cfg(target_os = "linux")]
    {
        let page = node.read(file, 0, pool.take().unwrap(), 65536).page.unwrap();
        assert!(page.iter().all(|&b| b == 0), "a hole reads as zeros");
    }
}

fn an_adopted_file_is_read_and_written(choice: DriverChoice) {
    let (mut node, pool) = (Node::new(choice), pool());
    let file = tempfile::tempfile().unwrap();
    let id = node.driver.adopt(file.try_clone().unwrap());
    // Of any length, at any place: it goes through the page cache.
    let done = node.write(id, 3, page_of(&pool, 8, 1001));
    assert_eq!(done.result, Ok(FileValue::Bytes(1001)));
    let done = node.read(id, 1, pool.take().unwrap(), 5000);
    assert_eq!(done.result, Ok(FileValue::Bytes(1003)));
    let page = done.page.unwrap();
    assert_eq!((page[0], page[2], page[1002]), (0, 8, 8));
    node.value(FileOp::Close { file: id }).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1004);
}

fn an_output_is_emptied_first(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("out"), vec![1; 9999]).unwrap();
    let (mut node, pool) = (Node::in_dir(choice, dir.path()), pool());
    let (file, length) = open(&mut node, "out", OpenMode::Write);
    assert_eq!(length, 0);
    node.write(file, 0, page_of(&pool, 2, 10));
    node.value(FileOp::Close { file }).unwrap();
    assert_eq!(std::fs::read(dir.path().join("out")).unwrap(), vec![2; 10]);
}

#[cfg(target_os = "linux")]
fn a_full_disk_is_a_fault_and_the_page_comes_back(choice: DriverChoice) {
    let (mut node, pool) = (Node::new(choice), pool());
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let file = node.driver.adopt(full);
    let done = node.write(file, 0, page_of(&pool, 1, 4096));
    assert_eq!(done.result, Err(FileFault::NoSpace));
    assert_eq!(done.page.unwrap().len(), 4096);
}

#[cfg(not(target_os = "linux"))]
fn a_full_disk_is_a_fault_and_the_page_comes_back(_choice: DriverChoice) {
    eprintln!("SKIPPED: no /dev/full here");
}

fn a_denied_file_is_a_fault(choice: DriverChoice) {
    let (mut node, pool) = (Node::new(choice), pool());
    // Open for reading only: whoever we are, it cannot be written.
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &[0; 100]).unwrap();
    let id = node.driver.adopt(std::fs::File::open(file.path()).unwrap());
    let done = node.write(id, 0, page_of(&pool, 1, 4096));
    assert!(done.result.is_err() && done.page.is_some());
    assert_eq!(file.path().metadata().unwrap().len(), 100);
    // A directory is no file.
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    let mut node = Node::in_dir(choice, dir.path());
    for mode in [OpenMode::Read, OpenMode::DirectCreate, OpenMode::Write] {
        assert!(node.value(FileOp::Open { name: name("d"), mode }).is_err());
    }
}

/// What a fault says; the file it was about stays as it was.
#[cfg(unix)]
fn refused(node: &mut Node, op: FileOp) -> String {
    match node.value(op.clone()) {
        Err(FileFault::Other { text, .. }) => text,
        other => panic!("{op:?}: {other:?}"),
    }
}

#[cfg(unix)]
const MODES: [OpenMode; 4] =
    [OpenMode::Read, OpenMode::Direct, OpenMode::DirectCreate, OpenMode::Write];

#[cfg(unix)]
fn a_link_on_the_way_is_a_fault_with_words(choice: DriverChoice) {
    use std::os::unix::fs::symlink;
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let victim = elsewhere.path().join("file");
    std::fs::write(&victim, vec![7; 8192]).unwrap();
    // The data directory itself may be named through a link.
    let root = elsewhere.path().join("root");
    symlink(dir.path(), &root).unwrap();
    std::fs::create_dir(dir.path().join("store")).unwrap();
    symlink(&victim, dir.path().join("store/file")).unwrap();
    symlink(elsewhere.path().join("new"), dir.path().join("store/dangling")).unwrap();
    symlink(elsewhere.path(), dir.path().join("store/p00")).unwrap();
    let mut node = Node::in_dir(choice, &root);
    for link in ["store/file", "store/dangling", "store/p00/file", "store/p00/deep/new"] {
        for mode in MODES {
            let words = refused(&mut node, FileOp::Open { name: name(link), mode });
            assert!(words.contains("symbolic link") && words.contains("store/"), "{words}");
        }
        refused(&mut node, FileOp::Remove { name: name(link) });
        let op = FileOp::Rename { from: name(link), to: name("store/other") };
        refused(&mut node, op);
    }
    refused(&mut node, FileOp::List { directory: name("store/p00") });
    let links = ["store/dangling", "store/file", "store/p00"];
    assert_eq!(listed(&mut node, "store"), links.map(|link| (name(link), Listed::Other)));
    assert_eq!(std::fs::read(&victim).unwrap(), vec![7; 8192]);
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 2);
    create(&mut node, "store/p01/extent-1");
}

#[cfg(unix)]
fn what_is_no_regular_file_is_a_fault_at_once(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.is_ok_and(|status| status.success()));
    let mut node = Node::in_dir(choice, dir.path());
    for mode in MODES {
        let words = refused(&mut node, FileOp::Open { name: name("pipe"), mode });
        assert!(words.contains("not a regular file"), "{words}");
    }
}

#[cfg(not(unix))]
fn a_link_on_the_way_is_a_fault_with_words(_choice: DriverChoice) {
    eprintln!("SKIPPED: links are made otherwise here");
}

#[cfg(not(unix))]
fn what_is_no_regular_file_is_a_fault_at_once(_choice: DriverChoice) {
    eprintln!("SKIPPED: no pipes with names here");
}

fn many_operations_at_once_all_end_and_one_more_is_refused(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::in_dir(choice, dir.path());
    let pool = PagePool::new(4096, FILES_IN_FLIGHT_MAX as u32 + 1);
    let file = create(&mut node, "many");
    let write = |i: usize| FileRequest {
        token: i as u64,
        op: FileOp::Write { file, offset: i as u64 * 4096, length: 4096 },
        page: Some(page_of(&pool, i as u8, 4096)),
    };
    for round in 0..3 {
        for i in 0..FILES_IN_FLIGHT_MAX {
            node.driver.submit(write(i)).unwrap();
        }
        let refused = node.driver.submit(write(FILES_IN_FLIGHT_MAX)).unwrap_err();
        assert_eq!(refused.token, FILES_IN_FLIGHT_MAX as u64);
        assert_eq!(refused.page.unwrap().len(), 4096);
        node.until("all of them", |node| node.files.len() == FILES_IN_FLIGHT_MAX);
        let mut tokens: Vec<u64> = node.files.drain(..).map(|done| done.token).collect();
        tokens.sort_unstable();
        assert!(tokens.into_iter().eq(0..FILES_IN_FLIGHT_MAX as u64), "round {round}");
        node.poll(None, Park::Never);
        assert!(node.files.is_empty());
    }
    let bytes = std::fs::read(dir.path().join("many")).unwrap();
    for (i, block) in bytes.chunks(4096).enumerate() {
        assert!(block.iter().all(|&b| b == i as u8));
    }
}

fn registered_pages_carry_the_same_bytes(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::in_dir(choice, dir.path());
    let (pool, second, stranger) = (pool(), PagePool::new(4096, 4), PagePool::new(65536, 1));
    node.driver.register(&pool);
    node.driver.register(&second);
    if !node.driver.caps().registered {
        eprintln!("SKIPPED: nothing can be registered here; the bytes are compared all the same");
    }
    let file = create(&mut node, "fixed");
    for (i, pool) in [&pool, &second, &stranger].into_iter().enumerate() {
        let done = node.write(file, i as u64 * 4096, page_of(pool, 40 + i as u8, 4096));
        assert_eq!(done.result, Ok(FileValue::Bytes(4096)));
    }
    for pool in [&pool, &stranger] {
        let page = node.read(file, 0, pool.take().unwrap(), 4096 * 3).page.unwrap();
        assert_eq!((page[0], page[4096], page[8192]), (40, 41, 42));
    }
}

fn the_direct_files_say_whether_they_are(choice: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::in_dir(choice, dir.path());
    create(&mut node, "one");
    let stats = *node.driver.stats();
    assert_eq!(stats.files_direct + stats.files_cached, 1);
    assert_eq!(node.driver.caps().direct_io, Some(stats.files_direct == 1));
    // A file system in memory has no direct I/O on older kernels; either way bytes are bytes.
    if let Ok(shm) = tempfile::tempdir_in("/dev/shm") {
        let (mut node, pool) = (Node::in_dir(choice, shm.path()), pool());
        let file = create(&mut node, "x");
        node.write(file, 0, page_of(&pool, 6, 8192));
        let page = node.read(file, 4096, pool.take().unwrap(), 4096).page.unwrap();
        assert!(page.len() == 4096 && page.iter().all(|&b| b == 6));
    }
}
