//! Storing for others: admission, then the body, then the receipt.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use pangea_base::{CoreId, Hash, PeerId};
use pangea_store::{AppendRefused, BlobKey, BlobKind, Key, ShardMeta, StoreRefused, WriteId};
use pangea_wire::{
    BlobBody, Channel, PutBody, PutPart, Receipt, ShardHeader, StoreRefusal, StoreRequest,
    StoreResponse, StoreTrailer,
};

use super::{Next, PROVEN_MAX, Serve, Stage};
use crate::holdings::Asker;
use crate::ledger::{LedgerAnswer, LedgerQuestion};
use crate::message::{HoldingAnswer, Message};
use crate::request;
use crate::shared::Shared;

/// A shard on its way to the disk.
pub(super) struct ShardWriting {
    header: ShardHeader,
    body: PutBody,
    admission: Admission,
    write: Option<WriteId>,
    // Cut from the stream and not yet taken by the store.
    pending: Option<Bytes>,
    trailer: Option<StoreTrailer>,
    stored: Option<Result<(Hash, u64), StoreRefusal>>,
}

/// A manifest or placement page on its way to the disk.
pub(super) struct BlobWriting {
    key: BlobKey,
    body: BlobBody,
    length: u64,
    hash: Option<Hash>,
    admission: Admission,
    submitted: bool,
    written: Option<Result<(), String>>,
}

/// What the ledger said of a write.
enum Admission {
    Asked,
    /// So many bytes are taken out of the grant.
    Spent(u64),
    Refused(StoreRefusal),
    /// What was not kept was given back.
    Settled,
}

impl ShardWriting {
    pub(super) fn admitted(&mut self, answer: LedgerAnswer) {
        self.admission.answered(answer, self.header.length_max);
    }

    pub(super) fn stored(&mut self, result: Result<(Hash, u64), StoreRefusal>) {
        self.stored = Some(result);
    }

    /// The request ended: nothing half-written stays, nothing is paid for that is not kept.
    pub(super) fn abandon(
        &mut self,
        shared: &mut Shared,
        by_write: &mut BTreeMap<WriteId, u64>,
        owner: PeerId,
        from: IpAddr,
    ) {
        if let Some(write) = self.write.take() {
            by_write.remove(&write);
            if let (None, Some(store)) = (&self.stored, &mut shared.store) {
                store.abort(write);
            }
        }
        self.admission.settle(shared, owner, from, 0);
    }
}

impl BlobWriting {
    pub(super) fn admitted(&mut self, answer: LedgerAnswer) {
        self.admission.answered(answer, self.length);
    }

    pub(super) fn written(&mut self, answer: HoldingAnswer) {
        self.written = Some(match answer {
            HoldingAnswer::Failed(why) => Err(why),
            _ => Ok(()),
        });
    }

    pub(super) fn abandon(&mut self, shared: &mut Shared, owner: PeerId, from: IpAddr) {
        let kept = if self.submitted { self.length } else { 0 };
        self.admission.settle(shared, owner, from, kept);
    }
}

impl Admission {
    fn answered(&mut self, answer: LedgerAnswer, bytes: u64) {
        *self = match answer {
            LedgerAnswer::Spent => Admission::Spent(bytes),
            LedgerAnswer::Refused(refusal) => Admission::Refused(refusal),
            LedgerAnswer::Granted(_) | LedgerAnswer::Noted => {
                Admission::Refused(StoreRefusal::Internal)
            }
        };
    }

    fn settle(&mut self, shared: &mut Shared, owner: PeerId, from: IpAddr, kept: u64) {
        if let Admission::Spent(spent) = *self {
            let question = LedgerQuestion::Settle { owner, from, spent, kept: kept.min(spent) };
            shared.send(CoreId(0), Message::Ledger(0, question));
            *self = Admission::Settled;
        }
    }
}

impl Serve {
    /// The message of a store request: checked, and the ledger asked.
    pub(super) fn store_request(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let asked = match request.reader.message::<StoreRequest>() {
            Ok(Some(asked)) => asked,
            Ok(None) => return self.read(shared, id),
            Err(sent) => return self.misbehaved(shared, id, &sent),
        };
        if let Err(refusal) = self.prove(shared, id, &asked) {
            return self.refuse(id, refusal);
        }
        let grant = Box::new(asked.auth().grant.clone());
        let (stage, bytes) = match begin(asked) {
            Ok(begun) => begun,
            Err(sent) => return self.misbehaved(shared, id, &sent),
        };
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        request.stage = stage;
        let question = LedgerQuestion::Spend { grant, from: request.from, bytes };
        shared.send(CoreId(0), Message::Ledger(id, question));
        Next::Wait
    }

    /// Whether the peer may use the grant it shows, on this connection, for this object.
    fn prove(
        &mut self,
        shared: &Shared,
        id: u64,
        asked: &StoreRequest,
    ) -> Result<(), StoreRefusal> {
        let Some(request) = self.requests.get(&id) else { return Err(StoreRefusal::Internal) };
        let known = self.proven.entry(request.conn).or_default();
        let (auth, locator) = (asked.auth(), asked.locator());
        if known.contains(auth) && auth.grant.locator == locator && shared.wall < auth.grant.expires
        {
            return Ok(());
        }
        let exporter = request::exporter(&shared.transport, request.conn)
            .map_err(|_| StoreRefusal::Internal)?;
        let (holder, origin) = (shared.identity.peer(), request.peer);
        let channel = Channel { exporter: &exporter, holder, origin, locator };
        auth.verify(&channel, shared.wall).map_err(StoreRefusal::BadGrant)?;
        if known.len() >= PROVEN_MAX {
            known.remove(0);
        }
        known.push(auth.clone());
        Ok(())
    }

    fn refuse(&mut self, id: u64, refusal: StoreRefusal) -> Next {
        self.refused += 1;
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        request.answer(&StoreResponse::Refused(refusal));
        Next::Again
    }

    /// A shard: from the stream to the store, then the receipt.
    pub(super) fn shard(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let Stage::Shard(writing) = &mut request.stage else { return Next::Again };
        match &writing.admission {
            Admission::Asked => return Next::Wait,
            Admission::Refused(refusal) => {
                let refusal = *refusal;
                return self.refuse(id, refusal);
            }
            Admission::Spent(_) | Admission::Settled => {}
        }
        if writing.stored.is_some() {
            return self.shard_stored(shared, id);
        }
        if writing.trailer.is_some() {
            return Next::Wait;
        }
        let Some(write) = writing.write else { return self.begin_write(shared, id) };
        let Some(store) = &mut shared.store else { return Next::Over(request::CANCELLED) };
        if let Some(unit) = writing.pending.take() {
            return match store.append(write, &unit) {
                Ok(()) => Next::Again,
                Err(AppendRefused::NoPage) => {
                    // The store says when; until then QUIC's window holds the sender back.
                    writing.pending = Some(unit);
                    Next::Wait
                }
                Err(AppendRefused::NotOpen) => Next::Wait,
                Err(AppendRefused::NotAGroup | AppendRefused::TooLong { .. }) => {
                    self.refuse_shard(shared, id, StoreRefusal::BadRequest)
                }
            };
        }
        match writing.body.next(&mut request.reader) {
            Ok(Some(PutPart::Unit(unit))) => writing.pending = Some(unit),
            Ok(Some(PutPart::Trailer(trailer))) => {
                writing.trailer = Some(trailer);
                store.commit(write);
            }
            Ok(None) => return self.read(shared, id),
            Err(sent) => return self.misbehaved(shared, id, &sent),
        }
        Next::Again
    }

    fn begin_write(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let Stage::Shard(writing) = &mut request.stage else { return Next::Again };
        let Some(store) = &mut shared.store else {
            return self.refuse(id, StoreRefusal::NotAccepting);
        };
        let meta = ShardMeta {
            owner: request.peer,
            code: writing.header.code,
            lease: writing.header.lease,
            length_max: writing.header.length_max,
        };
        match store.begin(writing.header.key, meta) {
            Ok(write) => {
                writing.write = Some(write);
                self.by_write.insert(write, id);
                Next::Again
            }
            Err(refused) => {
                let refusal = refusal(&refused);
                self.refuse_shard(shared, id, refusal)
            }
        }
    }

    fn refuse_shard(&mut self, shared: &mut Shared, id: u64, refusal: StoreRefusal) -> Next {
        if let Some(request) = self.requests.get_mut(&id)
            && let Stage::Shard(writing) = &mut request.stage
        {
            writing.abandon(shared, &mut self.by_write, request.peer, request.from);
        }
        self.refuse(id, refusal)
    }

    /// The shard is durable, or the disk failed.
    fn shard_stored(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let Stage::Shard(writing) = &mut request.stage else { return Next::Again };
        writing.write = None;
        let (key, lease) = (writing.header.key, writing.header.lease);
        let trailer = writing.trailer;
        match writing.stored.take() {
            Some(Ok((root, length))) if trailer == Some(StoreTrailer { root, length }) => {
                writing.admission.settle(shared, request.peer, request.from, length);
                let receipt = Receipt::issue(&shared.identity, key, root, length, lease);
                request.answer(&StoreResponse::Stored(receipt));
                Next::Again
            }
            Some(Ok(_)) => {
                // What arrived is not what the origin meant: it must not stay.
                if let Some(store) = &mut shared.store {
                    let _ = store.delete(Key::Shard(key));
                }
                self.refuse_shard(shared, id, StoreRefusal::RootMismatch)
            }
            Some(Err(refusal)) => self.refuse_shard(shared, id, refusal),
            None => Next::Wait,
        }
    }

    /// A manifest or placement page.
    pub(super) fn blob(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let Stage::Blob(writing) = &mut request.stage else { return Next::Again };
        match &writing.admission {
            Admission::Asked => return Next::Wait,
            Admission::Refused(refusal) => {
                let refusal = *refusal;
                return self.refuse(id, refusal);
            }
            Admission::Spent(_) | Admission::Settled => {}
        }
        match writing.written.take() {
            Some(Ok(())) => {
                writing.admission.settle(shared, request.peer, request.from, writing.length);
                request.answer(&StoreResponse::BlobStored);
                return Next::Again;
            }
            Some(Err(why)) => {
                tracing::warn!("a page was not stored: {why}");
                writing.submitted = false;
                writing.abandon(shared, request.peer, request.from);
                return self.refuse(id, StoreRefusal::Full);
            }
            None if writing.submitted => return Next::Wait,
            None => {}
        }
        match writing.body.next(&mut request.reader) {
            Ok(Some(bytes)) => self.submit_blob(shared, id, bytes),
            Ok(None) => self.read(shared, id),
            Err(sent) => self.misbehaved(shared, id, &sent),
        }
    }

    fn submit_blob(&mut self, shared: &mut Shared, id: u64, bytes: Bytes) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let Stage::Blob(writing) = &mut request.stage else { return Next::Again };
        let wrong = writing.hash.is_some_and(|hash| Hash::of(&bytes) != hash);
        let Some(store) = &mut shared.store else {
            return self.refuse(id, StoreRefusal::NotAccepting);
        };
        if wrong {
            writing.abandon(shared, request.peer, request.from);
            return self.refuse(id, StoreRefusal::RootMismatch);
        }
        let ticket = self.holdings.ticket(Asker::BlobWriter(id));
        match store.put_blob(writing.key, request.peer, bytes, ticket) {
            Ok(()) => {
                writing.submitted = true;
                Next::Wait
            }
            Err(refused) => {
                self.holdings.redeem(ticket);
                let refusal = refusal(&refused);
                writing.abandon(shared, request.peer, request.from);
                self.refuse(id, refusal)
            }
        }
    }
}

/// The first stage of a store request, and how many bytes it takes at most.
fn begin(asked: StoreRequest) -> Result<(Stage, u64), pangea_wire::PeerSent> {
    let (key, length, limit, hash) = match asked {
        StoreRequest::PutShard(header) => {
            let bytes = header.length_max;
            let writing = ShardWriting {
                body: PutBody::new(header.length_max),
                header,
                admission: Admission::Asked,
                write: None,
                pending: None,
                trailer: None,
                stored: None,
            };
            return Ok((Stage::Shard(Box::new(writing)), bytes));
        }
        StoreRequest::PutManifest(header) => {
            let kind = match header.page {
                pangea_wire::ManifestPage::Root(_) => BlobKind::ManifestRoot,
                pangea_wire::ManifestPage::Page(_) => BlobKind::ManifestPage,
            };
            let (id, locator) = (header.page.hash(), header.locator);
            (BlobKey { locator, kind, id }, header.length, header.page.bytes_max(), Some(id))
        }
        StoreRequest::PutPlacement(header) => {
            let (kind, id) = (BlobKind::Placement, placement_id(header.page));
            let key = BlobKey { locator: header.locator, kind, id };
            (key, header.length, pangea_wire::limits::PAGE_BYTES_MAX, None)
        }
    };
    let writing = BlobWriting {
        key,
        body: BlobBody::new(length, limit)?,
        length: u64::from(length),
        hash,
        admission: Admission::Asked,
        submitted: false,
        written: None,
    };
    Ok((Stage::Blob(Box::new(writing)), u64::from(length)))
}

/// Placement pages are found by number: a newer page takes the place of the older.
pub(super) fn placement_id(page: u32) -> Hash {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&page.to_le_bytes());
    Hash(id)
}

/// The store's refusal in the words of the wire.
fn refusal(refused: &StoreRefused) -> StoreRefusal {
    match refused {
        StoreRefused::AlreadyHeld { .. } => StoreRefusal::AlreadyHeldDifferent,
        StoreRefused::BeingWritten
        | StoreRefused::BeingDeleted
        | StoreRefused::TooManyWrites { .. } => StoreRefusal::Busy,
        StoreRefused::TooLong { limit } => StoreRefusal::TooLong { limit: *limit },
        StoreRefused::Full { .. } | StoreRefused::TooMany { .. } => StoreRefusal::Full,
        StoreRefused::NotReady | StoreRefused::NoPartition => StoreRefusal::NotAccepting,
        StoreRefused::Poisoned => StoreRefusal::Internal,
    }
}
