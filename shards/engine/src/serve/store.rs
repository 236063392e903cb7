//! Storing for others: admission, then the body, then the receipt.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use pangea_base::{CoreId, Hash, PeerId, Prefix, ShardKey, UnixTime};
use pangea_store::{
    AppendRefused, BlobKey, BlobKind, Key, Replaced, ShardMeta, StoreRefused, WriteId,
};
use pangea_trace::{Event, EventData, flags, if_trace, trace_event, words};
use pangea_wire::{
    BlobBody, Channel, PutBody, PutPart, Receipt, ShardHeader, StoreRefusal, StoreRequest,
    StoreResponse, StoreTrailer,
};

use super::{Next, PROVEN_MAX, Serve, Stage, lease_refused};
use crate::holdings::{Asker, Delivery};
use crate::ledger::{LedgerAnswer, LedgerQuestion};
use crate::message::{HoldingAnswer, Message};
use crate::request;
use crate::room::{blob_room, shard_room};
use crate::shared::Shared;

/// A shard on its way to the disk.
pub(super) struct ShardWriting {
    header: ShardHeader,
    bill: Bill,
    body: PutBody,
    admission: Admission,
    write: Option<WriteId>,
    // Cut from the stream and not yet taken by the store.
    pending: Option<Bytes>,
    trailer: Option<StoreTrailer>,
    stored: Option<Result<Written, StoreRefusal>>,
    // From when until when it is kept, by this node's clock.
    lease: Lease,
    // The shard is here already: what comes is only compared with it.
    held: Option<Held>,
}

/// From when until when something is kept.
#[derive(Clone, Copy)]
struct Lease {
    from: UnixTime,
    until: UnixTime,
}

/// A shard of the same owner that was here before.
struct Held {
    root: Hash,
    length: u64,
    lease: Lease,
}

/// How much earlier than asked for the lease of a shard that is here already may end: its origin
/// puts it once more because the first receipt did not arrive.
const AGAIN_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// A shard that is on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) root: Hash,
    pub(crate) length: u64,
    /// Bytes of disk that it takes.
    pub(crate) bytes: u64,
    /// What it took the place of.
    pub(crate) replaced: Option<Replaced>,
}

/// What a write is charged, to whom, and under which grant. Owner and network are those of the
/// entry in the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bill {
    grant: [u8; 16],
    owner: PeerId,
    from: Prefix,
    spent: u64,
}

impl Bill {
    pub(super) fn settle(self, shared: &mut Shared, kept: u64) {
        let Bill { grant, owner, from, spent } = self;
        let question = LedgerQuestion::Settle { grant, owner, from, spent, kept };
        shared.send(CoreId(0), Message::Ledger(0, question));
    }

    /// Something of the same owner made way for what was written.
    fn gave_way(self, shared: &mut Shared, replaced: Option<Replaced>) {
        if let Some(Replaced { prefix, bytes }) = replaced {
            let question = LedgerQuestion::Deleted { owner: self.owner, from: prefix, bytes };
            shared.send(CoreId(0), Message::Ledger(0, question));
        }
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
    pub(super) fn written(&self, shared: &mut Shared, stored: Option<&Written>) {
        let Some(&Written { root, length, bytes, replaced }) = stored else {
            return self.bill.settle(shared, 0);
        };
        self.bill.settle(shared, bytes);
        self.bill.gave_way(shared, replaced);
        if self.trailer != Some(StoreTrailer { root, length })
            && let Some(store) = &mut shared.store
        {
            let _ = store.delete(Key::shard(self.bill.owner, self.key));
        }
    }
}

/// A manifest or placement page on its way to the disk.
pub(super) struct BlobWriting {
    key: BlobKey,
    bill: Bill,
    body: BlobBody,
    hash: Option<Hash>,
    admission: Admission,
    submitted: Option<u64>,
    // Bytes of disk that it takes anew, and what it took the place of.
    written: Option<Result<(u64, Option<Replaced>), String>>,
}

/// What the ledger said of a write.
enum Admission {
    Asked,
    /// What the bill says is taken out of the grant.
    Spent,
    Refused(StoreRefusal),
    /// What was not kept was given back.
    Settled,
}

impl ShardWriting {
    pub(super) fn admitted(&mut self, answer: LedgerAnswer) {
        self.admission.answered(answer);
    }

    pub(super) fn stored(&mut self, result: Result<Written, StoreRefusal>) {
        self.stored = Some(result);
    }

    pub(super) fn waits_for_us(&self) -> bool {
        matches!(self.admission, Admission::Asked) || self.pending.is_some() || self.is_committing()
    }

    pub(super) fn is_committing(&self) -> bool {
        self.trailer.is_some()
    }

    /// The request ended: nothing half-written stays, nothing is paid for that is not kept.
    fn abandon(&mut self, shared: &mut Shared, by_write: &mut BTreeMap<WriteId, u64>) {
        if let Some(write) = self.write.take() {
            by_write.remove(&write);
            if let (None, Some(store)) = (&self.stored, &mut shared.store) {
                store.abort(write);
            }
        }
        self.admission.settle(shared, self.bill, 0);
    }
}

impl BlobWriting {
    pub(super) fn admitted(&mut self, answer: LedgerAnswer) {
        self.admission.answered(answer);
    }

    pub(super) fn written(&mut self, answer: HoldingAnswer) {
        self.written = Some(match answer {
            HoldingAnswer::Written { bytes, replaced } => Ok((bytes, replaced)),
            HoldingAnswer::Failed(why) => Err(why),
            _ => Err("the store answered another question".to_owned()),
        });
    }

    pub(super) fn waits_for_us(&self) -> bool {
        matches!(self.admission, Admission::Asked) || self.is_committing()
    }

    pub(super) fn is_committing(&self) -> bool {
        self.submitted.is_some()
    }

    fn abandon(&mut self, shared: &mut Shared) {
        self.admission.settle(shared, self.bill, 0);
    }
}

impl Admission {
    fn answered(&mut self, answer: LedgerAnswer) {
        *self = match answer {
            LedgerAnswer::Spent => Admission::Spent,
            LedgerAnswer::Refused(refusal) => Admission::Refused(refusal),
            LedgerAnswer::Granted(_) | LedgerAnswer::Released => {
                Admission::Refused(StoreRefusal::Internal)
            }
        };
    }

    fn settle(&mut self, shared: &mut Shared, bill: Bill, kept: u64) {
        if let Admission::Spent = self {
            bill.settle(shared, kept);
            *self = Admission::Settled;
        }
    }
}

impl Serve {
    /// A request ends before its time. What can't be stopped any more is settled when it is done.
    pub(super) fn abandon(&mut self, shared: &mut Shared, id: u64, request: &mut super::Request) {
        match &mut request.stage {
            Stage::Shard(writing) => match (&writing.admission, writing.write) {
                (Admission::Asked, _) => {
                    self.unpaid.insert(id, writing.bill);
                }
                (Admission::Spent, Some(write))
                    if writing.trailer.is_some() && writing.stored.is_none() =>
                {
                    self.by_write.remove(&write);
                    let (key, trailer) = (writing.header.key, writing.trailer);
                    let bill = writing.bill;
                    self.orphans.insert(write, OrphanShard { key, trailer, bill });
                }
                _ => writing.abandon(shared, &mut self.by_write),
            },
            Stage::Blob(writing) => match (&writing.admission, writing.submitted) {
                (Admission::Asked, _) => {
                    self.unpaid.insert(id, writing.bill);
                }
                (Admission::Spent, Some(ticket)) => {
                    self.orphan_blobs.insert(ticket, writing.bill);
                }
                _ => writing.abandon(shared),
            },
            _ => {}
        }
    }

    /// The disk is done with a page whose request is gone.
    pub(super) fn orphan_blob_written(&mut self, shared: &mut Shared, delivery: Delivery) {
        let Some(bill) = self.orphan_blobs.remove(&delivery.ticket) else { return };
        let (kept, replaced) = match delivery.answer {
            HoldingAnswer::Written { bytes, replaced } => (bytes, replaced),
            _ => (0, None),
        };
        bill.settle(shared, kept);
        bill.gave_way(shared, replaced);
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
            && let Some(refusal) = lease_refused(header.lease_seconds)
        {
            return self.refuse(shared, id, refusal);
        }
        if let Err(refusal) = self.prove(shared, id, &asked) {
            return self.refuse(shared, id, refusal);
        }
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let grant = Box::new(asked.auth().grant.clone());
        let (owner, from, bytes) = (request.peer, request.from, room_for(&asked));
        let bill = Bill { grant: grant.nonce, owner, from, spent: bytes };
        let caller = self.callers.number(request.conn);
        match begin(asked, bill, shared.stamp()) {
            Ok(stage) => request.stage = stage,
            Err(sent) => return self.misbehaved(shared, id, &sent),
        }
        let question = LedgerQuestion::Spend { grant, from, caller, bytes };
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
        if known.contains(auth) && auth.grant.locator == locator {
            return Ok(());
        }
        let exporter = request::exporter(&shared.transport, request.conn)
            .map_err(|_| StoreRefusal::Internal)?;
        let (holder, origin) = (shared.identity.peer(), request.peer);
        let channel = Channel { exporter: &exporter, holder, origin, locator };
        // How old the grant is, the ledger knows better than any clock.
        auth.verify(&channel).map_err(StoreRefusal::BadGrant)?;
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
            Admission::Spent | Admission::Settled => {}
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
        store.tell_time(shared.standing.clock(shared.now, shared.wall));
        let meta = ShardMeta {
            owner: request.peer,
            prefix: writing.bill.from,
            code: writing.header.code,
            until: writing.lease.until,
            length_max: writing.header.length_max,
        };
        match store.begin(writing.header.key, meta) {
            Ok(write) => {
                writing.write = Some(write);
                self.by_write.insert(write, id);
                Next::Again
            }
            Err(StoreRefused::AlreadyHeld { root, length, stored, until }) => {
                // The same shard once more (its receipt was lost, say) is answered like the first.
                let lease = Lease { from: stored, until };
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
        let ends_early = lease.until.after(AGAIN_WITHIN) < writing.lease.until;
        if trailer != (StoreTrailer { root, length }) || ends_early {
            return self.refuse_shard(shared, id, StoreRefusal::AlreadyHeldDifferent);
        }
        writing.admission.settle(shared, writing.bill, 0);
        let Lease { from, until } = lease;
        // A clock that was set between the two has stamped it with a time behind its end.
        let from = if from <= until { from } else { writing.lease.from.min(until) };
        let owner = request.peer;
        let receipt = Receipt::issue(&shared.identity, owner, key, root, length, from, until);
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
            writing.abandon(shared, &mut self.by_write);
        }
        self.refuse(shared, id, refusal)
    }

    /// The shard is durable, or the disk failed.
    fn shard_stored(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let Stage::Shard(writing) = &mut request.stage else { return Next::Again };
        writing.write = None;
        let (key, Lease { from, until }) = (writing.header.key, writing.lease);
        let (trailer, owner) = (writing.trailer, request.peer);
        if let Some(Ok(Written { bytes, replaced, .. })) = writing.stored {
            writing.admission.settle(shared, writing.bill, bytes);
            writing.bill.gave_way(shared, replaced);
        }
        match writing.stored.take() {
            Some(Ok(Written { root, length, .. }))
                if trailer == Some(StoreTrailer { root, length }) =>
            {
                trace_event!(
                    shared.tracer,
                    &request.context,
                    &request.peer,
                    ShardStored { chunk: key.chunk.0.into(), index: key.index.0, bytes: length }
                );
                let identity = &shared.identity;
                let receipt = Receipt::issue(identity, owner, key, root, length, from, until);
                request.answer(&StoreResponse::Stored(receipt));
                Next::Again
            }
            Some(Ok(_)) => {
                // What arrived is not what the origin meant: it must not stay. It is paid for until
                // its deletion is durable and gives everything back.
                if let Some(store) = &mut shared.store {
                    let _ = store.delete(Key::shard(owner, key));
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
            Admission::Spent | Admission::Settled => {}
        }
        match writing.written.take() {
            Some(Ok((kept, replaced))) => {
                writing.admission.settle(shared, writing.bill, kept);
                writing.bill.gave_way(shared, replaced);
                request.answer(&StoreResponse::BlobStored);
                return Next::Again;
            }
            Some(Err(why)) => {
                tracing::warn!("a page was not stored: {why}");
                writing.abandon(shared);
                return self.refuse(shared, id, StoreRefusal::Internal);
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
            writing.abandon(shared);
            return self.refuse(shared, id, StoreRefusal::RootMismatch);
        }
        store.tell_time(shared.standing.clock(shared.now, shared.wall));
        let ticket = self.holdings.ticket(Asker::BlobWriter(id));
        match store.put_blob(writing.key, request.peer, writing.bill.from, bytes, ticket) {
            Ok(()) => {
                writing.submitted = Some(ticket);
                Next::Wait
            }
            Err(refused) => {
                self.holdings.redeem(ticket);
                let refusal = refusal(&refused);
                writing.abandon(shared);
                self.refuse(shared, id, refusal)
            }
        }
    }
}

/// What a request's shard or page takes on disk at most.
fn room_for(asked: &StoreRequest) -> u64 {
    match asked {
        StoreRequest::PutShard(header) => shard_room(header.length_max),
        StoreRequest::PutManifest(header) => blob_room(header.length.into()),
        StoreRequest::PutPlacement(header) => blob_room(header.length.into()),
    }
}

/// The first stage of a store request.
fn begin(asked: StoreRequest, bill: Bill, now: UnixTime) -> Result<Stage, pangea_wire::PeerSent> {
    let (key, length, limit, hash) = match asked {
        StoreRequest::PutShard(header) => {
            let until = now.after(Duration::from_secs(header.lease_seconds));
            let writing = ShardWriting {
                body: PutBody::new(header.length_max),
                lease: Lease { from: now, until },
                bill,
                header,
                admission: Admission::Asked,
                write: None,
                pending: None,
                trailer: None,
                stored: None,
                held: None,
            };
            return Ok(Stage::Shard(Box::new(writing)));
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
            let key = BlobKey::placement(header.locator, header.page);
            (key, header.length, pangea_wire::limits::PAGE_BYTES_MAX, None)
        }
    };
    let writing = BlobWriting {
        key,
        bill,
        body: BlobBody::new(length, limit)?,
        hash,
        admission: Admission::Asked,
        submitted: None,
        written: None,
    };
    Ok(Stage::Blob(Box::new(writing)))
}

/// The store's refusal in the words of the wire.
fn refusal(refused: &StoreRefused) -> StoreRefusal {
    match refused {
        StoreRefused::AlreadyHeld { .. } => StoreRefusal::AlreadyHeldDifferent,
        StoreRefused::BeingWritten
        | StoreRefused::BeingDeleted
        | StoreRefused::TooManyHeld { .. }
        | StoreRefused::TooManyWrites { .. } => StoreRefusal::Busy,
        StoreRefused::TooLong { limit } => StoreRefusal::TooLong { limit: *limit },
        // Still opening what is on disk: soon it is otherwise.
        StoreRefused::NotReady => StoreRefusal::Busy,
        StoreRefused::Poisoned => StoreRefusal::Internal,
    }
}
