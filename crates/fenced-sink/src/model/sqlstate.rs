//! The error code of `PostgreSQL`. Pure.

use std::fmt;

/// A SQLSTATE: five digits or capital letters. The first two are the class.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// `None` unless `code` is five digits or capital letters.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        let legal = code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        code.as_bytes().try_into().ok().filter(|_| legal).map(Self)
    }

    /// The five characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether the database can accept the same record later. The row that it refers to can arrive (23503), and a
    /// trigger can decide differently (P0001).
    #[must_use]
    pub fn may_heal(self) -> bool {
        matches!(self.as_str(), "23503" | "P0001")
    }

    /// Whether a row with the same value of a unique constraint exists.
    #[must_use]
    pub fn is_unique_violation(self) -> bool {
        self.as_str() == "23505"
    }

    /// The class: the first two characters.
    #[must_use]
    pub fn class(&self) -> &str {
        self.as_str().get(..2).unwrap_or_default()
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlState({self})")
    }
}
