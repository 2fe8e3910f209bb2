//! One test binary for all suites.
