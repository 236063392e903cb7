//! Tables for people and for programs, and the three numbers that a repeated measurement gives.

/// Rows under named columns; printed aligned, or as one JSON object per row.
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

    /// Prints the table to standard output: aligned, or with `json` as one object per row.
    pub fn print(&self, json: bool) {
        match json {
            true => self.rows.iter().for_each(|row| println!("{}", self.json(row))),
            false => println!("{}", self.aligned()),
        }
    }

    fn aligned(&self) -> String {
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
