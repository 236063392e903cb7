//! `pangea get`: brings an object back, verified, or nothing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};

use pangea_wire::Label;
use serde_json::json;

use super::Context;
use super::common::{ClientArgs, Others};
use super::exit::Failure;
use super::screen::{Screen, seconds, troubles_json};
use super::stop::Stop;
use super::{link, say};
use crate::client::{Flow, GetOptions, GetReport, Sink};
use crate::output::{Access, OutputFailed, OutputFile, Replace};
use crate::units::{self, date};

const HELP: &str = concat!(
    "EXAMPLES:
  pangea get @film.link -o film.mkv
  pangea get - < film.link
  pangea get @photos.link -o - | tar -x

Every byte is verified before it is written. The file gets its name when it is whole; until then
it is hidden, and on failure it is removed. Without -o it gets the object's own name, in this
directory. With -o - the bytes go to stdout as they are verified, and all else to stderr.
With --json the last line is {\"bytes\",\"blake3\",\"verified\":true,\"seconds\",\
\"bad_holders\":[{\"peer\",\"why\"}],\"troubles\":[{\"peer\",\"why\"}],\"lease_until\"}, lease_until in seconds
since 1970.",
    crate::exit_codes!()
);

/// Bring an object back from its holders
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The link, @FILE to read it from a file, or - for stdin
    #[arg(value_name = "LINK")]
    link: String,
    /// Where to write; - is stdout [default: the object's own name, in this directory]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    let link = link::read(&args.link)?;
    let target = Target::prepare(args)?;
    if matches!(target, Target::Stdout) {
        context.screen.leave_stdout();
    }
    let sink = target.sink()?;
    let stop = Stop::on_signals()?;
    let peers = args.client.look_up(context, &stop, Others::of(&link))?;
    #[cfg(feature = "trace")]
    let recording = args.client.trace.prepare()?;
    let mut client = args.client.start_reader(&context.config, &mut context.screen)?;
    let screen = &mut context.screen;
    let mut refused = None;
    let got = client.get(&link, sink, &GetOptions { peers }, &mut |progress| {
        screen.progress(progress);
        // A name that cannot be used is found out before the transfer, not after it.
        if let Some(label) = &progress.label {
            refused = target.refuses(label.as_deref());
        }
        if refused.is_some() { Flow::Stop } else { stop.flow() }
    });
    context.screen.clear();
    #[cfg(feature = "trace")]
    recording.write_of(client, "get", &mut context.screen);
    if let Some(failure) = refused {
        return Err(failure);
    }
    let report = got?;
    let written = target.finish(report.label.as_deref())?;
    show(&report, written.as_deref(), &mut context.screen)?;
    Ok(0)
}

/// Where the bytes go.
enum Target {
    Stdout,
    /// A pipe or a device: there is nothing to rename.
    Special(PathBuf),
    File {
        output: OutputFile,
        name: OsString,
        replace: Replace,
    },
    /// Named by the object once it is there.
    ByLabel {
        output: OutputFile,
        replace: Replace,
    },
}

impl Target {
    /// Refuses now what would be refused after a long transfer.
    fn prepare(args: &Args) -> Result<Target, Failure> {
        let replace = if args.force { Replace::Yes } else { Replace::Never };
        let Some(path) = &args.output else {
            let output = OutputFile::create_in(Path::new("."), Access::Usual)?;
            return Ok(Target::ByLabel { output, replace });
        };
        if path.as_os_str() == "-" {
            return Ok(Target::Stdout);
        }
        let shown = path.display();
        match path.metadata() {
            Ok(found) if found.is_dir() => {
                return Err(Failure::file(format!(
                    "'{shown}' is a directory; write the file's name too"
                )));
            }
            Ok(found) if !found.is_file() => return Ok(Target::Special(path.clone())),
            _ => {}
        }
        if replace == Replace::Never && path.symlink_metadata().is_ok() {
            return Err(OutputFailed::Exists(path.clone()).into());
        }
        let Some(name) = path.file_name() else {
            return Err(Failure::file(format!("'{shown}' names no file")));
        };
        let directory = path.parent().unwrap_or(Path::new("."));
        let output = OutputFile::create_in(directory, Access::Usual)?;
        Ok(Target::File { output, name: name.to_os_string(), replace })
    }

    fn sink(&self) -> Result<Sink, Failure> {
        match self {
            Target::Stdout => match say::stdout() {
                Ok(stdout) => Ok(Sink::Stream(Box::new(stdout))),
                Err(cause) => Err(Failure::file(format!("stdout cannot be written: {cause}"))),
            },
            Target::Special(path) => {
                let opened = File::options().write(true).open(path);
                let file = opened.map_err(|cause| {
                    Failure::file(format!("'{}' cannot be written: {cause}", path.display()))
                })?;
                Ok(Sink::Stream(Box::new(file)))
            }
            Target::File { output, .. } | Target::ByLabel { output, .. } => {
                let file = output.file().try_clone();
                Ok(Sink::File(file.map_err(|cause| {
                    Failure::file(format!("the output cannot be opened twice: {cause}"))
                })?))
            }
        }
    }

    /// Why the object's own name cannot be the file's, if it was to be.
    fn refuses(&self, label: Option<&str>) -> Option<Failure> {
        let Target::ByLabel { replace, .. } = self else { return None };
        match name_of(label) {
            Err(failure) => Some(failure),
            Ok(name) if *replace == Replace::Never => {
                let taken = Path::new(name).symlink_metadata().is_ok();
                taken.then(|| OutputFailed::Exists(PathBuf::from(name)).into())
            }
            Ok(_) => None,
        }
    }

    /// Gives the file its name. Returns where it is.
    fn finish(self, label: Option<&str>) -> Result<Option<PathBuf>, Failure> {
        match self {
            Target::Stdout | Target::Special(_) => Ok(None),
            Target::File { output, name, replace } => Ok(Some(output.publish(&name, replace)?)),
            Target::ByLabel { output, replace } => {
                let name = name_of(label)?;
                Ok(Some(output.publish(OsStr::new(name), replace)?))
            }
        }
    }
}

/// The name that the object brings along, if it is one that may become a file's.
fn name_of(label: Option<&str>) -> Result<&str, Failure> {
    let Some(label) = label else {
        return Err(Failure::file("the object has no name of its own; say where with -o FILE"));
    };
    // Checked where it was received too; a name that becomes a path is checked where it does.
    match Label::new(label) {
        Ok(_) => Ok(label),
        Err(why) => Err(Failure::file(format!(
            "the object's own name {label:?} is not used as a file's ({why}); say where with \
             -o FILE"
        ))),
    }
}

fn show(report: &GetReport, written: Option<&Path>, screen: &mut Screen) -> Result<(), Failure> {
    screen.troubles("holder that sent what is not the object:", &report.bad_holders);
    screen.troubles("holder given up on:", &report.troubles);
    let place = match written {
        Some(path) => format!(" to {}", path.display()),
        None => String::new(),
    };
    screen.remark(&format!(
        "{} verified{place} in {} ({}), BLAKE3 {}{}",
        units::bytes(report.bytes),
        units::time(report.elapsed),
        units::rate(report.bytes, report.elapsed),
        report.blake3,
        report.lease_until.map_or(String::new(), |until| format!(", kept until {}", date(until))),
    ));
    let json = json!({
        "bytes": report.bytes,
        "blake3": report.blake3.to_string(),
        "verified": true,
        "seconds": seconds(report.elapsed),
        "bad_holders": troubles_json(&report.bad_holders),
        "troubles": troubles_json(&report.troubles),
        "output": written.map(|path| path.to_string_lossy()),
        "lease_until": report.lease_until.map(|until| until.0),
    });
    screen.result("", &json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_others_is_no_path() {
        assert_eq!(name_of(Some("film.mkv")).unwrap(), "film.mkv");
        for label in [None, Some(""), Some("../x"), Some("/etc/passwd"), Some(".ssh"), Some("a/b")]
        {
            let refused = name_of(label).unwrap_err();
            assert!(refused.message.contains("-o FILE"), "{}", refused.message);
        }
    }
}
