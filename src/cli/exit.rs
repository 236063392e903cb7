//! How a command ends: exit codes, errors in words, errors as JSON.

use serde_json::{Value, json};

use crate::client::{GetFailed, PutFailed};
use crate::config::ConfigInvalid;
use crate::keyfile::KeyFileRefused;
use crate::node::StartFailed;
use crate::output::OutputFailed;

/// The table that ends every `--help`. The numbers are those of [`Kind::code`].
#[macro_export]
#[doc(hidden)]
macro_rules! exit_codes {
    () => {
        "\n\nEXIT CODES:
  0    done (a node: stopped in order)
  1    internal error; please report it
  2    wrong usage, or a wrong configuration
  3    the link is malformed, cut off or altered
  4    no peers, or too few holders answered or accepted
  5    not found, or too few good shards are left
  6    the link's key does not open the object, or what was received is not what was put
  7    a local file: missing, unreadable, exists already, no permission, disk full, data
       directory in use, of another version or open to others; a result that stdout did not take
  8    the node or client did not start (port in use, driver) or had no memory left, or no node
       is running
  9    put, but degraded: fewer holders than wanted; it survives fewer losses
  130  interrupted (Ctrl-C or SIGTERM); nothing half-written is left under a final name"
    };
}

/// Kinds of failure: one exit code each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// We were wrong.
    Internal,
    /// Flags or configuration.
    Usage,
    /// Not a link.
    BadLink,
    /// Nobody, or too few, to store at or ask.
    TooFewHolders,
    /// The object is gone or too little of it is left.
    TooFewShards,
    /// It cannot be opened with this key, or is not what it says it is.
    WrongKey,
    /// A file or directory of this machine.
    LocalFile,
    /// A node or client did not start, or none runs.
    Start,
    /// The user asked to stop.
    Interrupted,
}

/// The exit code of a put that was degraded.
pub const DEGRADED: u8 = 9;

impl Kind {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Kind::Internal => 1,
            Kind::Usage => 2,
            Kind::BadLink => 3,
            Kind::TooFewHolders => 4,
            Kind::TooFewShards => 5,
            Kind::WrongKey => 6,
            Kind::LocalFile => 7,
            Kind::Start => 8,
            Kind::Interrupted => 130,
        }
    }

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Internal => "internal",
            Kind::Usage => "usage",
            Kind::BadLink => "bad_link",
            Kind::TooFewHolders => "too_few_holders",
            Kind::TooFewShards => "too_few_shards",
            Kind::WrongKey => "wrong_key",
            Kind::LocalFile => "local_file",
            Kind::Start => "start",
            Kind::Interrupted => "interrupted",
        }
    }
}

/// A command that did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// Which exit code.
    pub kind: Kind,
    /// For a person: what happened and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with words of its own.
    pub fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into() }
    }

    /// A local file that could not be used.
    pub fn file(message: impl Into<String>) -> Failure {
        Failure::new(Kind::LocalFile, message)
    }

    /// `{"error":{"kind","message"}}`.
    pub fn json(&self) -> Value {
        json!({ "error": { "kind": self.kind.name(), "message": self.text() } })
    }

    /// The message, safe to show: no control characters, no keys.
    pub fn text(&self) -> String {
        printable(&redacted(&self.message))
    }
}

impl From<ConfigInvalid> for Failure {
    fn from(refused: ConfigInvalid) -> Failure {
        let kind = match refused {
            ConfigInvalid::Unreadable { .. } => Kind::LocalFile,
            ConfigInvalid::Text { .. } | ConfigInvalid::Value { .. } => Kind::Usage,
        };
        Failure::new(kind, refused.to_string())
    }
}

impl From<KeyFileRefused> for Failure {
    fn from(refused: KeyFileRefused) -> Failure {
        Failure::file(refused.to_string())
    }
}

impl From<OutputFailed> for Failure {
    fn from(failed: OutputFailed) -> Failure {
        Failure::file(failed.to_string())
    }
}

impl From<StartFailed> for Failure {
    fn from(failed: StartFailed) -> Failure {
        let kind = match failed {
            StartFailed::Store { .. } => Kind::LocalFile,
            _ => Kind::Start,
        };
        Failure::new(kind, failed.to_string())
    }
}

impl From<PutFailed> for Failure {
    fn from(failed: PutFailed) -> Failure {
        let kind = match failed {
            PutFailed::NoPeers
            | PutFailed::TooFewHolders { .. }
            | PutFailed::ChunkFailed { .. } => Kind::TooFewHolders,
            PutFailed::Source(_) => Kind::LocalFile,
            PutFailed::Interrupted => Kind::Interrupted,
            PutFailed::Local(_) => Kind::Internal,
        };
        Failure::new(kind, failed.to_string())
    }
}

impl From<GetFailed> for Failure {
    fn from(failed: GetFailed) -> Failure {
        let kind = match failed {
            GetFailed::NoPeers => Kind::TooFewHolders,
            GetFailed::NoManifest { .. }
            | GetFailed::NoPlacement { .. }
            | GetFailed::TooFewShards { .. } => Kind::TooFewShards,
            GetFailed::WrongKey(_) => Kind::WrongKey,
            GetFailed::Output(_) => Kind::LocalFile,
            GetFailed::Interrupted => Kind::Interrupted,
            GetFailed::Local(_) => Kind::Internal,
        };
        Failure::new(kind, failed.to_string())
    }
}

/// The beginning of every link's text.
const LINK_PREFIX: &str = "pangea1";
/// A shorter tail than this is no key.
const TAIL_CHARS_MIN: usize = 8;

/// The text without the keys of links in it: a mistyped command line, or a file that is named
/// like a link, would else put a key on the screen and into logs.
pub fn redacted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = find_prefix(rest) {
        let (before, link) = rest.split_at(at);
        let end = link.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(link.len());
        let (link, after) = link.split_at(end);
        shown.push_str(before);
        if link.len() >= LINK_PREFIX.len() + TAIL_CHARS_MIN {
            shown.push_str(LINK_PREFIX);
            shown.push('…');
        } else {
            shown.push_str(link);
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// Where the next link begins, in either case of letters.
fn find_prefix(text: &str) -> Option<usize> {
    let prefix = LINK_PREFIX.as_bytes();
    text.as_bytes().windows(prefix.len()).position(|window| window.eq_ignore_ascii_case(prefix))
}

/// The text as a terminal may see it: peers and files can hold escape sequences.
pub fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => true,
        // Bidirectional controls make a text read as another one.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => false,
        c => !c.is_control(),
    };
    text.chars().map(|c| if shown(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_in_the_table_of_the_help() {
        let table = exit_codes!();
        let kinds = [
            Kind::Internal,
            Kind::Usage,
            Kind::BadLink,
            Kind::TooFewHolders,
            Kind::TooFewShards,
            Kind::WrongKey,
            Kind::LocalFile,
            Kind::Start,
            Kind::Interrupted,
        ];
        let mut codes: Vec<u8> = kinds.iter().map(|kind| kind.code()).collect();
        codes.extend([0, DEGRADED]);
        for code in &codes {
            assert!(table.contains(&format!("\n  {code:<3}  ")), "{code}");
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), kinds.len() + 2, "two kinds share a code");
    }

    #[test]
    fn no_key_of_a_link_is_shown() {
        let link = "pangea1rabcdefghijklmnop234567";
        for text in [
            format!("unexpected argument '{link}' found"),
            link.to_string(),
            link.to_uppercase(),
            format!("é{link}é {link}"),
        ] {
            let shown = redacted(&text).to_lowercase();
            assert!(!shown.contains("abcdefgh"), "{shown}");
            assert!(shown.contains("pangea1…"), "{shown}");
        }
        assert_eq!(redacted("pangea1, pangea and é"), "pangea1, pangea and é");
    }

    #[test]
    fn what_others_wrote_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\r\nd"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}\nd");
    }

    #[test]
    fn a_failure_is_one_json_object() {
        let json = Failure::new(Kind::BadLink, "no link: pangea1rsecretsecret").json();
        assert_eq!(
            json.to_string(),
            r#"{"error":{"kind":"bad_link","message":"no link: pangea1…"}}"#
        );
    }
}
