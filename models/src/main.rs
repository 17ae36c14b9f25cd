//! The `wgrad` command.

fn main() -> std::process::ExitCode {
    wgrad_models::cli::main()
}
