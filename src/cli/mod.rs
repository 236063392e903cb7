//! The command line: one file per subcommand, typed arguments to intent.
//!
//! Results go to stdout, all else to stderr. With `--json` stdout has one JSON object per line and
//! the last one is the result, also when it is an error.

mod common;
mod control;
mod data;
mod demo;
mod doctor;
mod exit;
mod get;
mod id;
mod link;
mod node;
mod panics;
mod put;
mod say;
mod screen;
mod stat;
mod status;
mod stop;
#[cfg(feature = "trace")]
mod trace;

use std::ffi::{OsStr, OsString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Config;
use exit::{Failure, Kind};
use screen::{Format, Screen};

const HELP: &str = concat!(
    "EXAMPLES:
  pangea demo                                        a network in one process: see it work
  pangea node --data /srv/pangea                     hold shards for others
  pangea put film.mkv --peer PEERID@IP:PORT …        store a file; prints its link
  pangea get @film.link -o film.mkv                  bring it back

A LINK is the link's text, @FILE to read it from a file, or - to read it from stdin: a link opens
the object, and what stands on a command line is seen by other users of the machine.
Every flag has its variable (PANGEA_DATA for --data), and its key in the file named by --config;
a flag wins over the variable, and that over the file. A variable that is empty is not set.",
    crate::exit_codes!()
);

/// Decentralised storage: a file goes into a network of nodes and comes back, whatever is lost.
#[derive(Parser)]
#[command(name = "pangea", version, after_help = HELP, disable_help_subcommand = true)]
#[command(propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(clap::Args)]
struct Global {
    /// One JSON object per line on stdout, the last one is the result
    #[arg(long, global = true)]
    json: bool,
    /// A TOML file with settings and peers
    #[arg(long, global = true, value_name = "FILE", env = "PANGEA_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Log to stderr; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    Node(node::Args),
    Put(put::Args),
    Get(get::Args),
    Stat(stat::Args),
    Status(status::Args),
    Doctor(doctor::Args),
    Id(id::Args),
    Demo(demo::Args),
    #[cfg(feature = "trace")]
    Trace(trace::Args),
}

/// What a command runs with.
struct Context {
    config: Config,
    screen: Screen,
    #[cfg(feature = "trace")]
    format: Format,
}

/// Runs the program: parses the arguments, does what they say, gives the exit status.
pub fn run() -> ExitCode {
    panics::watch();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let format = match arguments.iter().any(|argument| argument == "--json") {
        true => Format::Json,
        false => Format::Human,
    };
    let code = match catch_unwind(AssertUnwindSafe(|| run_with(arguments, format))) {
        Ok(code) => code,
        // The panic has said where; its own exit status, 101, is in no table of ours.
        Err(_) => {
            let failure = panics::failure();
            Screen::new(format).failure(&failure);
            failure.kind.code()
        }
    };
    say::finish();
    ExitCode::from(code)
}

fn run_with(arguments: Vec<OsString>, format: Format) -> u8 {
    let cli = match parsed(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(format, &error),
    };
    start_log(cli.global.verbose);
    let mut context = Context {
        config: Config::default(),
        screen: Screen::new(format),
        #[cfg(feature = "trace")]
        format,
    };
    let done = Config::read(cli.global.config.as_deref()).map_err(Failure::from).and_then(|file| {
        context.config = file;
        dispatch(cli.command, &mut context)
    });
    match done {
        Ok(code) => code,
        Err(failure) => {
            context.screen.failure(&failure);
            failure.kind.code()
        }
    }
}

/// Parses a command line and does nothing of it. For tests of what may be typed.
#[doc(hidden)]
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<(), clap::Error> {
    parsed(arguments).map(drop)
}

fn parsed(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = without_empty_variables(Cli::command()).try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

/// Compose files and CI set variables to nothing: one that is empty is one that is not set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let empty = |name: &OsStr| std::env::var_os(name).is_some_and(|said| said.is_empty());
    let command = command.mut_args(|argument| match argument.get_env().is_some_and(empty) {
        true => argument.env(clap::builder::Resettable::Reset),
        false => argument,
    });
    command.mut_subcommands(without_empty_variables)
}

fn dispatch(command: Command, context: &mut Context) -> Result<u8, Failure> {
    match command {
        Command::Node(args) => node::run(&args, context),
        Command::Put(args) => put::run(&args, context),
        Command::Get(args) => get::run(&args, context),
        Command::Stat(args) => stat::run(&args, context),
        Command::Status(args) => status::run(&args, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Id(args) => id::run(&args, context),
        Command::Demo(args) => demo::run(&args, context),
        #[cfg(feature = "trace")]
        Command::Trace(args) => trace::run(&args, context),
    }
}

/// Help and version are no errors; what clap refuses is shown without the keys of links.
fn usage(format: Format, error: &clap::Error) -> u8 {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            let text = match say::stdout_has_colours() {
                true => text.ansi().to_string(),
                false => text.to_string(),
            };
            match say::result(text.trim_end()) {
                Ok(()) => 0,
                // `| head` has seen enough.
                Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => 0,
                Err(cause) => {
                    let failure = Failure::file(format!("stdout cannot be written: {cause}"));
                    Screen::new(format).failure(&failure);
                    failure.kind.code()
                }
            }
        }
        _ => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            Screen::new(format).failure(&Failure::new(Kind::Usage, text));
            Kind::Usage.code()
        }
    }
}

fn start_log(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let level = ["warn", "info", "debug", "trace"][usize::from(verbose.min(3))];
    // PANGEA_LOG, such as "pangea_engine=trace", is for those who look for something.
    let filter = match std::env::var("PANGEA_LOG") {
        Ok(said) if !said.is_empty() => {
            EnvFilter::try_new(said).unwrap_or_else(|_| EnvFilter::new(level))
        }
        _ => EnvFilter::new(level),
    };
    // A line that cannot be written is counted, and nothing else.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(say::log);
    let log = log.with_ansi(say::stderr_is_terminal()).log_internal_errors(false);
    // Fails only if the program that embeds us has a log already.
    let _ = log.try_init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples_and_exit_codes() {
        let mut cli = Cli::command();
        cli.build();
        let commands: Vec<String> =
            cli.get_subcommands().map(|command| command.get_name().to_string()).collect();
        let ordinary = ["node", "put", "get", "stat", "status", "doctor", "id", "demo"];
        let recording: &[&str] = if cfg!(feature = "trace") { &["trace"] } else { &[] };
        assert_eq!(commands, [&ordinary, recording].concat());
        for name in commands {
            shows_examples_and_exit_codes(cli.find_subcommand_mut(&name).unwrap());
        }
    }

    fn shows_examples_and_exit_codes(command: &mut clap::Command) {
        let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
        assert!(help.contains("EXAMPLES:"), "{name}");
        assert!(help.contains("EXIT CODES:"), "{name}");
        assert!(help.contains("--json"), "{name}");
    }

    #[test]
    #[cfg(feature = "trace")]
    fn every_verb_of_trace_shows_examples_and_exit_codes() {
        let mut cli = Cli::command();
        cli.build();
        let trace = cli.find_subcommand_mut("trace").unwrap();
        let verbs: Vec<String> =
            trace.get_subcommands().map(|verb| verb.get_name().to_string()).collect();
        assert_eq!(verbs, ["record", "show", "follow", "export"]);
        for name in verbs {
            shows_examples_and_exit_codes(trace.find_subcommand_mut(&name).unwrap());
        }
    }

    #[test]
    #[cfg(feature = "trace")]
    fn who_records_is_warned_of_what_a_peer_can_see() {
        let mut cli = Cli::command();
        cli.build();
        for name in ["node", "put", "get", "stat", "demo"] {
            let help = cli.find_subcommand_mut(name).unwrap().render_long_help().to_string();
            assert!(help.contains("--trace-context") && help.contains("can link"), "{name}");
            assert_eq!(help.contains("--trace-out"), name != "node", "{name}");
        }
    }
}
