//! What the outside gets to see of a running service: one line in the log for each thing that happened.

mod line_budget;
mod logs;

pub use line_budget::LineBudget;
pub use logs::init;
