//! Writing format 1, as the program before this one did: for tests of carrying a store over.

use pangea_base::Hash;

use super::block::{BlockKind, Place};
use super::cursor::Fields;
use super::entry::Put;
use super::header::sealed;
use super::{Named, VERSION_OLD};

pub(crate) fn version_block(out: &mut [u8]) {
    sealed(out, |fields| {
        fields.put(b"PANGEAST");
        fields.put(&VERSION_OLD.to_le_bytes());
    });
}

pub(crate) fn extent_block(out: &mut [u8], partition: u8, extent: u32, blocks: u32) {
    sealed(out, |fields| {
        fields.put(b"PANGEAEX");
        fields.put(&VERSION_OLD.to_le_bytes());
        fields.put(&[partition, 0, 0, 0]);
        fields.put(&extent.to_le_bytes());
        fields.put(&blocks.to_le_bytes());
    });
}

/// One block of a journal, a commit of its own but for block 0, which ends an empty snapshot. `link`
/// becomes its checksum.
pub(crate) fn journal_block(
    out: &mut [u8],
    place: Place,
    sequence: u64,
    entries_before: u64,
    link: &mut Hash,
    entries: &[u8],
) {
    let kind = if sequence == 0 { BlockKind::SnapshotEnd } else { BlockKind::Commit };
    sealed(out, |fields| {
        fields.put(b"PANGEAJB");
        fields.put(&VERSION_OLD.to_le_bytes());
        fields.put(&[place.partition, kind as u8]);
        fields.put(&u16::try_from(entries.len()).expect("entries fit a block").to_le_bytes());
        fields.put(&place.generation.to_le_bytes());
        fields.put(&sequence.to_le_bytes());
        fields.put(&sequence.to_le_bytes());
        fields.put(&entries_before.to_le_bytes());
        fields.put(&link.0);
        fields.put(entries);
    });
    *link = Hash(*out.first_chunk().expect("a block begins with its checksum"));
}

pub(crate) fn put_bytes(put: &Put, out: &mut [u8]) -> usize {
    let mut fields = Fields::new(out);
    put_name(&mut fields, [1, 2], put.key.named());
    match put.code {
        Some(code) => {
            let (k, m) = code.into();
            fields.put(&[k, m]);
            fields.put(&put.until.0.to_le_bytes());
        }
        None => fields.put(&put.order.to_le_bytes()),
    }
    fields.put(&put.key.owner().0);
    fields.put(&put.stored.0.to_le_bytes());
    fields.put(&put.root.0);
    fields.put(&put.length.to_le_bytes());
    fields.put(&[u8::try_from(put.runs.len()).expect("RUNS_MAX fits a byte")]);
    for run in &put.runs {
        fields.put(&run.extent.to_le_bytes());
        fields.put(&run.start.to_le_bytes());
        fields.put(&run.blocks.to_le_bytes());
    }
    fields.used()
}

pub(crate) fn delete_bytes(named: Named, out: &mut [u8]) -> usize {
    let mut fields = Fields::new(out);
    put_name(&mut fields, [3, 4], named);
    fields.used()
}

fn put_name(fields: &mut Fields<'_>, [shard, blob]: [u8; 2], named: Named) {
    match named {
        Named::Shard(key) => {
            fields.put(&[shard]);
            fields.put(&key.locator.0);
            fields.put(&key.chunk.0.to_le_bytes());
            fields.put(&[key.index.0]);
        }
        Named::Blob(key) => {
            fields.put(&[blob]);
            fields.put(&key.locator.0);
            fields.put(&[key.kind as u8]);
            fields.put(&key.id.0);
        }
    }
}
