//! The code that `PostgreSQL` gives an error. Pure.

use std::fmt;

/// Postgres' code for a kind of error: five digits or capital letters, of which two name the class.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// `None` unless it is five digits or capital letters.
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

    /// Whether a record refused for this may be accepted later as it is: the row that it refers to may come (23503), a
    /// trigger may change its mind (P0001).
    #[must_use]
    pub fn may_heal(self) -> bool {
        matches!(self.as_str(), "23503" | "P0001")
    }

    /// The first two characters, which name the class.
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
