//! Points at which tests end a cleaning as a crash would.

#[cfg(not(test))]
pub(crate) fn point() -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use armed::{arm, point};

#[cfg(test)]
mod armed {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Lets this thread pass so many points; all after them fail.
    pub(crate) fn arm(points: Option<u32>) {
        LEFT.set(points);
    }

    pub(crate) fn point() -> io::Result<()> {
        match LEFT.get() {
            Some(0) => Err(io::Error::other("crashed")),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}
