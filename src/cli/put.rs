//! `pangea put`: stores a file, or what comes from stdin, and prints its link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pangea_wire::Label;
use serde_json::json;
use zeroize::Zeroizing;

use super::Context;
use super::common::{ClientArgs, Others};
use super::exit::{DEGRADED, Failure, Kind};
use super::node::plural;
use super::screen::{Screen, clocks_json, seconds, troubles_json};
use super::stop::{Patient, Stop, stdin_is_there};
use crate::client::{PutFailed, PutReport, PutState, Source};
use crate::config::{Compress, PutSettings};
use crate::output::{Access, OutputFailed, OutputFile, Replace};
use crate::units;

const HELP: &str = concat!(
    "EXAMPLES:
  pangea put film.mkv --peer PEERID@IP:PORT --peer PEERID@NAME:PORT …
  pangea put film.mkv --config peers.toml --link-out film.link
  tar -c photos | pangea put - --name photos.tar --config peers.toml

Prints the link on stdout: who has it can find and read the object, nobody else can. --link-out
writes it to a file that only you can read. All else is on stderr.
With --json the last line is {\"link\",\"bytes\",\"state\",\"k\",\"m\",\"holders\",\
\"survives_losses\",\"seconds\",\"troubles\":[{\"peer\",\"why\"}],\"lease_until\",\
\"clocks\":[{\"peer\",\"seconds\"}]}, lease_until in seconds since 1970.",
    crate::exit_codes!()
);

/// Store a file at the peers and print its link
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The file to store; - reads stdin
    file: PathBuf,
    /// The object's name, sealed inside it [default: the file's name; none for stdin]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Write the link to this file (0600) and not to stdout
    #[arg(long, value_name = "FILE")]
    link_out: Option<PathBuf>,
    /// Replace the file of --link-out if it exists
    #[arg(long, requires = "link_out")]
    force: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    put: PutSettings,
    /// Do not compress, whatever the level: what is stored then has the size of the content and
    /// tells nothing else about it
    #[arg(long)]
    no_compress: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    let settings = args.put.over(&context.config.put);
    let compress = if args.no_compress { Compress::No } else { Compress::Yes };
    let label = object_name(args, &mut context.screen)?;
    let mut options = settings.options(Vec::new(), compress, label)?;
    let link_out = args.link_out.as_deref().map(|path| LinkOut::prepare(path, args)).transpose()?;
    if link_out.is_none() {
        context.screen.check_results()?;
    }
    let stop = Stop::on_signals()?;
    let source = open_source(&args.file, &stop)?;
    options.peers = args.client.look_up(context, &stop, Others::None)?;
    if options.peers.is_empty() {
        return Err(PutFailed::NoPeers.into());
    }

    #[cfg(feature = "trace")]
    let recording = args.client.trace.prepare()?;
    let mut client = args.client.start(&context.config)?;
    let screen = &mut context.screen;
    let put = client.put(source, &options, &mut |progress| {
        screen.progress(progress);
        stop.flow()
    });
    #[cfg(feature = "trace")]
    recording.write_of(client, "put", &mut context.screen);
    let report = match put {
        // The source ended because it was told to.
        Err(PutFailed::Source(_)) if stop.asked() => return Err(PutFailed::Interrupted.into()),
        other => other?,
    };
    context.screen.clear();
    show(&report, link_out, &mut context.screen)
}

/// The name that is sealed inside the object. One that was asked for must be good; a file's own is
/// made so.
fn object_name(args: &Args, screen: &mut Screen) -> Result<Option<String>, Failure> {
    if let Some(name) = &args.name {
        return match Label::new(name) {
            Ok(label) => Ok(Some(label.as_str().to_string())),
            Err(why) => Err(Failure::new(Kind::Usage, format!("--name: {why}"))),
        };
    }
    let Some(name) = args.file.file_name().filter(|_| !is_stdin(&args.file)) else {
        return Ok(None);
    };
    let name = name.to_string_lossy();
    let label = Label::cleaned(&name);
    if label.as_str() != name {
        screen.remark(&format!("the object's name is '{label}': '{name}' would not do everywhere"));
    }
    Ok(Some(label.as_str().to_string()))
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn open_source(path: &Path, stop: &Stop) -> Result<Source, Failure> {
    if is_stdin(path) {
        let opened = stdin_is_there().and_then(|()| stdin());
        let stdin = opened.map_err(|cause| Failure::file(format!("stdin: {cause}")))?;
        return Ok(Source::Stream(Box::new(Patient::new(stdin, stop.clone()))));
    }
    let shown = path.display();
    let failed = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => Failure::file(format!("there is no file '{shown}'")),
        io::ErrorKind::PermissionDenied => {
            Failure::file(format!("'{shown}' cannot be read: you have no permission"))
        }
        _ => Failure::file(format!("'{shown}' cannot be read: {cause}")),
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::file(format!(
            "'{shown}' is a directory; pack it first: tar -c '{shown}' | pangea put - …"
        )));
    }
    match metadata.is_file() {
        true => Ok(Source::File(file)),
        // A pipe or a device has no length to be read in parallel.
        false => Ok(Source::Stream(Box::new(Patient::new(file, stop.clone())))),
    }
}

/// Stdin without the buffer that would hide from a wait what was read ahead.
#[cfg(unix)]
fn stdin() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

#[cfg(not(unix))]
fn stdin() -> io::Result<io::Stdin> {
    Ok(io::stdin())
}

/// The file for the link, tried before anything is stored.
struct LinkOut<'a> {
    output: OutputFile,
    name: &'a OsStr,
    path: &'a Path,
    replace: Replace,
}

impl<'a> LinkOut<'a> {
    fn prepare(path: &'a Path, args: &Args) -> Result<LinkOut<'a>, Failure> {
        let Some(name) = path.file_name() else {
            let shown = path.display();
            return Err(Failure::file(format!("--link-out: '{shown}' names no file")));
        };
        let replace = if args.force { Replace::Yes } else { Replace::Never };
        if path.is_dir() {
            let shown = path.display();
            return Err(Failure::file(format!("--link-out: '{shown}' is a directory")));
        }
        if replace == Replace::Never && path.symlink_metadata().is_ok() {
            return Err(OutputFailed::Exists(path.to_path_buf()).into());
        }
        let directory = path.parent().unwrap_or(Path::new("."));
        let output = OutputFile::create_in(directory, Access::Private)?;
        Ok(LinkOut { output, name, path, replace })
    }

    fn write(self, link: &str) -> Result<(), Failure> {
        let failed = |cause| OutputFailed::of(self.path, cause);
        let mut file = self.output.file();
        file.write_all(link.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
        self.output.publish(self.name, self.replace)?;
        Ok(())
    }
}

fn show(
    report: &PutReport,
    link_out: Option<LinkOut<'_>>,
    screen: &mut Screen,
) -> Result<u8, Failure> {
    screen.troubles("holder given up on:", &report.troubles);
    let link = Zeroizing::new(report.link.reveal().to_string());
    let mut file = None;
    let mut file_failed = None;
    if let Some(link_out) = link_out {
        let path = link_out.path;
        match link_out.write(&link) {
            Ok(()) => file = Some(path),
            // The object is stored: without its link it would be lost all the same.
            Err(failure) => file_failed = Some(failure),
        }
    }
    remarks(report, screen);
    if let Some(path) = file {
        screen.remark(&format!("the link is in {}", path.display()));
    }
    let holders: Vec<String> = report.holders.iter().map(ToString::to_string).collect();
    let mut json = json!({
        "link": link.as_str(),
        "bytes": report.bytes,
        "state": state(report),
        "k": report.code.k(),
        "m": report.code.m(),
        "holders": holders,
        "survives_losses": report.survives_losses,
        "seconds": seconds(report.elapsed),
        "troubles": troubles_json(&report.troubles),
        "lease_until": report.lease_until.0,
        "clocks": clocks_json(&report.clocks),
    });
    if let Some(path) = file {
        json["link"] = serde_json::Value::Null;
        json["link_file"] = path.to_string_lossy().into();
    }
    let human = if file.is_some() { "" } else { link.as_str() };
    match file_failed {
        None if file.is_some() => screen.result(human, &json)?,
        None => link_on_stdout(human, &json, screen)?,
        Some(failure) => {
            screen.event(&json);
            screen.human(human);
            return Err(failure);
        }
    }
    Ok(match report.state {
        PutState::Complete => 0,
        PutState::Degraded => DEGRADED,
    })
}

/// What there is to say of it to a person, but for the link.
fn remarks(report: &PutReport, screen: &mut Screen) {
    let (k, m) = (report.code.k(), report.code.m());
    let spent = report.elapsed;
    screen.remark(&format!(
        "stored {} in {} ({}) as {k} + {m} shards at {}: {}, {}, until {}",
        units::bytes(report.bytes),
        units::time(spent),
        units::rate(report.bytes, spent),
        plural(report.holders.len(), "holder"),
        state(report),
        survives(report.survives_losses),
        units::date(report.lease_until),
    ));
    for (peer, clock) in &report.clocks {
        screen.warn(&format!("holder {peer}: {clock}; it counts the lease by its own"));
    }
    if report.survives_losses == 0 {
        screen.warn("it survives no loss: if one holder goes, so does the object; name more peers");
    }
}

fn state(report: &PutReport) -> &'static str {
    match report.state {
        PutState::Complete => "complete",
        PutState::Degraded => "degraded",
    }
}

/// The result that has the only copy of the link.
fn link_on_stdout(
    human: &str,
    json: &serde_json::Value,
    screen: &mut Screen,
) -> Result<(), Failure> {
    screen.result(human, json).map_err(|failure| {
        let lost = "the object is stored, but its link is lost: put it again";
        Failure { message: format!("{}; {lost}", failure.message), ..failure }
    })
}

/// "survives the loss of any 4 holders".
pub fn survives(losses: usize) -> String {
    match losses {
        0 => "survives no loss".into(),
        1 => "survives the loss of any 1 holder".into(),
        _ => format!("survives the loss of any {losses} holders"),
    }
}
