//! Put and get through whole nodes over loopback, beside what a plain copy of the file costs.
//!
//! All nodes are one child process and every put or get is another, so what each side spends can be
//! told apart. Put, get with every holder there, then some holders are killed, and get again. A put
//! ends when all of it is durable at its holders; a get ends when the file is written, not synced.

pub mod child;
mod rivals;
pub mod sizes;
mod usage;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pangea_base::Entropy;
use serde_json::Value;

use self::child::{Nodes, client};
use self::usage::Usage;
use crate::table::{Stats, Table, stats};
use crate::{Options, data};

/// The sub-command by which this program starts itself.
pub const CHILD: &str = "e2e-child";

/// How long the nodes are left alone before their memory is read.
const QUIET: Duration = Duration::from_secs(5);
/// Bytes made, compared or copied at a time.
const STEP: usize = 1 << 20;
/// How often files are put and fetched unless `--repeats` says otherwise: they are large.
const REPEATS_DEFAULT: usize = 3;

/// What was asked for.
struct Setup {
    mib: u64,
    /// Of the files of the table by size.
    sizes: Vec<u64>,
    nodes: usize,
    kill: usize,
    driver: String,
    repeats: usize,
    parent: PathBuf,
}

/// The kinds of content.
#[derive(Clone, Copy)]
enum Content {
    Random,
    Text,
}

impl Content {
    fn name(self) -> &'static str {
        match self {
            Content::Random => "random",
            Content::Text => "text",
        }
    }
}

/// One operation's figures.
#[derive(Clone, Copy)]
struct Sample {
    seconds: f64,
    client_cpu: f64,
    nodes_cpu: f64,
    client_peak: f64,
}

/// Measures and prints. Options: `--mib N` (1024), `--nodes N` (14), `--kill M` (4), `--driver
/// auto|uring|mio`, `--sizes MIB[,MIB]...` (files of these sizes too, in a table of their own), `--dir
/// PATH` (where files and nodes are; the current directory).
pub fn run(options: &Options) -> Result<(), String> {
    let setup = Setup::parse(options)?;
    let place = tempfile::Builder::new()
        .prefix("pangea-bench-e2e-")
        .tempdir_in(&setup.parent)
        .map_err(|e| format!("in {}: {e}", setup.parent.display()))?;
    let mut run = Run::start(&setup, place.path())?;
    let before = run.idle()?;
    for content in [Content::Random, Content::Text] {
        run.content(content)?;
    }
    let after = run.idle()?;
    let idle = run.idle_table(before, after);
    options.output.table(run.table.clone());
    options.output.table(idle);
    if !setup.sizes.is_empty() {
        options.output.table(run.sizes()?);
    }
    run.nodes.stop()
}

impl Setup {
    fn parse(options: &Options) -> Result<Setup, String> {
        let mut setup = Setup {
            mib: 1024,
            sizes: Vec::new(),
            nodes: 14,
            kill: 4,
            driver: "auto".to_string(),
            repeats: if options.repeats_given { options.repeats } else { REPEATS_DEFAULT },
            parent: PathBuf::from("."),
        };
        let mut rest = options.rest.iter();
        while let Some(option) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("{option} needs a value"))?;
            let number = || value.parse().map_err(|_| format!("{option}: '{value}' is no count"));
            match option.as_str() {
                "--mib" => setup.mib = number()?,
                "--sizes" => {
                    let sizes = value.split(',').map(|size| size.parse().ok().filter(|&s| s > 0));
                    let sizes: Option<Vec<u64>> = sizes.collect();
                    setup.sizes = sizes.ok_or(format!("--sizes: '{value}' is no list of MiB"))?;
                }
                "--nodes" => setup.nodes = number()? as usize,
                "--kill" => setup.kill = number()? as usize,
                "--driver" => setup.driver.clone_from(value),
                "--dir" => setup.parent = PathBuf::from(value),
                _ => return Err(format!("e2e knows no {option}; see --help")),
            }
        }
        if setup.mib == 0 || setup.nodes == 0 || setup.kill >= setup.nodes {
            return Err("e2e needs --mib and --nodes above 0, and --kill below --nodes".into());
        }
        Ok(setup)
    }

    fn bytes(&self) -> u64 {
        self.mib << 20
    }

    /// One origin may take a tenth of a node, and all puts come from one address.
    fn capacity(&self) -> u64 {
        let mib = (2 * self.mib + self.sizes.iter().sum::<u64>()) * self.repeats as u64;
        ((mib << 20) * 12).saturating_add(4 << 30)
    }
}

/// A running measurement.
struct Run<'a> {
    setup: &'a Setup,
    place: &'a Path,
    nodes: Nodes,
    table: Table,
}

impl<'a> Run<'a> {
    fn start(setup: &'a Setup, place: &'a Path) -> Result<Run<'a>, String> {
        let nodes = Nodes::start(place, setup.nodes, &setup.driver, setup.capacity())?;
        let title = format!(
            "{} MiB over loopback at {} nodes in one process, driver {}, {} CPUs; median [min-max]",
            setup.mib,
            setup.nodes,
            nodes.driver,
            std::thread::available_parallelism().map_or(0, usize::from)
        );
        let columns =
            ["what", "content", "MB/s", "CPU s/GiB client", "CPU s/GiB nodes", "client peak MiB"];
        Ok(Run { setup, place, nodes, table: Table::new(&title, &columns) })
    }

    /// Everything with one kind of content. The nodes that are killed are started anew by the next.
    fn content(&mut self, content: Content) -> Result<(), String> {
        let file = self.place.join(content.name());
        make(&file, content, self.setup.bytes())?;
        self.copies(&file, content)?;
        let (mut puts, mut gets, mut lossy) = (Vec::new(), Vec::new(), Vec::new());
        let mut put = Value::Null;
        for _ in 0..self.setup.repeats {
            let (sample, result) = self.put(&file)?;
            puts.push(sample);
            put = result;
            gets.push(self.get(&put, &file)?);
        }
        let holders = put["holders"].as_array().cloned().unwrap_or_default();
        let names = holders.iter().filter_map(Value::as_str).take(self.setup.kill);
        self.nodes.kill(&names.map(str::to_string).collect::<Vec<_>>())?;
        for _ in 0..self.setup.repeats {
            lossy.push(self.get(&put, &file)?);
        }
        self.row("put", content, &puts);
        self.row("get, all holders there", content, &gets);
        self.row(&format!("get, {} holders gone", self.setup.kill), content, &lossy);
        remove(&file)?;
        self.nodes.revive()
    }

    fn put(&self, file: &Path) -> Result<(Sample, Value), String> {
        let (sample, result) = self.measure(&["put", path(file)?], &self.nodes.addresses())?;
        match result["complete"] == true {
            true => Ok((sample, result)),
            false => Err(format!("a put was not complete: {result}")),
        }
    }

    fn get(&self, put: &Value, original: &Path) -> Result<Sample, String> {
        let copy = self.place.join("copy");
        let link = put["link"].as_str().ok_or("a put printed no link")?;
        let (sample, _) = self.measure(&["get", path(&copy)?], &[link.to_string()])?;
        same(original, &copy)?;
        remove(&copy)?;
        Ok(sample)
    }

    /// One operation in a process of its own.
    fn measure(&self, what: &[&str; 2], given: &[String]) -> Result<(Sample, Value), String> {
        let before = self.nodes.usage()?;
        let result = client(what, &self.setup.driver, given)?;
        let after = self.nodes.usage()?;
        let figure = |name: &str| {
            result[name].as_f64().ok_or_else(|| format!("{} printed no {name}: {result}", what[0]))
        };
        let sample = Sample {
            seconds: figure("seconds")?,
            client_cpu: figure("cpu")?,
            nodes_cpu: after.cpu_seconds - before.cpu_seconds,
            client_peak: figure("peak_mib")?,
        };
        Ok((sample, result))
    }

    /// The limits: the same bytes copied on the same disk, and another program that moves them.
    fn copies(&mut self, file: &Path, content: Content) -> Result<(), String> {
        let (mut copied, mut durable) = (Vec::new(), Vec::new());
        for _ in 0..self.setup.repeats {
            let (copy, with_sync) = rivals::copy(file, &self.place.join("copy"))?;
            copied.push(copy);
            durable.push(with_sync);
        }
        self.plain("limit: copy", content, &self.rates(&copied).to_string());
        self.plain("limit: copy + fsync", content, &self.rates(&durable).to_string());
        let mut seconds = Vec::new();
        for _ in 0..self.setup.repeats {
            match rivals::sendme(file, self.place)? {
                Some(taken) => seconds.push(taken),
                None => {
                    self.plain("sendme, import + receive", content, "not installed");
                    return Ok(());
                }
            }
        }
        self.plain("sendme, import + receive", content, &self.rates(&seconds).to_string());
        Ok(())
    }

    fn rates(&self, seconds: &[f64]) -> Stats {
        let rate = |s: &f64| self.setup.bytes() as f64 / s / 1e6;
        stats(&seconds.iter().map(rate).collect::<Vec<_>>())
    }

    fn plain(&mut self, what: &str, content: Content, rate: &str) {
        let cells = [what, content.name(), rate, "", "", ""].map(str::to_string);
        self.table.row(&cells);
    }

    fn row(&mut self, what: &str, content: Content, samples: &[Sample]) {
        let gib = self.setup.bytes() as f64 / f64::from(1 << 30);
        let all = |of: &dyn Fn(&Sample) -> f64| {
            stats(&samples.iter().map(of).collect::<Vec<_>>()).to_string()
        };
        let rates = self.rates(&samples.iter().map(|s| s.seconds).collect::<Vec<_>>());
        self.table.row(&[
            what.to_string(),
            content.name().to_string(),
            rates.to_string(),
            all(&|s| s.client_cpu / gib),
            all(&|s| s.nodes_cpu / gib),
            all(&|s| s.client_peak),
        ]);
    }

    /// Memory and CPU of the nodes when nobody wants anything of them.
    fn idle(&self) -> Result<(Usage, f64), String> {
        std::thread::sleep(QUIET);
        let (begun, before) = (Instant::now(), self.nodes.usage()?);
        std::thread::sleep(QUIET);
        let after = self.nodes.usage()?;
        let busy = (after.cpu_seconds - before.cpu_seconds) / begun.elapsed().as_secs_f64();
        Ok((after, 100.0 * busy))
    }

    fn idle_table(&self, before: (Usage, f64), after: (Usage, f64)) -> Table {
        let columns = ["nodes", "RSS MiB, all", "RSS MiB, each", "CPU %, all", "start to ready ms"];
        let mut table = Table::new("Idle nodes, one process, one core each", &columns);
        let ready = stats(&self.nodes.ready_ms);
        for (name, (usage, percent)) in [("fresh", before), ("after load", after)] {
            table.row(&[
                name.to_string(),
                format!("{:.1}", usage.rss_mib),
                format!("{:.1}", usage.rss_mib / self.setup.nodes as f64),
                format!("{percent:.2}"),
                ready.to_string(),
            ]);
        }
        table
    }
}

fn path(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("'{}' is no plain path", path.display()))
}

fn remove(file: &Path) -> Result<(), String> {
    std::fs::remove_file(file).map_err(|e| format!("{}: {e}", file.display()))
}

/// A file of so many bytes, made from a fixed seed.
fn make(path: &Path, content: Content, bytes: u64) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut file = File::create_new(path).map_err(failed)?;
    let mut entropy = Entropy::new([9; 32]);
    let text = data::json(16 * STEP);
    let mut step = vec![0; STEP];
    for number in 0..bytes.div_ceil(STEP as u64) {
        match content {
            Content::Random => entropy.fill(&mut step),
            Content::Text => {
                // Another beginning each time: no two steps are the same for long.
                let from = entropy.below((text.len() - STEP) as u64) as usize;
                step.copy_from_slice(&text[from..from + STEP]);
            }
        }
        let left = bytes - number * STEP as u64;
        file.write_all(&step[..left.min(STEP as u64) as usize]).map_err(failed)?;
    }
    file.sync_all().map_err(failed)
}

/// Fails unless both files hold the same bytes.
fn same(one: &Path, two: &Path) -> Result<(), String> {
    let open = |path: &Path| File::open(path).map_err(|e| format!("{}: {e}", path.display()));
    let length = |file: &File| file.metadata().map(|m| m.len()).map_err(|e| e.to_string());
    let (mut a, mut b) = (open(one)?, open(two)?);
    let mut left = length(&a)?;
    let mut equal = left == length(&b)?;
    let (mut x, mut y) = (vec![0; STEP], vec![0; STEP]);
    while equal && left > 0 {
        let now = left.min(STEP as u64) as usize;
        a.read_exact(&mut x[..now]).map_err(|e| e.to_string())?;
        b.read_exact(&mut y[..now]).map_err(|e| e.to_string())?;
        equal = x[..now] == y[..now];
        left -= now as u64;
    }
    match equal {
        true => Ok(()),
        false => Err("what came back is NOT what was put".to_string()),
    }
}
