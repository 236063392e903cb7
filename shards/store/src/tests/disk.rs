use pangea_base::PagePool;
use pangea_base::file::{FileId, FileName, FileOp, FileRequest, FileValue, OpenMode};

use super::rig::*;
use crate::sim::{Disk, Image, Mishap, Survivors};

const BLOCK: usize = 4096;

fn name() -> FileName {
    FileName::new("a")
}

/// Does one operation; pages go out full of ones, and what came back is there to be read.
fn does(disk: &mut Disk, op: FileOp) -> (FileValue, Vec<u8>) {
    let pool = PagePool::new(65536, 1);
    let mut page = pool.take().unwrap();
    page.whole_mut().fill(1);
    page.set_len(65536);
    disk.submit(FileRequest { token: 0, op, page: Some(page) });
    let done = disk.step().unwrap();
    (done.result.unwrap(), done.page.unwrap()[..].to_vec())
}

fn open(disk: &mut Disk) -> FileId {
    match does(disk, FileOp::Open { name: name(), mode: OpenMode::DirectCreate }).0 {
        FileValue::Opened { file, .. } => file,
        other => panic!("{other:?}"),
    }
}

fn write(disk: &mut Disk, file: FileId, blocks: u32) {
    let length = blocks * BLOCK as u32;
    let (value, page) = does(disk, FileOp::Write { file, offset: 0, length });
    assert_eq!(value, FileValue::Bytes(length), "a lie says that all went well");
    assert!(page.iter().all(|byte| *byte == 1), "the writer's page is as it was");
}

/// A file of so many blocks of ones, synced, and what goes wrong with everything behind that.
fn lying(blocks: u32, mishap: Mishap) -> (Disk, FileId) {
    let mut disk = Disk::without_history(5);
    let file = open(&mut disk);
    write(&mut disk, file, blocks);
    does(&mut disk, FileOp::Sync { file });
    disk.set_mishaps(move |_, _| Some(mishap.clone()));
    (disk, file)
}

fn bytes(disk: &Disk) -> Vec<u8> {
    disk.image().remove(&name()).unwrap()
}

/// Bits in which this differs from ones.
fn bits(bytes: &[u8]) -> u32 {
    bytes.iter().map(|byte| (byte ^ 1).count_ones()).sum()
}

#[test]
fn a_write_that_is_lost_is_said_to_be_done() {
    let mut disk = Disk::without_history(5);
    let file = open(&mut disk);
    disk.set_mishaps(|_, _| Some(Mishap::LoseWrite));
    write(&mut disk, file, 2);
    does(&mut disk, FileOp::Sync { file });
    disk.power_cut(Survivors::All);
    assert!(bytes(&disk).is_empty());
}

#[test]
fn a_flipped_write_changes_one_bit_on_the_disk_and_none_of_the_writer() {
    let (mut disk, file) = lying(2, Mishap::FlipWrite);
    write(&mut disk, file, 2);
    assert_eq!(bits(&bytes(&disk)), 1);
}

#[test]
fn a_misdirected_write_stays_within_the_file() {
    let mut elsewhere = 0;
    for seed in 0..20 {
        let mut disk = Disk::without_history(seed);
        let file = open(&mut disk);
        does(&mut disk, FileOp::Allocate { file, length: 4 * BLOCK as u64 });
        disk.set_mishaps(|_, _| Some(Mishap::MisdirectWrite));
        write(&mut disk, file, 1);
        let bytes = bytes(&disk);
        assert_eq!(bytes.len(), 4 * BLOCK);
        let written: Vec<bool> = bytes.chunks(BLOCK).map(|block| block[0] == 1).collect();
        assert_eq!(written.iter().filter(|written| **written).count(), 1);
        elsewhere += u32::from(!written[0]);
    }
    assert!(elsewhere > 5, "{elsewhere} of 20");
}

#[test]
fn reads_that_lie_leave_the_disk_as_it_is() {
    let read = |mishap: Mishap| {
        let (mut disk, file) = lying(4, mishap);
        let read = does(&mut disk, FileOp::Read { file, offset: 0, length: 4 * BLOCK as u32 });
        assert_eq!(bits(&bytes(&disk)), 0);
        read
    };
    let (value, page) = read(Mishap::FlipRead);
    assert_eq!((value, bits(&page[..4 * BLOCK])), (FileValue::Bytes(4 * BLOCK as u32), 1));
    assert_eq!(read(Mishap::ShortRead).0, FileValue::Bytes(2 * BLOCK as u32));
    assert_eq!(read(Mishap::MisdirectRead).0, FileValue::Bytes(4 * BLOCK as u32));
}

#[test]
fn a_removed_file_takes_its_space_until_nobody_has_it_open() {
    for killed in [false, true] {
        let (mut disk, file) = lying(3, Mishap::FlipRead);
        assert_eq!(disk.bytes_taken(), 3 * BLOCK as u64);
        does(&mut disk, FileOp::Remove { name: name() });
        assert_eq!(disk.bytes_taken(), 3 * BLOCK as u64);
        // Nobody sees after a cut what is written to it now.
        write(&mut disk, file, 4);
        assert_eq!(disk.bytes_taken(), 4 * BLOCK as u64);
        match killed {
            true => disk.kill(),
            false => drop(does(&mut disk, FileOp::Close { file })),
        }
        assert_eq!(disk.bytes_taken(), 0);
        disk.power_cut(Survivors::All);
        assert!(disk.image().is_empty());
    }
}

#[test]
fn lengths_survive_or_do_not_whatever_becomes_of_the_bytes() {
    let cut = |survivors| {
        let (mut disk, file) = lying(1, Mishap::FlipRead);
        write(&mut disk, file, 3);
        does(&mut disk, FileOp::Allocate { file, length: 5 * BLOCK as u64 });
        disk.power_cut(survivors);
        let bytes = bytes(&disk);
        let ones = bytes.iter().filter(|byte| **byte == 1).count();
        (bytes.len() / BLOCK, ones / BLOCK)
    };
    assert_eq!(cut(Survivors::None), (1, 1));
    assert_eq!(cut(Survivors::All), (5, 3));
    assert_eq!(cut(Survivors::OldLengths), (1, 1));
    assert_eq!(cut(Survivors::NewLengths), (5, 1));
    assert_eq!(cut(Survivors::TornAt { number: 0, part: 6, unit: 4096 }), (5, 2));
}

/// A life with something unsynced at its end.
fn lived(disk: Disk) -> Disk {
    let mut rig = Rig::open(disk, config(0, 1));
    for chunk in 0..6 {
        rig.put(key(1, chunk), &bytes_of(u64::from(chunk), 30_000)).unwrap();
    }
    rig.delete(key(1, 3));
    for chunk in 6..9 {
        rig.put_soon(key(1, chunk), &bytes_of(u64::from(chunk), 30_000)).unwrap();
    }
    rig.store.delete(shard_name(key(1, 1))).unwrap();
    for _ in 0..9 {
        rig.step();
    }
    rig.disk
}

#[test]
fn a_disk_without_history_knows_what_a_cut_leaves() {
    let mut images: Vec<Image> = Vec::new();
    let random = (0..4).map(Survivors::Random);
    let torn = Survivors::Torn { part: 3, unit: 512 };
    for survivors in random.chain([Survivors::None, Survivors::All, Survivors::Only(1), torn]) {
        let [with, without] = [Disk::new(3), Disk::without_history(3)].map(|disk| {
            let mut disk = lived(disk);
            disk.power_cut(survivors);
            disk.image()
        });
        assert!(with == without, "{survivors:?}");
        let rig = Rig::open(Disk::with_image(without.clone(), 1), config(0, 1));
        assert!(rig.recovered().shards >= 4, "{survivors:?}: {:?}", rig.recovered());
        if !images.contains(&without) {
            images.push(without);
        }
    }
    assert!(images.len() > 2, "{} different ones", images.len());
}
