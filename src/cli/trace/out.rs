//! Files that are written: `--trace-out`, what a command recorded, however the command ends; and
//! `-o` of `pangea trace`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use pangea_trace::EventLog;

use crate::cli::exit::Failure;
use crate::cli::screen::Screen;
use crate::client::Client;
use crate::output::{Access, OutputFailed, OutputFile, Replace};
use crate::trace::{Recorders, RecordingFile};

/// Where a command's own recording goes.
#[derive(clap::Args)]
#[command(next_help_heading = "Trace")]
pub struct TraceOut {
    /// Write what this command recorded to this file when it ends, well or not (0600; an older
    /// recording is replaced); see `pangea trace`
    #[arg(long, value_name = "FILE", env = "PANGEA_TRACE_OUT", hide_env_values = true)]
    trace_out: Option<PathBuf>,
}

impl TraceOut {
    /// Refuses now what would be refused after a long transfer.
    pub fn prepare(&self) -> Result<Recording, Failure> {
        let file = self.trace_out.as_deref().map(RecordingFile::prepare).transpose()?;
        Ok(Recording { file, shown: self.trace_out.clone().unwrap_or_default(), all: Vec::new() })
    }
}

/// A recording that is to be written, if it was asked for.
pub struct Recording {
    file: Option<RecordingFile>,
    shown: PathBuf,
    all: Vec<Recorders>,
}

impl Recording {
    /// The recorders of a node or client, of this name, shall be in it, also with what they record
    /// from now on.
    pub fn add_logs(&mut self, name: &str, logs: Vec<EventLog>) {
        if self.file.is_some() {
            self.all.push(Recorders::new(name, logs));
        }
    }

    /// Ends a client, and writes what it recorded.
    pub fn write_of(mut self, client: Client, name: &str, screen: &mut Screen) {
        screen.clear();
        self.add_logs(name, client.trace_logs());
        // So that its end is in it.
        drop(client);
        self.write(screen);
    }

    /// Writes it. If that fails, the command's own result stands: it is what was wanted.
    pub fn write(mut self, screen: &mut Screen) {
        let shown = self.shown.display();
        let Some(file) = self.file.take().filter(|_| !self.all.is_empty()) else { return };
        match file.write(&self.all) {
            Ok(_) => screen
                .remark(&format!("recorded in {shown}; see it with: pangea trace show {shown}")),
            Err(failed) => screen.warn(&format!("the recording was not written: {failed}")),
        }
    }
}

/// A file that a verb of `pangea trace` writes: it appears whole or not at all.
pub struct OutFile {
    output: OutputFile,
    path: PathBuf,
    name: OsString,
    replace: Replace,
}

impl OutFile {
    /// Refuses now what would be refused at the end.
    pub fn prepare(path: &Path, replace: Replace, access: Access) -> Result<OutFile, Failure> {
        let shown = path.display();
        let Some(name) = path.file_name() else {
            return Err(Failure::file(format!("'{shown}' names no file")));
        };
        if path.is_dir() {
            return Err(Failure::file(format!(
                "'{shown}' is a directory; write the file's name too"
            )));
        }
        if replace == Replace::Never && path.symlink_metadata().is_ok() {
            return Err(OutputFailed::Exists(path.to_path_buf()).into());
        }
        let output = OutputFile::create_in(path.parent().unwrap_or(Path::new(".")), access)?;
        Ok(OutFile { output, path: path.to_path_buf(), name: name.to_owned(), replace })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.output.file()
    }

    /// It could not be written.
    pub fn failed(&self, cause: io::Error) -> Failure {
        Failure::file(format!("'{}' cannot be written: {cause}", self.path.display()))
    }

    /// Gives it its name.
    pub fn publish(self) -> Result<PathBuf, Failure> {
        Ok(self.output.publish(&self.name, self.replace)?)
    }
}
