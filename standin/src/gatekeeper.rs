use crate::config::StageName;
use crate::fault::{FaultKind, perhaps_later};
use crate::history::get_subject;
use crate::message::{CanonicalEvent, ErrorReply, SendRequest, StoredMessage, now_ms, rfc3339, to_json};
use crate::stage::{Delivery, Done};
use crate::{Member, Shared};
use async_nats::HeaderMap;
use std::sync::Arc;
use std::time::Duration;

const CONTENT_BYTES_MAX: usize = 20 * 1024;
const HISTORY_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a message goes no further.
enum Refusal {
    /// The sender is told.
    Reply(ErrorReply),
    /// Nobody can be told.
    Silent,
    /// Try again later.
    Again,
}

impl From<ErrorReply> for Refusal {
    fn from(reply: ErrorReply) -> Refusal {
        Refusal::Reply(reply)
    }
}

/// Checks a message in the order of the reference, publishes it to the canonical stream, replies.
pub(crate) async fn handle(shared: Arc<Shared>, delivery: Delivery) -> Done {
    let subject = delivery.message.subject.as_str().to_owned();
    let tokens: Vec<&str> = subject.split('.').collect();
    let account = tokens.get(2).copied().unwrap_or_default();
    let Ok(request) = serde_json::from_slice::<SendRequest>(&delivery.message.payload) else { return Done::Ack };
    let strikes = |kind| shared.strikes(kind, StageName::Gatekeeper, delivery.sequence, &request.id);
    if delivery.attempt == 1 && strikes(FaultKind::Drop).is_some() {
        return Done::Ack;
    }
    let outcome = if let Some(fault) = strikes(FaultKind::ErrorReply) {
        Err(Refusal::Reply(ErrorReply::new(fault.code, "an injected error")))
    } else {
        accept(&shared, &tokens, &request).await
    };
    let reply = match outcome {
        Ok(stored) => to_json(&stored),
        Err(Refusal::Reply(error)) => to_json(&error),
        Err(Refusal::Silent) => return Done::Ack,
        Err(Refusal::Again) => return Done::Nak,
    };
    let inbox = format!("chat.user.{account}.response.{}", request.request_id);
    let (delay, client) = (strikes(FaultKind::LateReply).map(|fault| fault.delay), shared.client.clone());
    // A reply that cannot be sent is lost, as it would be there.
    perhaps_later(delay, async move { drop(client.publish(inbox, reply.into()).await) }).await;
    Done::Ack
}

async fn accept(shared: &Shared, tokens: &[&str], request: &SendRequest) -> Result<StoredMessage, Refusal> {
    let &[_, _, account, "room", room_id, site, ..] = tokens else { return Err(bad("invalid subject").into()) };
    if tokens.len() < 7 {
        return Err(bad("invalid subject").into());
    }
    if !is_uuid(&request.request_id) {
        return Err(Refusal::Silent);
    }
    if site != shared.config.site {
        return Err(bad("siteID mismatch").into());
    }
    let parent = request.thread_parent_message_id.as_deref();
    if !is_message_id(&request.id) || !parent.is_none_or(is_message_id) {
        return Err(bad("invalid message id").into());
    }
    if request.content.is_empty() || request.content.len() > CONTENT_BYTES_MAX {
        return Err(bad("content must have 1 to 20480 bytes").into());
    }
    let member = subscription(shared, room_id, account, parent.is_some())?;
    let created_ms = now_ms();
    let mut stored = StoredMessage {
        id: request.id.clone(),
        room_id: room_id.to_owned(),
        user_id: member.user_id.clone(),
        user_account: account.to_owned(),
        user_display_name: member.display_name.clone(),
        content: request.content.clone(),
        created_at: rfc3339(created_ms),
        thread_parent_message_id: request.thread_parent_message_id.clone(),
        thread_parent_message_created_at: None,
        tshow: request.tshow && parent.is_some(),
    };
    if let Some(parent) = parent {
        stored.thread_parent_message_created_at = Some(resolve_parent(shared, account, room_id, parent).await?);
    }
    publish(shared, &stored, created_ms, &request.request_id).await?;
    Ok(stored)
}

/// The sender's membership, and the rule for large rooms.
fn subscription(shared: &Shared, room_id: &str, account: &str, thread: bool) -> Result<Member, ErrorReply> {
    let not_subscribed = || ErrorReply::forbidden("not_subscribed", "not subscribed");
    let directory = shared.directory();
    let room = directory.room(room_id).ok_or_else(not_subscribed)?;
    let member = room.members.get(account).ok_or_else(not_subscribed)?;
    let exempt = thread || member.privileged || account.ends_with(".bot") || account.starts_with("p_");
    if !exempt && room.members.len() > shared.config.large_room_threshold {
        return Err(ErrorReply::forbidden("large_room_post_restricted", "only owners post in large rooms"));
    }
    Ok(member.clone())
}

/// The parent's creation time, asked of history-service as the sender.
async fn resolve_parent(shared: &Shared, account: &str, room: &str, parent: &str) -> Result<String, Refusal> {
    let body = to_json(&serde_json::json!({ "messageId": parent }));
    let asked = shared.client.request(get_subject(account, room, &shared.config.site), body.into());
    let Ok(Ok(reply)) = tokio::time::timeout(HISTORY_TIMEOUT, asked).await else { return Err(Refusal::Again) };
    let reply: serde_json::Value = serde_json::from_slice(&reply.payload).unwrap_or_default();
    match reply["createdAt"].as_str() {
        Some(created_at) => Ok(created_at.to_owned()),
        None => Err(ErrorReply::new("not_found", "thread parent not found").into()),
    }
}

async fn publish(shared: &Shared, stored: &StoredMessage, created_ms: i64, request_id: &str) -> Result<(), Refusal> {
    let site = &shared.config.site;
    let event = CanonicalEvent { event: "created".into(), message: stored.clone(), site_id: site.clone(), timestamp: created_ms };
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", stored.id.as_str());
    headers.insert("X-Request-ID", request_id);
    let subject = format!("chat.msg.canonical.{site}.created");
    let publish = async { shared.jetstream.publish_with_headers(subject, headers, to_json(&event).into()).await?.await };
    publish.await.map(|_| ()).map_err(|_| Refusal::Again)
}

fn bad(error: &'static str) -> ErrorReply {
    ErrorReply::new("bad_request", error)
}

fn is_message_id(id: &str) -> bool {
    matches!(id.len(), 17 | 20) && id.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn is_uuid(id: &str) -> bool {
    let hyphen = |i: usize| matches!(i, 8 | 13 | 18 | 23);
    id.len() == 36 && id.bytes().enumerate().all(|(i, b)| if hyphen(i) { b == b'-' } else { b.is_ascii_hexdigit() })
}
