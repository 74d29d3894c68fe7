//! Delivers jobs, decides once in a log, and runs the retry ladder
