/// glibc places the pieces that TLS copies so that loads and stores alias (same low 12 bits), which makes
/// bulk copies slow; jemalloc spreads them. See docs/performance.md.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    gatepass::cli::main()
}
