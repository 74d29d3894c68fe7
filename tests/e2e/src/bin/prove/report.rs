//! What a proof found: figures, and claims that hold or don't.

use std::fmt;

#[derive(Debug)]
struct Row {
    what: String,
    figure: String,
    /// None: only a figure.
    holds: Option<bool>,
}

/// The table that a proof prints.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// A figure that nothing is claimed of.
    pub(crate) fn fact(&mut self, what: &str, figure: impl fmt::Display) {
        self.row(what, figure, None);
    }

    pub(crate) fn claim(&mut self, what: &str, figure: impl fmt::Display, holds: bool) {
        self.row(what, figure, Some(holds));
    }

    fn row(&mut self, what: &str, figure: impl fmt::Display, holds: Option<bool>) {
        let row = Row { what: what.to_owned(), figure: figure.to_string(), holds };
        // A long run is followed while it goes on.
        eprintln!("{row}");
        self.rows.push(row);
    }

    /// Whether all claims hold.
    pub(crate) fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds != Some(false))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.holds {
            None => "",
            Some(true) => "ok",
            Some(false) => "VIOLATED",
        };
        write!(f, "{:<58} {:>16}  {mark}", self.what, self.figure)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}
