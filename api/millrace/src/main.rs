//! Millrace: one binary that turns every user action of a social product into ranked feeds and live numbers.

mod archive;
mod assemble;
mod catalog;
mod commands;
mod config;
mod handles;
mod jobs;
mod keys;
mod log;
mod measure;
mod metrics;
mod online;
mod plans;
mod retention;
mod slates;
mod spool;
mod states;
mod unfinished;
mod up;
mod verifier;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use commands::client::Client;
use commands::local::LocalRecords;
use tracing_subscriber::EnvFilter;

/// Small allocations by many threads are most of what the jobs do; this allocator halves their cost. Libraries in C have it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is logged unless `MILLRACE_LOG` says otherwise. SlateDB calls each partition that moves away an error; what is one
/// reaches us as a result.
const QUIET: &str = "warn,slatedb=off";

#[derive(Parser)]
#[command(
    name = "millrace",
    version,
    about = "Every user action of a social product, as ranked feeds and live numbers"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(up::UpArgs),
    Import(commands::import::Args),
    Simulate(commands::simulate::Args),
    Tail(commands::tail::Args),
    Dlq(commands::dlq::Args),
    Status(commands::status::Args),
    Keys(commands::keys::Args),
    Plans(commands::plans::Args),
    Settings(commands::settings::Args),
    Verify(commands::verify::Args),
    Doctor(commands::doctor::Args),
    Backup(commands::backup::Args),
    Restore(commands::restore::Args),
    Rebuild(commands::rebuild::Args),
    Migrate(commands::migrate::Args),
    Bench(commands::bench::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("MILLRACE_LOG").unwrap_or_else(|_| EnvFilter::new(QUIET));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    handles::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("millrace-http").build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(cli.command));
            // A thread that waits for a broken disk must not keep the process.
            runtime.shutdown_timeout(Duration::from_secs(1));
            outcome
        }
        Err(error) => Err(error.into()),
    };
    outcome.unwrap_or_else(|error| {
        commands::client::note(&format!("millrace: {error:#}"));
        ExitCode::from(2)
    })
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => up::run(args).await,
        Command::Import(args) => commands::import::run(args).await,
        Command::Simulate(args) if args.in_process => in_process(args).await,
        Command::Simulate(args) => commands::simulate::run(args).await,
        Command::Tail(args) => match LocalRecords::when_no_server(&args.server, &args.admin.data_dir).await? {
            Some(records) => commands::tail::run_with(&args, &records).await,
            None => commands::tail::run(args).await,
        },
        Command::Dlq(args) => match LocalRecords::when_no_server(&args.server, &args.admin.data_dir).await? {
            Some(records) => {
                let client = Client::new(&args.server)?.with_write_key(&args.write_key);
                commands::dlq::run_with(args.what, &records, &client).await
            }
            None => commands::dlq::run(args).await,
        },
        Command::Status(args) => commands::status::run(args).await,
        Command::Keys(args) => commands::keys::run(args).await,
        Command::Plans(args) => commands::plans::run(args).await,
        Command::Settings(args) => commands::settings::run(args).await,
        Command::Verify(args) => commands::verify::run(args).await,
        Command::Doctor(args) => commands::doctor::run(args).await,
        Command::Backup(args) => commands::backup::run(args).await,
        Command::Restore(args) => commands::restore::run(args).await,
        Command::Rebuild(args) => commands::rebuild::run(args).await,
        Command::Migrate(args) => commands::migrate::run(args).await,
        Command::Bench(args) => commands::bench::run(args).await,
    }
}

/// The simulation through the collector of this process into a directory that is thrown away.
async fn in_process(args: commands::simulate::Args) -> anyhow::Result<ExitCode> {
    let dir = tempfile::tempdir()?;
    let config = config::ConfigArgs {
        data_dir: Some(dir.path().to_path_buf()),
        clock: Some(config::ClockMode::Replay),
        ..config::ConfigArgs::default()
    };
    let platform = up::Platform::start(config::Config::load(&config)?).await?;
    let outcome = commands::simulate::run_with(args, platform.door()).await;
    platform.stop().await;
    outcome
}
