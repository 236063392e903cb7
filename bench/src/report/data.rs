//! What the plots and the first page are drawn from: the rows that were kept.

use serde_json::Value;

use super::Part;
use crate::peers::{Kind, kinds};
use crate::table::{Stats, Table};

/// All rows of a run.
pub struct Data<'a> {
    peers: Vec<Value>,
    tables: Vec<&'a Table>,
}

impl<'a> Data<'a> {
    /// Of these parts.
    pub fn of(parts: &'a [Part]) -> Data<'a> {
        let rows = parts.iter().flat_map(|part| &part.kept.rows);
        let objects = rows.filter_map(|row| serde_json::from_str::<Value>(row).ok());
        Data {
            peers: objects.filter(|row| row["peer"].is_string()).collect(),
            tables: parts.iter().flat_map(|part| &part.kept.tables).collect(),
        }
    }

    /// One peer's figure in a test.
    pub fn peer(&self, peer: &str, test: &str, figure: &str) -> Option<Stats> {
        let row = self.peers.iter().find(|row| row["peer"] == peer && row["test"] == test)?;
        let number = |name: String| row[name].as_f64();
        Some(Stats {
            median: number(figure.to_owned())?,
            min: number(format!("{figure}_min"))?,
            max: number(format!("{figure}_max"))?,
        })
    }

    /// All who have a figure in a test, in the order of the tables.
    pub fn peers(&self, test: &str, figure: &str) -> Vec<(&'static str, Kind, Stats)> {
        let known = |(name, kind)| Some((name, kind, self.peer(name, test, figure)?));
        kinds().filter_map(known).collect()
    }

    /// The best of all rivals.
    pub fn best_rival(
        &self,
        test: &str,
        figure: &str,
        more_is_better: bool,
    ) -> Option<(&'static str, f64)> {
        let rivals =
            self.peers(test, figure).into_iter().filter(|(_, kind, _)| *kind == Kind::Rival);
        let best = rivals.max_by(|(_, _, a), (_, _, b)| {
            let order = a.median.total_cmp(&b.median);
            if more_is_better { order } else { order.reverse() }
        });
        best.map(|(name, _, stats)| (name, stats.median))
    }

    /// The table whose title begins so.
    pub fn table(&self, title: &str) -> Option<&'a Table> {
        self.tables_of(title).next()
    }

    /// All tables whose titles begin so.
    pub fn tables_of(&self, title: &str) -> impl Iterator<Item = &'a Table> {
        self.tables.iter().filter(move |table| table.title().starts_with(title)).copied()
    }

    /// Two columns of such a table, where both have figures: values of the first, figures of the
    /// second.
    pub fn line(&self, title: &str, x: &str, y: &str) -> Vec<(f64, Stats)> {
        let Some(table) = self.table(title) else { return Vec::new() };
        let place = |name: &str| table.columns().iter().position(|column| column == name);
        let (Some(x), Some(y)) = (place(x), place(y)) else { return Vec::new() };
        let point = |row: &Vec<String>| Some((Stats::read(&row[x])?.median, Stats::read(&row[y])?));
        table.rows().iter().filter_map(point).collect()
    }
}
