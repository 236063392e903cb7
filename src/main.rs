//! The `pangea` program: parse, run, exit status.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    pangea::cli::run()
}
