//! The operator's program: parse, dispatch, exit code.

use cluster::{tell, timings};
use std::process::ExitCode;
use std::time::Instant;

use cluster::cli::Cli;
use cluster::{commands, error};

fn main() -> ExitCode {
    let begun = Instant::now();
    match commands::completions::answer() {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => {}
        Err(error) => error.exit(),
    }
    let cli = match Cli::of_the_process() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && std::env::args_os().any(|word| word == "--json") => {
            tell!("{}", error::usage_json(&error));
            return error::Exit::Usage.into();
        }
        Err(error) => error.exit(),
    };
    let json = cli.json;
    if cli.timings {
        timings::start(begun);
    }
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
    let timings = timings::stop();
    let exit = match result {
        Ok(code) => code,
        Err(error) => {
            tell!("{}", if json { error::render_json(&error) } else { error::render(&error) });
            error::exit_of(&error).into()
        }
    };
    if let Some(timings) = timings {
        tell!("{}", if json { timings.json() } else { timings.text() });
    }
    exit
}
