//! The guarantee.

pub mod record;
pub mod event;
