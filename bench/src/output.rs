//! Where tables and remarks go: to standard output as they come, or into a report.

use std::cell::RefCell;

use crate::table::Table;

/// What becomes of a benchmark's tables.
pub enum Output {
    /// Printed at once, aligned.
    Aligned,
    /// Printed at once, one JSON object per row.
    Json,
    /// Kept for a report.
    Kept(RefCell<Kept>),
}

/// All that a benchmark had to say.
#[derive(Default)]
pub struct Kept {
    /// Its tables, in order.
    pub tables: Vec<Table>,
    /// Their rows, each a JSON object.
    pub rows: Vec<String>,
    /// What was left out or failed, and why.
    pub remarks: Vec<String>,
}

impl Output {
    /// Shows a table.
    pub fn table(&self, table: Table) {
        let rows = table.json_rows();
        self.table_as(table, rows);
    }

    /// Shows a table whose rows are other objects in JSON than its cells are.
    pub fn table_as(&self, table: Table, rows: Vec<String>) {
        match self {
            Output::Aligned => println!("{}", table.aligned()),
            Output::Json => rows.iter().for_each(|row| println!("{row}")),
            Output::Kept(kept) => {
                let mut kept = kept.borrow_mut();
                kept.tables.push(table);
                kept.rows.extend(rows);
            }
        }
    }

    /// Says on standard error what was left out or failed; a report says it too.
    pub fn remark(&self, remark: &str) {
        eprintln!("{remark}");
        if let Output::Kept(kept) = self {
            kept.borrow_mut().remarks.push(remark.to_owned());
        }
    }
}
