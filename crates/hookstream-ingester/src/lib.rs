//! Decodes source records into CloudEvents
