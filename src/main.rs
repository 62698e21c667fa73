//! The program: allocator, arguments, exit code. Everything else is in the library, where tests can reach it.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Not locked: `watch` writes from another thread.
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    ExitCode::from(hydrant::cli::run(std::env::args_os(), &mut out, &mut err))
}
