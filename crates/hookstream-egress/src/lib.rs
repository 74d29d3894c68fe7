//! The only crate that dials customers: reqwest, deadline, caps
