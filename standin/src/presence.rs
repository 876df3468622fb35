use crate::config::StageName;
use crate::fault::{FaultKind, perhaps_later};
use crate::message::{now_ms, to_json};
use crate::{Error, Shared};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Who is there: connections and status by account.
#[derive(Default)]
pub(crate) struct Presence(Mutex<HashMap<String, Account>>);

#[derive(Default)]
struct Account {
    connections: HashMap<String, Connection>,
    status: &'static str,
}

struct Connection {
    seen: Instant,
    away: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default)]
    conn_id: String,
    #[serde(default)]
    away: bool,
}

impl Account {
    /// No connection is offline, any active one is online, and if all are away so is it.
    fn effective(&self) -> &'static str {
        match (self.connections.is_empty(), self.connections.values().any(|c| !c.away)) {
            (true, _) => "offline",
            (_, true) => "online",
            _ => "away",
        }
    }

    /// The new status, if it is another.
    fn changed(&mut self) -> Option<&'static str> {
        let status = self.effective();
        (std::mem::replace(&mut self.status, status) != status).then_some(status)
    }
}

impl Presence {
    /// What an event changes.
    fn event(&self, account: &str, verb: &str, event: Event) -> Option<&'static str> {
        let mut all = self.0.lock().expect("no panic while locked");
        let known = all.entry(account.to_owned()).or_default();
        let seen = Instant::now();
        match verb {
            "hello" => drop(known.connections.insert(event.conn_id, Connection { seen, away: false })),
            "activity" => drop(known.connections.insert(event.conn_id, Connection { seen, away: event.away })),
            "ping" => known.connections.entry(event.conn_id).or_insert(Connection { seen, away: false }).seen = seen,
            "bye" => drop(known.connections.remove(&event.conn_id)),
            _ => return None,
        }
        known.changed()
    }

    /// Accounts that are gone without a word.
    fn sweep(&self, stale: std::time::Duration, most: usize) -> Vec<(String, &'static str)> {
        let mut all = self.0.lock().expect("no panic while locked");
        let now = Instant::now();
        let mut changed = Vec::new();
        for (account, known) in all.iter_mut() {
            if changed.len() == most {
                break;
            }
            let before = known.connections.len();
            known.connections.retain(|_, connection| now.duration_since(connection.seen) < stale);
            if known.connections.len() < before {
                changed.extend(known.changed().map(|status| (account.clone(), status)));
            }
        }
        changed
    }
}

/// Takes presence events, tells changes of status, and sweeps.
pub(crate) async fn serve(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> Result<(), Error> {
    let stage = StageName::PresenceService;
    let subject = format!("chat.user.*.event.presence.{}.*", shared.config.site);
    let subscribed = shared.client.queue_subscribe(subject, stage.durable().into()).await;
    let mut events = subscribed.map_err(|e| Error::JetStream { what: stage.durable().into(), why: e.to_string() })?;
    let sweeping = shared.clone();
    let shared = shared.clone();
    tasks.spawn(async move {
        while let Some(message) = events.next().await {
            let sequence = shared.requests[stage as usize].fetch_add(1, Relaxed) + 1;
            let tokens: Vec<&str> = message.subject.as_str().split('.').collect();
            let (Some(account), Some(verb)) = (tokens.get(2), tokens.last()) else { continue };
            let Ok(event) = serde_json::from_slice::<Event>(&message.payload) else { continue };
            if event.conn_id.is_empty() {
                continue;
            }
            shared.stand_still(stage).await;
            let service = shared.config.stage(stage).service.draw(shared.config.seed, sequence, stage.durable());
            if !service.is_zero() {
                tokio::time::sleep(service).await;
            }
            let strikes = |kind| shared.strikes(kind, stage, sequence, account);
            if strikes(FaultKind::Drop).is_some() {
                continue;
            }
            if let Some(status) = shared.presence.event(account, verb, event)
                && strikes(FaultKind::MissingBroadcast).is_none()
            {
                let times = if strikes(FaultKind::DuplicateBroadcast).is_some() { 2 } else { 1 };
                let delay = strikes(FaultKind::Reorder).map(|fault| fault.delay);
                let (told, account) = (shared.clone(), (*account).to_owned());
                perhaps_later(delay, async move { tell(&told, &account, status, times).await }).await;
            }
        }
    });
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(sweeping.config.sweep);
        loop {
            ticks.tick().await;
            for (account, status) in sweeping.presence.sweep(sweeping.config.stale, sweeping.config.sweep_max) {
                tell(&sweeping, &account, status, 1).await;
            }
        }
    });
    Ok(())
}

async fn tell(shared: &Shared, account: &str, status: &str, times: usize) {
    let state = json!({ "account": account, "siteId": shared.config.site, "status": status, "timestamp": now_ms() });
    for _ in 0..times {
        // Core NATS: what cannot be sent is lost, as it would be there.
        let _ = shared.client.publish(format!("chat.user.presence.state.{account}"), to_json(&state).into()).await;
    }
}
