//! Private servers: started for one run of the demo or of the tests, and gone with it, however it ends.
//!
//! Nothing of this is used by the service itself.

pub mod guardian;
pub mod postgres;

pub use guardian::{Account, Guardian, free_ports, quoted};
pub use postgres::Postgres;

/// A private server that can't be used, and why, in words for the person who wanted it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(pub String);
