//! From a source record to events, or to the reason why not.
