//! The stand-in: a small faithful copy of the chat services, for demos and tests, with faults to order.
//!
//! ```text
//! MESSAGES ─► gatekeeper ─ reply ─► sender
//!                 └─► MESSAGES_CANONICAL ─► message-worker (stores) ─► history (`msg.get`)
//!                                       ├─► broadcast-worker ─► rooms, members, followers
//!                                       └─► notification-worker ─► PUSH_NOTIFICATION
//! requests ─► room-service ─► ROOMS ─► room-worker ─► members, job results
//!         ├─► history-service, user-service
//! presence events ─► presence-service ─► states
//! ```
//!
//! Streams, durables, checks, replies, errors and emissions are those of the reference chat system; a stage per file.
//! What a stage does to a message, and which faults befall it, depends on (seed, stream sequence) alone.
#![forbid(unsafe_code)]

mod broadcast_worker;
mod chance;
mod config;
mod directory;
mod fault;
mod gatekeeper;
mod history;
mod ledger;
mod message;
mod message_worker;
mod notification_worker;
mod presence;
mod room_service;
mod room_worker;
pub mod server;
mod service;
mod stage;
mod streams;
mod user_service;
mod web;

pub use config::{Config, ServiceTime, StageConfig, StageName};
pub use directory::{Directory, Member, RoomInfo};
pub use fault::{Fault, FaultKind};
pub use ledger::Injected;
pub use web::{Heard, Service, WebConfig, WebFault, WebFaultKind, WebStandin};

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::task::JoinSet;
use tokio::time::Instant;

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
    /// Nobody can listen there.
    #[error("the stand-in cannot listen at {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
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
    directory: RwLock<Directory>,
    pub history: history::History,
    pub presence: presence::Presence,
    /// Requests so far, by stage.
    pub requests: [AtomicU64; config::STAGES],
    /// When a stage met its first message, by stage.
    pub began: [OnceLock<Instant>; config::STAGES],
    /// When it began, epoch ms: what was said before, was said before that.
    pub began_ms: i64,
    pub ledger: Arc<ledger::Ledger>,
}

impl Shared {
    pub fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().expect("no panic while locked")
    }

    pub fn directory_mut(&self) -> RwLockWriteGuard<'_, Directory> {
        self.directory.write().expect("no panic while locked")
    }
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
        let shared = Arc::new(Shared {
            config,
            client,
            jetstream,
            directory: RwLock::new(directory),
            history: history::History::default(),
            presence: presence::Presence::default(),
            requests: Default::default(),
            began: Default::default(),
            began_ms: message::now_ms(),
            ledger: ledger.clone(),
        });
        let mut tasks = JoinSet::new();
        history::serve(&shared, &mut tasks).await?;
        room_service::serve(&shared, &mut tasks).await?;
        user_service::serve(&shared, &mut tasks).await?;
        presence::serve(&shared, &mut tasks).await?;
        stage::spawn(&shared, &mut tasks, StageName::RoomWorker, room_worker::handle).await?;
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
