fn main() -> std::process::ExitCode {
    gatepass::cli::main()
}
