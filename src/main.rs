//! The operator's program: parse, dispatch, exit code.

use cluster::tell;
use std::process::ExitCode;

use cluster::cli::Cli;
use cluster::{commands, error};

fn main() -> ExitCode {
    match commands::completions::answer() {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => {}
        Err(error) => error.exit(),
    }
    let cli = Cli::of_the_process();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell!("error: cannot start: {error}");
            return error::Exit::Failed.into();
        }
    };
    let result = runtime.block_on(commands::run(cli));
    // A question that is still waiting on standard input must not keep the program alive.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            tell!("{}", error::render(&error));
            error::exit_of(&error).into()
        }
    }
}
