use crate::config::StageName;
use crate::fault::{FaultKind, perhaps_later};
use crate::message::{CanonicalEvent, RoomEvent, StoredMessage, mentions, now_ms, to_json};
use crate::stage::{Delivery, Done};
use crate::{RoomInfo, Shared};
use fixtures::RoomKind;
use std::sync::Arc;

/// Fans a message out: once to a channel, once to each member of a DM, once to each follower of a channel's thread.
pub(crate) async fn handle(shared: Arc<Shared>, delivery: Delivery) -> Done {
    let Ok(event) = serde_json::from_slice::<CanonicalEvent>(&delivery.message.payload) else { return Done::Ack };
    if event.event != "created" {
        return Done::Ack;
    }
    let copies = match shared.directory().room(&event.message.room_id) {
        Some(room) => copies(&shared, room, &event),
        None => return Done::Ack,
    };
    let strikes = |kind| shared.strikes(kind, StageName::BroadcastWorker, delivery.sequence, &event.message.id);
    if strikes(FaultKind::MissingBroadcast).is_some() {
        return Done::Ack;
    }
    let times = if strikes(FaultKind::DuplicateBroadcast).is_some() { 2 } else { 1 };
    let delay = strikes(FaultKind::Reorder).map(|fault| fault.delay);
    let shared = shared.clone();
    perhaps_later(delay, async move { publish(&shared, &copies, times).await }).await;
    Done::Ack
}

async fn publish(shared: &Shared, copies: &[(String, Vec<u8>)], times: usize) {
    for _ in 0..times {
        for (subject, body) in copies {
            // Core NATS: a copy that cannot be sent is lost, as it would be there.
            let _ = shared.client.publish(subject.clone(), body.clone().into()).await;
        }
    }
}

/// Subject and body of every copy.
fn copies(shared: &Shared, room: &RoomInfo, event: &CanonicalEvent) -> Vec<(String, Vec<u8>)> {
    let message = &event.message;
    let mentioned: Vec<String> = mentions(&message.content).into_iter().filter(|a| room.members.contains_key(a)).collect();
    let body = |has_mention: bool| {
        to_json(&RoomEvent {
            kind: "new_message",
            room_id: &message.room_id,
            timestamp: now_ms(),
            event_timestamp: event.timestamp,
            room_name: &room.name,
            room_type: room.kind.name(),
            site_id: &shared.config.site,
            user_count: room.members.len(),
            last_msg_at: &message.created_at,
            last_msg_id: &message.id,
            mentions: mentioned.clone(),
            has_mention,
            message,
        })
    };
    let to_user = |account: &String| (format!("chat.user.{account}.event.room"), body(mentioned.contains(account)));
    match (room.kind, followers(shared, message, &mentioned)) {
        (RoomKind::Channel, Some(followers)) => followers.iter().map(to_user).collect(),
        (RoomKind::Channel, None) => vec![(format!("chat.room.{}.event", message.room_id), body(false))],
        (RoomKind::Dm, _) => room.members.keys().map(to_user).collect(),
    }
}

/// Who gets a thread reply: its sender, the thread's followers, who is mentioned. `None` for what everyone sees.
fn followers(shared: &Shared, message: &StoredMessage, mentioned: &[String]) -> Option<Vec<String>> {
    let parent = message.thread_parent_message_id.as_ref().filter(|_| !message.tshow)?;
    let mut accounts = shared.history.followers(parent);
    accounts.push(message.user_account.clone());
    accounts.extend_from_slice(mentioned);
    accounts.sort();
    accounts.dedup();
    Some(accounts)
}
