//! Developer commands: `cargo xtask help`.

mod apiserver;
mod bench;
mod ci;
mod crds;
mod repo;
mod sim;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Commands for people who work on Foreman. Nothing here is shipped.
///
/// Start with `cargo xtask ci`: it runs what the machines run, in the same order, and says how to
/// repeat the step that failed.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the custom resource definitions, one YAML file a kind.
    ///
    /// They are made from the structs in foreman-core/src/model. After a change there, run this and
    /// commit what it wrote; `tests/it/crds.rs` and CI fail while the files differ.
    Crds {
        /// Where the files go, relative to the repository.
        #[arg(long, value_name = "DIR", default_value = crds::DIR)]
        out: PathBuf,
        /// Write nothing; fail when a file is missing, differs or is no longer made.
        #[arg(long)]
        check: bool,
    },
    /// Find or build the Kubernetes API server that the suites start.
    ///
    /// Takes the kube-apiserver and etcd of the folder `KUBEBUILDER_ASSETS` where that is set; else
    /// builds both, from the Go modules that tests/apiserver/go.mod pins, into a folder of the user's
    /// cache. That takes minutes and is done once.
    Apiserver {
        /// Then start one with Foreman's definitions, say where its kubeconfig is, and keep it until
        /// the standard input ends (Ctrl-D).
        #[arg(long)]
        run: bool,
    },
    /// Check what no compiler checks: links, file sizes, unfinished work, reasons for dependencies.
    ///
    /// Looks at the files that git knows. A Rust file over 400 lines is a warning, over 600 an error
    /// unless it begins with a line `// tidy: <why it is one file>`.
    Tidy,
    /// Measure scheduler, simulator and store, in release; print the figures and write them down.
    ///
    /// They go to docs/benchmarks.md, with the machine they were measured on.
    Bench {
        /// Print them only.
        #[arg(long)]
        print_only: bool,
    },
    /// Simulate fleets: the control plane with bad wires, crashes and clocks, from seeds.
    ///
    /// Each seed draws its own fleet, work and faults; the promises are checked after each step. A
    /// seed that breaks one is made smaller and printed as a command that replays it.
    Sim(Box<sim::Args>),
    /// Run all checks that a change must pass.
    ///
    /// The last two steps are the commands that README.md shows to its readers: the `sh` blocks after
    /// `<!-- test -->` and `<!-- main -->`. Stops at the first step that fails.
    Ci {
        /// Print the steps and run none.
        #[arg(long)]
        list: bool,
        /// Run only these steps, in the order of the list.
        #[arg(value_name = "STEP")]
        only: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Crds { out, check } => crds::run(&out, check),
        Command::Apiserver { run } => apiserver::run(run),
        Command::Tidy => tidy::run(),
        Command::Sim(args) => sim::run(&args),
        Command::Bench { print_only } => bench::run(!print_only),
        Command::Ci { list, only } => ci::run(list, &only),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            repo::complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_teaches() {
        let mut command = super::Cli::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        for verb in ["crds", "apiserver", "tidy", "bench", "sim", "ci"] {
            assert!(help.contains(verb), "{help}");
        }
    }
}
