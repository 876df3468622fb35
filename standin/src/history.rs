use crate::message::{ErrorReply, StoredMessage, to_json};
use crate::{Error, Shared};
use futures::StreamExt;
use serde::Deserialize;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;

/// Most messages kept; the oldest go first.
const KEPT: usize = 1_000_000;

/// What message-worker stored: messages by id, and who follows which thread.
#[derive(Default)]
pub(crate) struct History(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    messages: HashMap<String, (StoredMessage, HashSet<String>)>,
    order: VecDeque<String>,
}

impl History {
    /// Stores a message. A thread reply makes its author and the parent's follow the thread.
    pub fn store(&self, message: StoredMessage) {
        let mut kept = self.0.lock().expect("no panic while locked");
        if let Some(parent) = message.thread_parent_message_id.as_ref().and_then(|id| kept.messages.get_mut(id)) {
            let author = parent.0.user_account.clone();
            parent.1.extend([author, message.user_account.clone()]);
        }
        if kept.order.len() == KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.messages.remove(&oldest);
        }
        kept.order.push_back(message.id.clone());
        kept.messages.insert(message.id.clone(), (message, HashSet::new()));
    }

    pub fn get(&self, id: &str) -> Option<StoredMessage> {
        self.0.lock().expect("no panic while locked").messages.get(id).map(|(m, _)| m.clone())
    }

    /// Followers of the thread under message `id`.
    pub fn followers(&self, id: &str) -> Vec<String> {
        let kept = self.0.lock().expect("no panic while locked");
        kept.messages.get(id).map(|(_, followers)| followers.iter().cloned().collect()).unwrap_or_default()
    }
}

/// Subject of `msg.get` for a user and a room.
pub(crate) fn get_subject(account: &str, room: &str, site: &str) -> String {
    format!("chat.user.{account}.request.room.{room}.{site}.msg.get")
}

/// Answers `msg.get` from what was stored.
pub(crate) async fn serve(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> Result<(), Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Get {
        message_id: String,
    }
    let subject = get_subject("*", "*", &shared.config.site);
    let subscribed = shared.client.queue_subscribe(subject, "history-service".into()).await;
    let mut requests = subscribed.map_err(|e| Error::JetStream { what: "history-service".into(), why: e.to_string() })?;
    let shared = shared.clone();
    tasks.spawn(async move {
        while let Some(request) = requests.next().await {
            let Some(inbox) = request.reply else { continue };
            let reply = match serde_json::from_slice::<Get>(&request.payload) {
                Err(_) => to_json(&ErrorReply::new("bad_request", "invalid request payload")),
                Ok(get) => match shared.history.get(&get.message_id) {
                    Some(message) => {
                        to_json(&serde_json::json!({ "messageId": message.id, "roomId": message.room_id, "createdAt": message.created_at }))
                    }
                    None => to_json(&ErrorReply::new("not_found", "message not found")),
                },
            };
            // A requester that is gone does not matter.
            let _ = shared.client.publish(inbox, reply.into()).await;
        }
    });
    Ok(())
}
