//! What was said to be durable, and when. Times are moments of the disk's log.

use std::collections::BTreeMap;

use pangea_base::Hash;
use pangea_store::Key;

/// What a recovery finds: the hash and the length of everything that is held.
pub type State = BTreeMap<Key, (Hash, u64)>;

/// Everything that was ever begun.
#[derive(Default)]
pub struct History {
    pub versions: BTreeMap<Key, Vec<Version>>,
}

/// One put of a key.
pub struct Version {
    held: (Hash, u64),
    begun: usize,
    /// From one moment to another it must be there.
    sure: Vec<(usize, Option<usize>)>,
    /// From here on it must not be there.
    gone: Option<usize>,
}

impl Version {
    fn is_certain(&self, moment: usize) -> bool {
        self.sure.iter().any(|(from, to)| *from <= moment && to.is_none_or(|to| moment <= to))
    }

    fn is_possible(&self, moment: usize) -> bool {
        self.begun <= moment && self.gone.is_none_or(|gone| moment < gone)
    }

    fn is_open(&self) -> bool {
        self.sure.last().is_some_and(|(_, to)| to.is_none())
    }
}

impl History {
    fn last(&mut self, key: &Key) -> &mut Version {
        let versions = self.versions.get_mut(key).expect("only what was begun is heard of");
        versions.last_mut().expect("there is one")
    }

    pub fn begun(&mut self, key: Key, bytes: &[u8], moment: usize) {
        let held = (Hash::of(bytes), bytes.len() as u64);
        let version = Version { held, begun: moment, sure: Vec::new(), gone: None };
        self.versions.entry(key).or_default().push(version);
    }

    pub fn stored(&mut self, key: &Key, moment: usize) {
        self.last(key).sure.push((moment, None));
    }

    pub fn delete_begun(&mut self, key: &Key, moment: usize) {
        if let Some((_, to)) = self.last(key).sure.last_mut() {
            to.get_or_insert(moment);
        }
    }

    pub fn deleted(&mut self, key: &Key, moment: usize) {
        self.last(key).gone = Some(moment);
    }

    /// The store was opened anew, which makes sure of what it finds: that stays, and what it does
    /// not find never comes back.
    pub fn reopened(&mut self, state: &State, moment: usize) {
        for (key, versions) in &mut self.versions {
            let version = versions.last_mut().expect("there is one");
            match state.contains_key(key) {
                true if !version.is_open() => version.sure.push((moment, None)),
                true => {}
                false => {
                    version.gone.get_or_insert(moment);
                }
            }
        }
    }

    /// Compares what is found after a cut with what may and must be there.
    pub fn compare(&self, state: &State, moment: usize) -> Result<(), String> {
        for (key, held) in state {
            let versions = self.versions.get(key).map_or(&[][..], |versions| versions);
            if versions.iter().any(|v| v.held == *held && v.is_possible(moment)) {
                continue;
            }
            let why = match versions.iter().rfind(|v| v.held == *held) {
                Some(Version { gone: Some(gone), .. }) if *gone <= moment => {
                    format!("is there again; its deletion was acknowledged at {gone}")
                }
                _ => "is invented: no put of it had begun".to_owned(),
            };
            return Err(format!("{} {why}", name(key)));
        }
        for (key, versions) in &self.versions {
            for version in versions.iter().filter(|version| version.is_certain(moment)) {
                if state.get(key) != Some(&version.held) {
                    let since = version.sure.iter().map(|(from, _)| from).min();
                    let since = since.copied().unwrap_or_default();
                    return Err(format!("{} is lost; acknowledged at {since}", name(key)));
                }
            }
        }
        Ok(())
    }
}

/// A key, short enough for a sentence.
pub fn name(key: &Key) -> String {
    match key {
        Key::Shard(key) => {
            format!("shard {}/{}", key.locator.0[0], key.chunk.0)
        }
        Key::Blob(key) => {
            format!("blob {}/{:?}/{:02x?}", key.locator.0[0], key.kind, &key.id.0[..2])
        }
    }
}
