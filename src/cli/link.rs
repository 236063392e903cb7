//! LINK arguments: the text, `@FILE`, or `-` for stdin.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use pangea_wire::Link;
use zeroize::Zeroizing;

use super::exit::{Failure, Kind};
use super::stop::stdin_is_there;
use crate::config::limits::LINK_TEXT_BYTES_MAX;

/// The link that an argument names. No error shows it.
pub fn read(argument: &str) -> Result<Link, Failure> {
    match argument.strip_prefix('@') {
        Some(path) => read_file(Path::new(path)),
        None if argument == "-" => {
            let text = stdin_is_there()
                .and_then(|()| read_text(io::stdin().lock()))
                .map_err(|cause| Failure::file(format!("no link from stdin: {cause}")))?;
            parse(&text, "stdin")
        }
        None => parse(argument, "the argument"),
    }
}

fn read_file(path: &Path) -> Result<Link, Failure> {
    let shown = path.display();
    let text = File::open(path)
        .and_then(read_text)
        .map_err(|cause| Failure::file(format!("the link in '{shown}' cannot be read: {cause}")))?;
    parse(&text, &format!("'{shown}'"))
}

/// Reads one byte past the limit at most, so that a wrong file is not read to its end.
fn read_text(source: impl Read) -> io::Result<Zeroizing<String>> {
    let limit = LINK_TEXT_BYTES_MAX;
    let room = usize::try_from(limit).unwrap_or_default().saturating_add(2);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    source.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(io::Error::other("it is longer than any link"));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(io::Error::other("it is not text")),
    }
}

fn parse(text: &str, from: &str) -> Result<Link, Failure> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::new(
            Kind::BadLink,
            format!("there is no link in {from}: it is empty"),
        ));
    }
    text.parse().map_err(|cause| {
        let hint = if !text.contains(char::is_whitespace) && Path::new(text).exists() {
            "; to read the link from a file, write @ before the file's name"
        } else {
            ""
        };
        Failure::new(Kind::BadLink, format!("this is not a good link: {cause}{hint}"))
    })
}
