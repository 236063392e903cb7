//! What was said to be durable, and when. Times are moments of the disk's log.

use std::collections::BTreeMap;

use pangea_base::{Hash, UnixTime};
use pangea_store::Key;

/// What is known of something that is held: hash, length, and when it is over (0 for a blob).
pub type Held = (Hash, u64, UnixTime);
/// What a recovery finds.
pub type State = BTreeMap<Key, Held>;

/// Everything that was ever begun.
#[derive(Default)]
pub struct History {
    pub names: BTreeMap<Key, Name>,
    /// Times to be written down: which, when that began, and when it was durable.
    clock: Vec<(UnixTime, usize, Option<usize>)>,
}

/// All that was put under one name.
#[derive(Default)]
pub struct Name {
    versions: Vec<Version>,
    /// From one moment to another one of the versions must be there: what replaces another is the
    /// new one or the old one at every moment between.
    some: Vec<(usize, Option<usize>)>,
}

/// One put of a key.
struct Version {
    held: Held,
    begun: usize,
    /// From one moment to another it must be there.
    sure: Vec<(usize, Option<usize>)>,
    /// From here on it must not be there.
    gone: Option<usize>,
}

type Spans = Vec<(usize, Option<usize>)>;

fn covers(spans: &Spans, moment: usize) -> bool {
    spans.iter().any(|(from, to)| *from <= moment && to.is_none_or(|to| moment <= to))
}

fn open(spans: &mut Spans, moment: usize) {
    if spans.last().is_none_or(|(_, to)| to.is_some()) {
        spans.push((moment, None));
    }
}

fn close(spans: &mut Spans, moment: usize) {
    if let Some((_, to)) = spans.last_mut() {
        to.get_or_insert(moment);
    }
}

impl Version {
    fn is_possible(&self, moment: usize) -> bool {
        self.begun <= moment && self.gone.is_none_or(|gone| moment < gone)
    }
}

impl History {
    fn name(&mut self, key: &Key) -> &mut Name {
        self.names.get_mut(key).expect("only what was begun is heard of")
    }

    /// A put began; what it replaces may be gone from here on.
    pub fn begun(&mut self, key: Key, held: Held, moment: usize) {
        let name = self.names.entry(key).or_default();
        // Not only the last one: after a kill it may be an earlier one that is held.
        name.versions.iter_mut().for_each(|version| close(&mut version.sure, moment));
        name.versions.push(Version { held, begun: moment, sure: Vec::new(), gone: None });
    }

    pub fn stored(&mut self, key: &Key, moment: usize) {
        let name = self.name(key);
        open(&mut name.some, moment);
        let (last, others) = name.versions.split_last_mut().expect("there is one");
        open(&mut last.sure, moment);
        for other in others {
            other.gone.get_or_insert(moment);
        }
    }

    pub fn delete_begun(&mut self, key: &Key, moment: usize) {
        let name = self.name(key);
        close(&mut name.some, moment);
        name.versions.iter_mut().for_each(|version| close(&mut version.sure, moment));
    }

    pub fn deleted(&mut self, key: &Key, moment: usize) {
        for version in &mut self.name(key).versions {
            version.gone.get_or_insert(moment);
        }
    }

    pub fn believes(&mut self, time: UnixTime, moment: usize) {
        self.clock.push((time, moment, None));
    }

    pub fn believed(&mut self, time: UnixTime, moment: usize) {
        let written = self.clock.iter_mut().find(|(written, ..)| *written == time);
        written.expect("only what was begun is heard of").2 = Some(moment);
    }

    /// The store was opened anew, which makes sure of what it finds: that stays, and what it does
    /// not find never comes back.
    pub fn reopened(&mut self, state: &State, moment: usize) {
        for (key, name) in &mut self.names {
            let is = |version: &Version| {
                state.get(key) == Some(&version.held) && version.is_possible(moment)
            };
            let found = name.versions.iter().rposition(is);
            match found {
                Some(_) => open(&mut name.some, moment),
                None => close(&mut name.some, moment),
            }
            for (number, version) in name.versions.iter_mut().enumerate() {
                if Some(number) == found {
                    open(&mut version.sure, moment);
                } else {
                    close(&mut version.sure, moment);
                    version.gone.get_or_insert(moment);
                }
            }
        }
    }

    /// Compares what is found after a cut with what may and must be there.
    pub fn compare(&self, state: &State, moment: usize) -> Result<(), String> {
        for (key, held) in state {
            let versions = self.names.get(key).map_or(&[][..], |name| &name.versions);
            if versions.iter().any(|v| v.held == *held && v.is_possible(moment)) {
                continue;
            }
            let why = match versions.iter().rfind(|v| v.held == *held) {
                Some(Version { gone: Some(gone), .. }) if *gone <= moment => {
                    format!("is there again; its end was acknowledged at {gone}")
                }
                _ => "is invented: no put of it had begun".to_owned(),
            };
            return Err(format!("{} {why}", name(key)));
        }
        for (key, of_key) in &self.names {
            let sure = of_key.versions.iter().filter(|version| covers(&version.sure, moment));
            for version in sure {
                if state.get(key) != Some(&version.held) {
                    let since = version.sure.iter().map(|(from, _)| from).min();
                    let since = since.copied().unwrap_or_default();
                    return Err(format!("{} is lost; acknowledged at {since}", name(key)));
                }
            }
            if covers(&of_key.some, moment) && !state.contains_key(key) {
                return Err(format!("{} is lost, the old one and the new one", name(key)));
            }
        }
        Ok(())
    }

    /// Compares the time that is found: none that was never told, and none older than one that was
    /// durable.
    pub fn compare_clock(&self, found: Option<UnixTime>, moment: usize) -> Result<(), String> {
        let durable = |at: &Option<usize>| at.is_some_and(|at| at <= moment);
        let least = self.clock.iter().filter(|(.., at)| durable(at)).map(|(time, ..)| *time).max();
        let begun = |time| self.clock.iter().any(|(t, begun, _)| *t == time && *begun <= moment);
        match found {
            Some(time) if !begun(time) => Err(format!("a time is invented: {}", time.0)),
            found if found < least => Err(format!("the time {least:?} is lost: {found:?}")),
            _ => Ok(()),
        }
    }
}

/// A key, short enough for a sentence.
pub fn name(key: &Key) -> String {
    match key {
        Key::Shard(key) => {
            let (owner, key) = (key.owner.0[0], key.key);
            format!("shard {}/{} of {owner}", key.locator.0[0], key.chunk.0)
        }
        Key::Blob(key) => {
            let (owner, key) = (key.owner.0[0], key.key);
            let (locator, id) = (key.locator.0[0], &key.id.0[..2]);
            format!("blob {locator}/{:?}/{id:02x?} of {owner}", key.kind)
        }
    }
}
