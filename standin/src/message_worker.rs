use crate::Shared;
use crate::message::{CanonicalEvent, now_ms, to_json};
use crate::stage::{Delivery, Done};
use std::sync::Arc;

/// Stores a message; a thread reply also updates the badge of its thread.
pub(crate) async fn handle(shared: Arc<Shared>, delivery: Delivery) -> Done {
    let Ok(event) = serde_json::from_slice::<CanonicalEvent>(&delivery.message.payload) else { return Done::Ack };
    if !shared.directory().knows_user(&event.message.user_id) {
        return Done::Nak;
    }
    let badge = event.message.thread_parent_message_id.as_ref().map(|parent| {
        serde_json::json!({
            "parentMessageId": parent, "replyMessageId": event.message.id, "roomId": event.message.room_id, "timestamp": now_ms(),
        })
    });
    shared.history.store(event.message);
    if let Some(badge) = badge {
        let subject = format!("chat.server.broadcast.{}.thread.tcount", shared.config.site);
        let _ = shared.client.publish(subject, to_json(&badge).into()).await;
    }
    Done::Ack
}
