//! Put and get by the size of the file, beside a copy of it on the same disk.

use super::{Content, Run, make, remove, rivals};
use crate::table::{Table, stats};

/// What its title begins with.
pub const TITLE: &str = "Put and get by file size";

/// Bytes per second, in 10^6, of one size.
#[derive(Default)]
struct Rates {
    put: Vec<f64>,
    get: Vec<f64>,
    copy: Vec<f64>,
    durable: Vec<f64>,
}

impl Run<'_> {
    /// Every size in turn; within one, copy, put and get take turns. A put is durable when it ends
    /// and a get is not, so each has the copy that does the same as its limit.
    pub fn sizes(&self) -> Result<Table, String> {
        let columns = [
            "file MiB",
            "put MB/s",
            "limit: copy + fsync",
            "put/limit %",
            "get MB/s",
            "limit: copy",
            "get/limit %",
        ];
        let title = format!("{TITLE}, random bytes, {} nodes; median [min-max]", self.setup.nodes);
        let mut table = Table::new(&title, &columns);
        for &mib in &self.setup.sizes {
            let rates = self.size(mib << 20)?;
            let [put, get, copy, durable] =
                [&rates.put, &rates.get, &rates.copy, &rates.durable].map(|rates| stats(rates));
            table.row(&[
                mib.to_string(),
                put.to_string(),
                durable.to_string(),
                format!("{:.0}", 100.0 * put.median / durable.median),
                get.to_string(),
                copy.to_string(),
                format!("{:.0}", 100.0 * get.median / copy.median),
            ]);
        }
        Ok(table)
    }

    fn size(&self, bytes: u64) -> Result<Rates, String> {
        let file = self.place.join("sized");
        make(&file, Content::Random, bytes)?;
        let rate = |seconds: f64| bytes as f64 / seconds / 1e6;
        let mut rates = Rates::default();
        for _ in 0..self.setup.repeats {
            let (copied, durable) = rivals::copy(&file, &self.place.join("copy"))?;
            rates.copy.push(rate(copied));
            rates.durable.push(rate(durable));
            let (sample, put) = self.put(&file)?;
            rates.put.push(rate(sample.seconds));
            rates.get.push(rate(self.get(&put, &file)?.seconds));
        }
        remove(&file)?;
        Ok(rates)
    }
}
