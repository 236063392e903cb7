//! Latencies, and the line that a measurement ends with.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::{Outcome, Server, own_usage};

/// Latencies of many operations, to three digits.
pub struct Latency(hdrhistogram::Histogram<u64>);

impl Default for Latency {
    fn default() -> Latency {
        Latency(
            hdrhistogram::Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("fixed bounds"),
        )
    }
}

impl Latency {
    pub fn add(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn merge(&mut self, other: &Latency) {
        self.0.add(&other.0).expect("the same bounds");
    }

    /// Operations.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    fn micros(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// A measurement under way: the wall's and both processors' time since it began.
pub struct Record {
    began: Instant,
    cpu: f64,
    fields: Map<String, Value>,
}

impl Record {
    pub fn begin(server: &mut Server) -> Outcome<Record> {
        let cpu = own_usage()?.cpu + server.usage()?.cpu;
        Ok(Record { began: Instant::now(), cpu, fields: Map::new() })
    }

    /// `bytes` were carried.
    pub fn bulk(mut self, server: &mut Server, bytes: u64) -> Outcome<()> {
        let (wall, cpu) = self.spent(server)?;
        let bytes = bytes as f64;
        self.set("gbps", bytes * 8.0 / wall / 1e9);
        self.set("cpu", cpu / (bytes / (1_u64 << 30) as f64));
        self.print()
    }

    /// So many operations ended, each after this long.
    pub fn operations(mut self, server: &mut Server, latency: &Latency) -> Outcome<()> {
        let (wall, cpu) = self.spent(server)?;
        let count = latency.count() as f64;
        self.set("per_s", count / wall);
        self.set("cpu", cpu * 1e6 / count);
        for (name, quantile) in [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)] {
            self.set(name, latency.micros(quantile));
        }
        self.print()
    }

    /// So much memory of the server belongs to the connections that were made.
    pub fn memory(mut self, server: &mut Server, bytes: f64, connections: usize) -> Outcome<()> {
        let (_, cpu) = self.spent(server)?;
        self.set("cpu", cpu * 1e6 / connections as f64);
        self.set("bytes_per_conn", bytes / connections as f64);
        self.print()
    }

    fn spent(&self, server: &mut Server) -> Outcome<(f64, f64)> {
        let wall = self.began.elapsed().as_secs_f64();
        Ok((wall, own_usage()?.cpu + server.usage()?.cpu - self.cpu))
    }

    fn set(&mut self, name: &str, value: f64) {
        self.fields.insert(name.to_owned(), json!((value * 1e4).round() / 1e4));
    }

    fn print(self) -> Outcome<()> {
        println!("{}", Value::Object(self.fields));
        Ok(())
    }
}
