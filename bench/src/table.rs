//! Tables for people and for programs, and the three numbers that a repeated measurement gives.

/// Rows under named columns; shown aligned, or as one JSON object per row.
#[derive(Clone)]
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(title: &str, columns: &[&str]) -> Table {
        let columns = columns.iter().map(|column| column.to_string()).collect();
        Table { title: title.to_string(), columns, rows: Vec::new() }
    }

    /// Adds a row: one cell for each column.
    pub fn row(&mut self, cells: &[String]) -> &mut Table {
        assert_eq!(cells.len(), self.columns.len(), "one cell for each column of '{}'", self.title);
        self.rows.push(cells.to_vec());
        self
    }

    /// What stands above it.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The names of its columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Its rows: a cell for each column.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// For people: columns line up.
    pub fn aligned(&self) -> String {
        let width = |i: usize| {
            let cells = self.rows.iter().map(|row| row[i].chars().count());
            cells.chain([self.columns[i].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| match i {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
        };
        let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1));
        let rows = self.rows.iter().map(|row| line(row));
        let all = [format!("\n{}", self.title), line(&self.columns), rule].into_iter().chain(rows);
        all.collect::<Vec<_>>().join("\n")
    }

    /// For programs: an object for each row.
    pub fn json_rows(&self) -> Vec<String> {
        self.rows.iter().map(|row| self.json(row)).collect()
    }

    fn json(&self, row: &[String]) -> String {
        let pair = |key: &str, value: &str| format!("{}:{}", quoted(key), value_of(value));
        let title = format!("{}:{}", quoted("table"), quoted(&self.title));
        let cells = self.columns.iter().zip(row).map(|(key, value)| pair(key, value));
        format!("{{{}}}", [title].into_iter().chain(cells).collect::<Vec<_>>().join(","))
    }
}

/// A cell that is a plain decimal number is a number in JSON too; everything else is a string.
fn value_of(cell: &str) -> String {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.')
        && digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && (!digits.starts_with('0') || digits == "0" || digits.starts_with("0."));
    match plain && cell.parse::<f64>().is_ok() {
        true => cell.to_string(),
        false => quoted(cell),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// The middle and the ends of repeated measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// Half of the measurements lie below it.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// Median, least and greatest of `values`, which must not be empty.
pub fn stats(values: &[f64]) -> Stats {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    Stats { median: (low + high) / 2.0, min: sorted[0], max: sorted[sorted.len() - 1] }
}

impl Stats {
    /// Reads what `Display` wrote, or a number by itself.
    pub fn read(text: &str) -> Option<Stats> {
        let number = |text: &str| text.parse().ok().filter(|value: &f64| value.is_finite());
        let Some((median, ends)) = text.split_once(" [") else {
            let median = number(text)?;
            return Some(Stats { median, min: median, max: median });
        };
        let (min, max) = ends.strip_suffix(']')?.split_once('-')?;
        Some(Stats { median: number(median)?, min: number(min)?, max: number(max)? })
    }
}

impl std::fmt::Display for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = match self.median {
            m if m >= 100.0 => 0,
            m if m >= 10.0 => 1,
            _ => 2,
        };
        write!(f, "{:.digits$} [{:.digits$}-{:.digits$}]", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(stats(&[4.0, 1.0, 3.0, 2.0]), Stats { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(stats(&[7.0]), Stats { median: 7.0, min: 7.0, max: 7.0 });
    }

    #[test]
    fn figures_are_read_as_they_were_written() {
        let written = Stats { median: 12.5, min: 11.9, max: 13.0 };
        assert_eq!(Stats::read(&written.to_string()), Some(written));
        assert_eq!(Stats::read("7.5"), Some(stats(&[7.5])));
        assert_eq!(Stats::read("not installed"), None);
        assert_eq!(Stats::read("NaN [NaN-NaN]"), None);
    }

    #[test]
    fn columns_line_up_and_json_rows_name_their_table() {
        let mut table = Table::new("a \"b\"", &["what", "GB/s"]);
        table.row(&["copy".into(), "12.5".into()]).row(&["x".into(), "1.0-2".into()]);
        assert_eq!(
            table.aligned(),
            "\na \"b\"\nwhat   GB/s\n-----------\ncopy   12.5\nx     1.0-2"
        );
        assert_eq!(table.json(&table.rows[0]), r#"{"table":"a \"b\"","what":"copy","GB/s":12.5}"#);
        assert_eq!(table.json(&table.rows[1]), r#"{"table":"a \"b\"","what":"x","GB/s":"1.0-2"}"#);
        assert_eq!(value_of("007"), "\"007\"");
        assert_eq!(value_of("-0.5"), "-0.5");
    }
}
