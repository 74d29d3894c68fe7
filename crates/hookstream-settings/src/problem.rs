//! What is wrong with a setting, for the person who can change it.

use std::fmt;

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `section.key`, or the section, or the file.
    pub key: String,
    /// What was given; none if nothing was, or if it is a secret.
    pub value: Option<String>,
    /// Where it was given; none if it is a default.
    pub origin: Option<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Problem {
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), value: None, origin: None, message: message.into() }
    }

    /// Names the value. Never for secrets.
    #[must_use]
    pub fn with_value(mut self, value: impl fmt::Display) -> Self {
        self.value = Some(value.to_string());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.key)?;
        if let Some(value) = &self.value {
            write!(f, " is `{value}`")?;
        }
        if let Some(origin) = &self.origin {
            write!(f, " (in {origin})")?;
        }
        write!(f, ": {}", self.message)
    }
}
