//! Why a partition is halted. Pure.
