//! All SQL of the engine, and all use of the driver for `PostgreSQL`.

pub(crate) mod servers;
pub(crate) mod session;
pub(crate) mod server_check;
pub(crate) mod server_facts;
pub(crate) mod time;
pub(crate) mod error;
pub(crate) mod retry;
pub(crate) mod savepoint;
pub(crate) mod tables;
pub(crate) mod privileges;
pub(crate) mod id_columns;
pub(crate) mod ledger;
pub(crate) mod dead_letters;
pub(crate) mod open_work;
pub(crate) mod copy;
pub(crate) mod transaction;
