//! Storing for others: admission, then the body, then the receipt.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use pangea_base::{CoreId, Hash, PeerId, ShardKey, UnixTime};
use pangea_store::{AppendRefused, BlobKey, BlobKind, Key, ShardMeta, StoreRefused, WriteId};
use pangea_trace::{Event, EventData, flags, if_trace, trace_event, words};
use pangea_wire::{
    BlobBody, Channel, PutBody, PutPart, Receipt, ShardHeader, StoreRefusal, StoreRequest,
    StoreResponse, StoreTrailer,
};

use super::{Next, PROVEN_MAX, Serve, Stage, is_too_long};
use crate::holdings::{Asker, Delivery};
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
    // The shard is here already: what comes is only compared with it.
    held: Option<Held>,
}

/// A shard that was here before.
struct Held {
    root: Hash,
    length: u64,
    lease: UnixTime,
}

/// What a write has been charged, and to whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bill {
    owner: PeerId,
    from: IpAddr,
    spent: u64,
}

impl Bill {
    pub(super) fn settle(self, shared: &mut Shared, kept: u64) {
        let Bill { owner, from, spent } = self;
        let question = LedgerQuestion::Settle { owner, from, spent, kept };
        shared.send(CoreId(0), Message::Ledger(0, question));
    }
}

/// A shard whose request ended while the disk was at it.
pub(super) struct OrphanShard {
    key: ShardKey,
    trailer: Option<StoreTrailer>,
    bill: Bill,
}

impl OrphanShard {
    /// It is on disk (or not): it is paid for, and goes if it isn't what its origin meant.
    pub(super) fn written(&self, shared: &mut Shared, stored: Option<&(Hash, u64)>) {
        let Some(&(root, length)) = stored else { return self.bill.settle(shared, 0) };
        self.bill.settle(shared, on_disk(shared, Key::shard(self.bill.owner, self.key)));
        if self.trailer != Some(StoreTrailer { root, length })
            && let Some(store) = &mut shared.store
        {
            let _ = store.delete(Key::shard(self.bill.owner, self.key));
        }
    }
}

/// What the disk takes for something that is held.
fn on_disk(shared: &Shared, key: Key) -> u64 {
    shared.store.as_ref().and_then(|store| store.disk_bytes(&key)).unwrap_or(0)
}

/// A manifest or placement page on its way to the disk.
pub(super) struct BlobWriting {
    key: BlobKey,
    body: BlobBody,
    length: u64,
    hash: Option<Hash>,
    admission: Admission,
    submitted: Option<u64>,
    // It was here before, and takes no more room.
    held: bool,
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

    pub(super) fn waits_for_us(&self) -> bool {
        matches!(self.admission, Admission::Asked) || self.pending.is_some() || self.is_committing()
    }

    pub(super) fn is_committing(&self) -> bool {
        self.trailer.is_some()
    }

    /// The request ended: nothing half-written stays, nothing is paid for that is not kept.
    fn abandon(
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

    pub(super) fn waits_for_us(&self) -> bool {
        matches!(self.admission, Admission::Asked) || self.is_committing()
    }

    pub(super) fn is_committing(&self) -> bool {
        self.submitted.is_some()
    }

    fn abandon(&mut self, shared: &mut Shared, owner: PeerId, from: IpAddr) {
        self.admission.settle(shared, owner, from, 0);
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
            Bill { owner, from, spent }.settle(shared, kept);
            *self = Admission::Settled;
        }
    }
}

impl Serve {
    /// A request ends before its time. What can't be stopped any more is settled when it is done.
    pub(super) fn abandon(&mut self, shared: &mut Shared, id: u64, request: &mut super::Request) {
        let (owner, from) = (request.peer, request.from);
        let bill = |spent| Bill { owner, from, spent };
        match &mut request.stage {
            Stage::Shard(writing) => match (&writing.admission, writing.write) {
                (Admission::Asked, _) => {
                    self.unpaid.insert(id, bill(writing.header.length_max));
                }
                (Admission::Spent(spent), Some(write))
                    if writing.trailer.is_some() && writing.stored.is_none() =>
                {
                    self.by_write.remove(&write);
                    let (key, trailer) = (writing.header.key, writing.trailer);
                    self.orphans.insert(write, OrphanShard { key, trailer, bill: bill(*spent) });
                }
                _ => writing.abandon(shared, &mut self.by_write, owner, from),
            },
            Stage::Blob(writing) => match (&writing.admission, writing.submitted) {
                (Admission::Asked, _) => {
                    self.unpaid.insert(id, bill(writing.length));
                }
                (Admission::Spent(spent), Some(ticket)) if !writing.held => {
                    self.orphan_blobs.insert(ticket, (writing.key, bill(*spent)));
                }
                _ => writing.abandon(shared, owner, from),
            },
            _ => {}
        }
    }

    /// The disk is done with a page whose request is gone.
    pub(super) fn orphan_blob_written(&mut self, shared: &mut Shared, delivery: Delivery) {
        if let Some((key, bill)) = self.orphan_blobs.remove(&delivery.ticket) {
            bill.settle(shared, on_disk(shared, Key::blob(bill.owner, key)));
        }
    }

    /// The message of a store request: checked, and the ledger asked.
    pub(super) fn store_request(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let asked = match request.reader.message::<StoreRequest>() {
            Ok(Some(asked)) => asked,
            Ok(None) => return self.read(shared, id),
            Err(sent) => return self.misbehaved(shared, id, &sent),
        };
        if let StoreRequest::PutShard(header) = &asked
            && is_too_long(header.lease, shared.wall)
        {
            return self.refuse(shared, id, StoreRefusal::BadRequest);
        }
        if let Err(refusal) = self.prove(shared, id, &asked) {
            return self.refuse(shared, id, refusal);
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

    fn refuse(&mut self, shared: &Shared, id: u64, refusal: StoreRefusal) -> Next {
        self.refused += 1;
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        request.refused(shared, &refusal);
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
                return self.refuse(shared, id, refusal);
            }
            Admission::Spent(_) | Admission::Settled => {}
        }
        if writing.stored.is_some() {
            return self.shard_stored(shared, id);
        }
        if writing.trailer.is_some() {
            return Next::Wait;
        }
        if writing.held.is_some() {
            return self.compare(shared, id);
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
            return self.refuse(shared, id, StoreRefusal::NotAccepting);
        };
        let meta = ShardMeta {
            owner: request.peer,
            code: writing.header.code,
            prefix: pangea_base::Prefix::of(request.from),
            until: writing.header.lease,
            length_max: writing.header.length_max,
        };
        match store.begin(writing.header.key, meta) {
            Ok(write) => {
                writing.write = Some(write);
                self.by_write.insert(write, id);
                Next::Again
            }
            Err(StoreRefused::AlreadyHeld { root, length, until: lease, .. }) => {
                // The same shard once more (its receipt was lost, say) is answered like the first.
                writing.held = Some(Held { root, length, lease });
                Next::Again
            }
            Err(refused) => {
                let refusal = refusal(&refused);
                self.refuse_shard(shared, id, refusal)
            }
        }
    }

    /// A shard that is here already: its bytes are let go, and its trailer decides.
    fn compare(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let Stage::Shard(writing) = &mut request.stage else { return Next::Again };
        let Some(Held { root, length, lease }) = writing.held else { return Next::Again };
        let trailer = match writing.body.next(&mut request.reader) {
            Ok(Some(PutPart::Unit(_))) => return Next::Again,
            Ok(Some(PutPart::Trailer(trailer))) => trailer,
            Ok(None) => return self.read(shared, id),
            Err(sent) => return self.misbehaved(shared, id, &sent),
        };
        let key = writing.header.key;
        if trailer != (StoreTrailer { root, length }) || lease < writing.header.lease {
            return self.refuse_shard(shared, id, StoreRefusal::AlreadyHeldDifferent);
        }
        writing.admission.settle(shared, request.peer, request.from, 0);
        let receipt = Receipt::issue(&shared.identity, key, root, length, lease);
        request.answer(&StoreResponse::Stored(receipt));
        Next::Again
    }

    fn refuse_shard(&mut self, shared: &mut Shared, id: u64, refusal: StoreRefusal) -> Next {
        if let Some(request) = self.requests.get_mut(&id)
            && let Stage::Shard(writing) = &mut request.stage
        {
            if_trace! {
                let (chunk, index) = (writing.header.key.chunk.0.into(), writing.header.key.index.0);
                let reason = words(&refusal.to_string());
                let event = Event::new(EventData::ShardRefused { chunk, index, reason });
                let event = event.of(&request.context).with_peer(&request.peer);
                shared.tracer.log(event.flagged(flags::ERROR));
            }
            writing.abandon(shared, &mut self.by_write, request.peer, request.from);
        }
        self.refuse(shared, id, refusal)
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
                let kept = on_disk(shared, Key::shard(request.peer, key));
                writing.admission.settle(shared, request.peer, request.from, kept);
                trace_event!(
                    shared.tracer,
                    &request.context,
                    &request.peer,
                    ShardStored { chunk: key.chunk.0.into(), index: key.index.0, bytes: length }
                );
                let receipt = Receipt::issue(&shared.identity, key, root, length, lease);
                request.answer(&StoreResponse::Stored(receipt));
                Next::Again
            }
            Some(Ok(_)) => {
                // What arrived is not what the origin meant: it must not stay. It is paid for until
                // its deletion is durable and gives everything back.
                let kept = on_disk(shared, Key::shard(request.peer, key));
                writing.admission.settle(shared, request.peer, request.from, kept);
                if let Some(store) = &mut shared.store {
                    let _ = store.delete(Key::shard(request.peer, key));
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
                return self.refuse(shared, id, refusal);
            }
            Admission::Spent(_) | Admission::Settled => {}
        }
        match writing.written.take() {
            Some(Ok(())) => {
                let kept = if writing.held {
                    0
                } else {
                    on_disk(shared, Key::blob(request.peer, writing.key))
                };
                writing.admission.settle(shared, request.peer, request.from, kept);
                request.answer(&StoreResponse::BlobStored);
                return Next::Again;
            }
            Some(Err(why)) => {
                tracing::warn!("a page was not stored: {why}");
                writing.abandon(shared, request.peer, request.from);
                return self.refuse(shared, id, StoreRefusal::Full);
            }
            None if writing.submitted.is_some() => return Next::Wait,
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
            return self.refuse(shared, id, StoreRefusal::NotAccepting);
        };
        if wrong {
            writing.abandon(shared, request.peer, request.from);
            return self.refuse(shared, id, StoreRefusal::RootMismatch);
        }
        writing.held = store.disk_bytes(&Key::blob(request.peer, writing.key)).is_some();
        let ticket = self.holdings.ticket(Asker::BlobWriter(id));
        match store.put_blob(
            writing.key,
            request.peer,
            pangea_base::Prefix::of(request.from),
            bytes,
            ticket,
        ) {
            Ok(()) => {
                writing.submitted = Some(ticket);
                Next::Wait
            }
            Err(refused) => {
                self.holdings.redeem(ticket);
                let refusal = refusal(&refused);
                writing.abandon(shared, request.peer, request.from);
                self.refuse(shared, id, refusal)
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
                held: None,
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
        submitted: None,
        held: false,
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
        StoreRefused::TooManyHeld { .. } => StoreRefusal::Full,
        // Still opening what is on disk: soon it is otherwise.
        StoreRefused::NotReady => StoreRefusal::Busy,
        StoreRefused::Poisoned => StoreRefusal::Internal,
    }
}
