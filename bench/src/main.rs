//! What `make bench` runs beside retempo: opponents that do the same work with other means, and makers of input.
#![forbid(unsafe_code)]

mod decode;
mod peer;
mod plain;
mod raw;
mod synthetic;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes a run folder as a replay would, from drawn latencies
    Run(synthetic::Args),
    /// Decodes the columns that an analysis reads, and does nothing with them
    Decode {
        /// Run folder
        run: PathBuf,
    },
    /// Writes the columns of a schedule once more, with the parquet crate alone; prints the seconds it took
    Plain {
        /// Schedule file
        schedule: PathBuf,
        /// File to write
        output: PathBuf,
    },
    /// Bare publisher of 64 KiB writes; prints messages per second
    RawPublish(Load),
    /// Bare subscriber that counts frames; prints messages per second from the first to the last
    RawReceive(Load),
    /// Answers requests on a subject until killed
    Echo(Load),
    /// async-nats: publishes
    Publish(Load),
    /// async-nats: publishes with a header
    PublishHeaders(Load),
    /// async-nats: receives
    Receive(Load),
    /// async-nats: requests at a rate; prints how many were answered
    Request(Load),
    /// async-nats: JetStream publishes at a rate; prints how many were acknowledged
    Jetstream(Load),
    /// Makes a JetStream stream, in memory, for a subject
    Stream(Load),
    /// tokio and async-nats: sends at the times of a schedule; prints p99 of the lateness, ns
    Pace {
        /// Schedule file
        schedule: PathBuf,
        #[command(flatten)]
        load: Load,
    },
}

#[derive(clap::Args)]
struct Load {
    /// host:port
    #[arg(long)]
    server: String,
    #[arg(long, default_value = "bench.flood")]
    subject: String,
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    #[arg(long, default_value_t = 128)]
    size: usize,
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Args::parse().command {
        Command::Run(args) => synthetic::run(&args)?,
        Command::Decode { run } => decode::run(&run)?,
        Command::Plain { schedule, output } => println!("{}", plain::write(&schedule, &output)?),
        Command::RawPublish(l) => println!("{}", raw::publish(&l.server, l.count, l.size)?),
        Command::RawReceive(l) => println!("{}", raw::receive(&l.server, &l.subject, l.count)?),
        Command::Echo(l) => raw::echo(&l.server, &l.subject)?,
        Command::Publish(l) => runtime.block_on(peer::publish(&l.server, l.count, l.size, false))?,
        Command::PublishHeaders(l) => runtime.block_on(peer::publish(&l.server, l.count, l.size, true))?,
        Command::Receive(l) => runtime.block_on(peer::receive(&l.server, &l.subject, l.count))?,
        Command::Request(l) => runtime.block_on(peer::request(&l.server, &l.subject, l.rate, l.seconds, l.size))?,
        Command::Jetstream(l) => runtime.block_on(peer::jetstream(&l.server, &l.subject, l.rate, l.seconds, l.size))?,
        Command::Stream(l) => runtime.block_on(peer::stream(&l.server, &l.subject))?,
        Command::Pace { schedule, load } => {
            runtime.block_on(peer::pace(&load.server, &load.subject, &plain::times_ns(&schedule)?, load.size))?
        }
    }
    Ok(())
}
