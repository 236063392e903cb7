use std::fmt;

use unicode_normalization::UnicodeNormalization;

use crate::limits::LABEL_BYTES_MAX;

/// A name received from others, or given to them: a label, not a path. At most 255 bytes of
/// UTF-8 in normal form C that can be shown on a terminal and used as one file name everywhere.
///
/// Whoever writes to it still opens it relative to a directory and never overwrites.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

/// Why a text is not a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LabelRefused {
    /// Nothing.
    #[error("the name is empty")]
    Empty,
    /// Over the limit.
    #[error("the name has {0} bytes; at most {LABEL_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Bytes that are no text.
    #[error("the name is not UTF-8")]
    NotUtf8,
    /// `.` or `..`.
    #[error("the name is '.' or '..', which means a directory")]
    Dots,
    /// `/`, `\` or `:`.
    #[error("the name has a {0:?} in it, which separates parts of a path")]
    Separator(char),
    /// A control character, NUL included.
    #[error("the name has the control character {0:?} in it")]
    Control(char),
    /// A character that turns the direction of text, or that cannot be seen.
    #[error("the name has the invisible character {0:?} in it, which can disguise it")]
    Invisible(char),
    /// A space or a dot at either end.
    #[error("the name begins or ends with a space or a dot")]
    Edge,
    /// CON, NUL, COM1 …
    #[error("the name means a device on Windows")]
    Device,
    /// The same letters written in another way.
    #[error("the name is not in Unicode normal form C")]
    NotNormal,
}

impl Label {
    /// The label of a text that follows the rule; anything else is refused, not mended.
    pub fn new(text: &str) -> Result<Label, LabelRefused> {
        if text.is_empty() {
            return Err(LabelRefused::Empty);
        }
        if text.len() > LABEL_BYTES_MAX {
            return Err(LabelRefused::TooLong(text.len()));
        }
        if matches!(text, "." | "..") {
            return Err(LabelRefused::Dots);
        }
        text.chars().try_for_each(check_char)?;
        let edge = |c: char| c == '.' || c.is_whitespace();
        if text.starts_with(edge) || text.ends_with(edge) {
            return Err(LabelRefused::Edge);
        }
        if is_device(text) {
            return Err(LabelRefused::Device);
        }
        if !text.nfc().eq(text.chars()) {
            return Err(LabelRefused::NotNormal);
        }
        Ok(Label(text.to_owned()))
    }

    /// The label of bytes that a manifest holds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Label, LabelRefused> {
        if bytes.len() > LABEL_BYTES_MAX {
            return Err(LabelRefused::TooLong(bytes.len()));
        }
        Label::new(std::str::from_utf8(bytes).map_err(|_| LabelRefused::NotUtf8)?)
    }

    /// A label as near as can be to a file name of the user's own: normal form C, what is not
    /// allowed replaced by `_`, cut to 255 bytes. The origin uses it; a receiver never does.
    pub fn cleaned(text: &str) -> Label {
        let mut out = String::new();
        for c in text.nfc() {
            let c = if check_char(c).is_ok() { c } else { '_' };
            if out.len().saturating_add(c.len_utf8()) > LABEL_BYTES_MAX {
                break;
            }
            out.push(c);
        }
        let edge = |c: char| c == '.' || c.is_whitespace();
        if out.starts_with(edge) {
            out = out.trim_start_matches(edge).to_owned();
            if out.len() < LABEL_BYTES_MAX {
                out.insert(0, '_');
            }
        }
        let kept = out.trim_end_matches(edge).len();
        out.truncate(kept);
        if is_device(&out) {
            out.insert(0, '_');
        }
        Label::new(&out).unwrap_or_else(|_| Label("_".to_owned()))
    }

    /// The text, for a file name. For a terminal use `Display`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&escaped(&self.0), f)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Label({})", escaped(&self.0))
    }
}

/// Text from outside as a terminal may show it: control characters and invisible ones are
/// written as `\u{…}`, and what is longer than 255 characters is cut.
pub fn escaped(text: &str) -> impl fmt::Display + '_ {
    struct Escaped<'a>(&'a str);
    impl fmt::Display for Escaped<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let mut chars = self.0.chars();
            for c in chars.by_ref().take(LABEL_BYTES_MAX) {
                if c.is_control() || is_invisible(c) {
                    write!(f, "{}", c.escape_unicode())?;
                } else {
                    fmt::Write::write_char(f, c)?;
                }
            }
            if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
        }
    }
    Escaped(text)
}

fn check_char(c: char) -> Result<(), LabelRefused> {
    if matches!(c, '/' | '\\' | ':') {
        return Err(LabelRefused::Separator(c));
    }
    if c.is_control() {
        return Err(LabelRefused::Control(c));
    }
    if is_invisible(c) {
        return Err(LabelRefused::Invisible(c));
    }
    Ok(())
}

/// Characters that turn the direction of text, separate lines, or show as nothing at all. The
/// joiners U+200C and U+200D stay: several scripts cannot be written without them.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether Windows takes the name for a device, whatever its extension.
fn is_device(text: &str) -> bool {
    let stem = text.split('.').next().unwrap_or_default().trim_end_matches(' ');
    let stem = stem.to_ascii_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") {
        return true;
    }
    let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    let mut digits = number.unwrap_or_default().chars();
    let digit = |c| matches!(c, '0'..='9' | '¹' | '²' | '³');
    digits.next().is_some_and(digit) && digits.next().is_none()
}
