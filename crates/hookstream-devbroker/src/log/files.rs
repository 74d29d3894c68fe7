//! The files of a partition's directory, and how they change so that a crash leaves no mixture.
//!
//! - `<base offset>.log`: a segment.
//! - `<base offset>.cleaned`: what compaction is writing; worth nothing.
//! - `<base offset>-<end offset>.swap`: what compaction wrote; takes the place of the segments in that range.
//! - `log-start-offset`: the first offset, if records were deleted before it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::crash;
use super::error::{IoContext, IoFailed, OpenError};

const START_OFFSET: &str = "log-start-offset";
const START_OFFSET_TEMP: &str = "log-start-offset.tmp";

pub(crate) fn segment_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

pub(crate) fn cleaned_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.cleaned"))
}

fn swap_path(dir: &Path, base: i64, end: i64) -> PathBuf {
    dir.join(format!("{base:020}-{end:020}.swap"))
}

/// What there is in the directory of a partition.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Base offsets, in order.
    pub(crate) segments: Vec<i64>,
    swaps: Vec<(i64, i64)>,
    leftovers: Vec<PathBuf>,
}

pub(crate) fn list(dir: &Path) -> Result<Listing, IoFailed> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(dir).context("list", dir)? {
        let path = entry.context("list", dir)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some(base) = name.strip_suffix(".log").and_then(|base| base.parse().ok()) {
            listing.segments.push(base);
        } else if let Some(range) = name.strip_suffix(".swap").and_then(parse_range) {
            listing.swaps.push(range);
        } else if name.ends_with(".cleaned") || name == START_OFFSET_TEMP {
            listing.leftovers.push(path);
        }
    }
    listing.segments.sort_unstable();
    listing.swaps.sort_unstable();
    Ok(listing)
}

fn parse_range(name: &str) -> Option<(i64, i64)> {
    let (base, end) = name.split_once('-')?;
    Some((base.parse().ok()?, end.parse().ok()?))
}

/// Ends what a crash cut short, and returns the segments that there are.
pub(crate) fn tidy(dir: &Path) -> Result<Vec<i64>, IoFailed> {
    let listing = list(dir)?;
    for path in &listing.leftovers {
        fs::remove_file(path).context("delete", path)?;
    }
    for (base, end) in &listing.swaps {
        finish_swap(dir, *base, *end)?;
    }
    if listing.swaps.is_empty() {
        return Ok(listing.segments);
    }
    Ok(list(dir)?.segments)
}

/// Makes what compaction wrote the truth: from here on the segments in `base..end` are worth nothing.
pub(crate) fn commit_swap(dir: &Path, base: i64, end: i64) -> Result<(), IoFailed> {
    let from = cleaned_path(dir, base);
    fs::rename(&from, swap_path(dir, base, end)).context("rename", &from)
}

/// Puts a committed swap into the place of the segments that it replaces. May be repeated.
pub(crate) fn finish_swap(dir: &Path, base: i64, end: i64) -> Result<(), IoFailed> {
    crash::point().context("rename", dir)?;
    // The old segments must not be gone before their replacement is there for good.
    sync_dir(dir)?;
    for old in list(dir)?.segments {
        // The first one is replaced by the rename.
        if base < old && old < end {
            remove(&segment_path(dir, old))?;
            crash::point().context("delete", dir)?;
        }
    }
    // Nor may one of them come back when the range that it is in is not known any more.
    sync_dir(dir)?;
    let (from, to) = (swap_path(dir, base, end), segment_path(dir, base));
    fs::rename(&from, &to).context("rename", &from)?;
    crash::point().context("rename", &from)?;
    sync_dir(dir)
}

/// Ends all committed swaps. Needed only if one of them failed halfway.
pub(crate) fn finish_swaps(dir: &Path) -> Result<(), IoFailed> {
    list(dir)?.swaps.into_iter().try_for_each(|(base, end)| finish_swap(dir, base, end))
}

/// Deletes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), IoFailed> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("delete", path),
        _ => Ok(()),
    }
}

/// Makes an empty file, or empties one that a failed attempt left.
pub(crate) fn create(path: &Path) -> Result<File, IoFailed> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).open(path).context("create", path)
}

pub(crate) fn open(path: &Path) -> Result<File, IoFailed> {
    OpenOptions::new().read(true).write(true).open(path).context("open", path)
}

/// Makes new, renamed and deleted files of a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), IoFailed> {
    File::open(dir).and_then(|dir| dir.sync_all()).context("sync", dir)
}

/// Makes a new directory durable.
pub(crate) fn sync_parent(dir: &Path) -> Result<(), IoFailed> {
    match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// The first offset, if it was moved.
pub(crate) fn read_start_offset(dir: &Path) -> Result<Option<i64>, OpenError> {
    let path = dir.join(START_OFFSET);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| OpenError::StartOffset { path }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Ok(Err(error).context("read", &path)?),
    }
}

pub(crate) fn write_start_offset(dir: &Path, offset: i64) -> Result<(), IoFailed> {
    let (temp, path) = (dir.join(START_OFFSET_TEMP), dir.join(START_OFFSET));
    let write = || -> io::Result<()> {
        let mut file = File::create(&temp)?;
        writeln!(file, "{offset}")?;
        file.sync_all()
    };
    write().context("write", &temp)?;
    fs::rename(&temp, &path).context("rename", &temp)?;
    sync_dir(dir)
}
