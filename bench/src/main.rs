//! `pangea-bench`: every figure beside its limit, measured in the same run. A and B are
//! interleaved; the figure is the median, with the least and the greatest beside it.

#![forbid(unsafe_code)]

mod ces;
mod counts;
mod data;
mod driver;
mod e2e;
mod measure;
mod ours;
mod output;
mod peers;
mod report;
mod store;
mod table;
#[cfg(feature = "trace")]
mod trace;

use output::Output;

const HELP: &str = "\
pangea-bench: measures the node's parts beside their limits

Usage: pangea-bench <what> [--json] [--seconds S] [--repeats N] [more for <what>]

What:
  all        all of these but counts and trace, as one report with plots: --out DIR
             [--dir PATH (.)] [--quick]; an hour or two, or with --quick minutes: short times, one
             repeat, no rivals
  ces        code, sample, compress, seal, stripe and back: each stage alone and the whole
  store      extents and journal against the bare file: [--dir PATH (.)]
  driver     io_uring and mio: packets and files
  peers      our transport beside others' and beside the machine's limits:
             [--only PEER[,PEER]...] [--tests TEST[,TEST]...]; builds the others when needed
  wan        the same over a path of 200 Mbit/s with delay and loss, with BBR
  e2e        put and get through whole nodes, each side a process: [--mib N (1024)]
             [--nodes N (14)] [--kill M (4)] [--driver auto|uring|mio] [--dir PATH (.)]
             [--sizes MIB[,MIB]...]: also files of these sizes
  counts     instructions of the hot paths, against bench/baseline.toml: [--write]; needs
             valgrind, and a build without --release
  trace      what an event of the flight recorder costs: [--rivals PATH]; only in a build with
             --features trace

Options:
  --json        one JSON object per row instead of tables
  --seconds S   time for each measurement (default 0.3, peers 2, wan 8)
  --repeats N   how often each is repeated; the median is shown (default 5; e2e, peers, wan 3)
  --help        this text";

/// Unless the command line says otherwise.
const SECONDS: f64 = 0.3;
const REPEATS: usize = 5;

/// What every benchmark is given.
pub struct Options {
    /// What becomes of the tables.
    pub output: Output,
    /// Time for each single measurement.
    pub seconds: f64,
    /// Whether the command line said so.
    pub seconds_given: bool,
    /// How often each measurement is repeated.
    pub repeats: usize,
    /// Whether the command line said so.
    pub repeats_given: bool,
    /// What else was on the command line, for the benchmark itself.
    pub rest: Vec<String>,
}

fn main() -> std::process::ExitCode {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_else(|| "--help".to_string());
    let outcome = match what.as_str() {
        "--help" | "-h" | "help" => {
            println!("{HELP}");
            Ok(())
        }
        _ => options(args).and_then(|options| run(&what, &options)),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("pangea-bench: {reason}");
            std::process::ExitCode::from(2)
        }
    }
}

fn run(what: &str, options: &Options) -> Result<(), String> {
    match what {
        "all" => report::run(options),
        "ces" => ces::run(options),
        "store" => store::run(options),
        "driver" => driver::run(options),
        "counts" => counts::run(options),
        counts::CHILD => counts::hot(options),
        "peers" => peers::peers(options),
        "wan" => peers::wan(options),
        ours::CHILD => ours::run(&options.rest),
        #[cfg(feature = "trace")]
        "trace" => trace::run(options),
        #[cfg(not(feature = "trace"))]
        "trace" => Err("nothing is recorded in this build; the benchmark is 'cargo run --release \
                        -p pangea-bench --features trace -- trace'"
            .to_owned()),
        "e2e" => e2e::run(options),
        e2e::CHILD => e2e::child::run(options),
        other => Err(format!("there is no benchmark '{other}'; see --help")),
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let rest = Vec::new();
    let mut options = Options {
        output: Output::Aligned,
        seconds: SECONDS,
        seconds_given: false,
        repeats: REPEATS,
        repeats_given: false,
        rest,
    };
    while let Some(arg) = args.next() {
        let mut number = || args.next().ok_or(format!("{arg} needs a number"));
        match arg.as_str() {
            "--json" => options.output = Output::Json,
            "--seconds" => {
                options.seconds_given = true;
                let text = number()?;
                options.seconds = text
                    .parse()
                    .ok()
                    .filter(|s: &f64| s.is_finite() && *s > 0.0)
                    .ok_or(format!("--seconds: '{text}' is not a time above 0"))?;
            }
            "--repeats" => {
                options.repeats_given = true;
                let text = number()?;
                options.repeats = text
                    .parse()
                    .ok()
                    .filter(|&n: &usize| n > 0)
                    .ok_or(format!("--repeats: '{text}' is not a count above 0"))?;
            }
            _ => options.rest.push(arg),
        }
    }
    Ok(options)
}
