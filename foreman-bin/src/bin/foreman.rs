//! The foreman command.

fn main() -> std::process::ExitCode {
    foreman_bin::cli::main(std::env::args_os())
}
