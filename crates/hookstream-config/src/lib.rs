//! The configuration log: view, fenced writer, secrets' envelope, apply
