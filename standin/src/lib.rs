//! The stand-in: a small faithful copy of the chat services, for demos and tests, with faults to order.
//!
//! ```text
//! MESSAGES ─► gatekeeper ─ reply ─► sender
//!                 └─► MESSAGES_CANONICAL ─► message-worker (stores) ─► history (`msg.get`)
//!                                       ├─► broadcast-worker ─► rooms, members, followers
//!                                       └─► notification-worker ─► PUSH_NOTIFICATION
//! ```
//!
//! Streams, durables, checks, replies, errors and emissions are those of the reference chat system; a stage per file.
//! What a stage does to a message, and which faults befall it, depends on (seed, stream sequence) alone.
#![forbid(unsafe_code)]

mod broadcast_worker;
mod chance;
mod config;
mod directory;
mod gatekeeper;
mod history;
mod ledger;
mod message;
mod message_worker;
mod notification_worker;
pub mod server;
mod stage;
mod streams;

pub use config::{Config, Fault, FaultKind, ServiceTime, StageConfig, StageName};
pub use directory::{Directory, Member, RoomInfo};
pub use ledger::Injected;

use std::sync::Arc;
use tokio::task::JoinSet;

/// Why the stand-in cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// JetStream did not do as asked.
    #[error("the stand-in cannot set up {what}: {why}; it needs a nats-server with JetStream (-js)")]
    JetStream {
        /// Stream or consumer.
        what: String,
        /// The server's words.
        why: String,
    },
    /// The ledger cannot be written.
    #[error("cannot write the ledger {path}: {source}")]
    Ledger {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A running stand-in; it stops when dropped.
pub struct Standin {
    tasks: JoinSet<()>,
    ledger: Arc<ledger::Ledger>,
}

/// What all stages share.
pub(crate) struct Shared {
    pub config: Config,
    pub client: async_nats::Client,
    pub jetstream: async_nats::jetstream::Context,
    pub directory: Directory,
    pub history: history::History,
    pub ledger: Arc<ledger::Ledger>,
}

impl Standin {
    /// Creates and purges its streams, starts every stage, and returns when all of them consume.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn start(client: async_nats::Client, directory: Directory, config: Config) -> Result<Standin, Error> {
        let jetstream = async_nats::jetstream::new(client.clone());
        let ledger = Arc::new(ledger::Ledger::create(config.ledger.as_deref())?);
        streams::create(&jetstream, &config.site).await?;
        let history = history::History::default();
        let shared = Arc::new(Shared { config, client, jetstream, directory, history, ledger: ledger.clone() });
        let mut tasks = JoinSet::new();
        history::serve(&shared, &mut tasks).await?;
        stage::spawn(&shared, &mut tasks, StageName::Gatekeeper, gatekeeper::handle).await?;
        stage::spawn(&shared, &mut tasks, StageName::MessageWorker, message_worker::handle).await?;
        stage::spawn(&shared, &mut tasks, StageName::BroadcastWorker, broadcast_worker::handle).await?;
        stage::spawn(&shared, &mut tasks, StageName::NotificationWorker, notification_worker::handle).await?;
        Ok(Standin { tasks, ledger })
    }

    /// What was injected so far.
    pub fn injected(&self) -> Vec<Injected> {
        self.ledger.injected()
    }

    /// Stops all stages.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}
