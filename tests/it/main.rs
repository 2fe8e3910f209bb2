//! One test binary for all suites.
//!
//! `#[cfg(test)]` is true of every module here; it tells clippy that helpers may `expect` too.

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod crds;
#[cfg(test)]
mod e2e;
#[cfg(test)]
mod kube;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod records;
#[cfg(test)]
mod rejected;
#[cfg(test)]
mod repository;
#[cfg(test)]
mod run;
#[cfg(test)]
mod schema_facts;
#[cfg(test)]
mod support;
