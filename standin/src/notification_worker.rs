use crate::Shared;
use crate::message::{CanonicalEvent, mentions, now_ms, to_json};
use crate::stage::{Delivery, Done};
use std::sync::Arc;

/// Above this size only the mentioned are told.
const EVERYONE_UP_TO: usize = 500;
const BATCH: usize = 100;

/// Pushes a message to the members of its room but the sender, a hundred at a time.
pub(crate) async fn handle(shared: Arc<Shared>, delivery: Delivery) -> Done {
    let Ok(event) = serde_json::from_slice::<CanonicalEvent>(&delivery.message.payload) else { return Done::Ack };
    let message = &event.message;
    let Some(room) = shared.directory().room(&message.room_id).cloned() else { return Done::Ack };
    let mentioned = mentions(&message.content);
    let told =
        |account: &&String| **account != message.user_account && (room.members.len() <= EVERYONE_UP_TO || mentioned.contains(account));
    let recipients: Vec<&String> = room.members.keys().filter(told).collect();
    for batch in recipients.chunks(BATCH) {
        let push = serde_json::json!({
            "id": message.id, "accounts": batch, "title": room.name, "body": message.content, "roomId": message.room_id,
            "data": { "roomId": message.room_id, "messageId": message.id, "sender": message.user_account }, "timestamp": now_ms(),
        });
        let subject = format!("chat.server.notification.push.{}.send", shared.config.site);
        let _ = shared.client.publish(subject, to_json(&push).into()).await;
    }
    Done::Ack
}
