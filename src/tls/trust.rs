//! Whom to believe.
