//! The suites live in `it/`; this library is empty.
