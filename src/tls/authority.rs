//! The interception CA and its leaves.
