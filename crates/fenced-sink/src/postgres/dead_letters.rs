//! The dead letters: records that can't become rows, each stored complete with the reason.

mod headers;
mod timestamp;
mod schedule;
mod insert;
mod due;
mod count;
pub(crate) mod stored;

pub(crate) use self::count::count;
pub(crate) use self::due::{DueLetter, refuse, resolve, take_due};
pub(crate) use self::insert::{DeadLetter, insert};
pub use self::schedule::RetrySchedule;
