//! Bytes between processes: records and their versions
