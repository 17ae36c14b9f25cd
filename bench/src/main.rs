//! The `wgrad-bench` command.

fn main() -> std::process::ExitCode {
    wgrad_bench::cli::main()
}
