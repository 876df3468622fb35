use crate::Shared;
use crate::config::StageName;
use crate::fault::{FaultKind, perhaps_later};
use crate::message::{CanonicalEvent, StoredMessage, now_ms, rfc3339, to_json};
use crate::room_service::{AddMembers, CreateRoom};
use crate::stage::{Delivery, Done};
use async_nats::HeaderMap;
use fixtures::RoomKind;
use serde_json::{Value, json};
use std::sync::Arc;

/// Adds members and creates rooms, then tells everyone, in the order of the reference.
pub(crate) async fn handle(shared: Arc<Shared>, delivery: Delivery) -> Done {
    let subject = delivery.message.subject.as_str().to_owned();
    let headers = delivery.message.headers.as_ref();
    let request_id = headers.and_then(|headers| headers.get("X-Request-ID")).map(|id| id.as_str().to_owned()).unwrap_or_default();
    let body = &delivery.message.payload;
    if subject.ends_with(".member.add") {
        let Ok(add) = serde_json::from_slice::<AddMembers>(body) else { return Done::Ack };
        add_members(&shared, &delivery, &add, &request_id).await;
    } else if subject.ends_with(".create") {
        let Ok(create) = serde_json::from_slice::<CreateRoom>(body) else { return Done::Ack };
        create_room(&shared, &create, &request_id).await;
    }
    Done::Ack
}

async fn add_members(shared: &Arc<Shared>, delivery: &Delivery, add: &AddMembers, request_id: &str) {
    let done = |room: &str| json!({ "requestId": request_id, "operation": "room.member.add", "status": "ok", "roomId": room, "timestamp": now_ms() });
    let Some(room) = shared.directory().room(&add.room_id).cloned() else { return };
    if !shared.config.per_member.is_zero() {
        tokio::time::sleep(shared.config.per_member * room.members.len() as u32).await;
    }
    let added: Vec<String> = {
        let mut directory = shared.directory_mut();
        let new: Vec<String> = add.users.iter().filter(|account| !room.members.contains_key(*account)).cloned().collect();
        for account in &new {
            if let Some(id) = directory.user_id(account).map(str::to_owned) {
                directory.add_member(&add.room_id, &id, false);
            }
        }
        new
    };
    let strikes = |kind| shared.strikes(kind, StageName::RoomWorker, delivery.sequence, "");
    if !added.is_empty() {
        announce(shared, &add.room_id, &added).await;
        let times = match (strikes(FaultKind::MissingBroadcast).is_some(), strikes(FaultKind::DuplicateBroadcast).is_some()) {
            (true, _) => 0,
            (_, true) => 2,
            _ => 1,
        };
        let event = json!({
            "type": "member_added", "roomId": add.room_id, "roomName": room.name, "roomType": room.kind.name(), "accounts": added,
            "siteId": shared.config.site, "requesterAccount": add.requester_account, "joinedAt": now_ms(), "timestamp": now_ms(),
        });
        let (delay, told) = (strikes(FaultKind::Reorder).map(|fault| fault.delay), shared.clone());
        let subject = format!("chat.room.{}.event.member", add.room_id);
        let work = async move {
            for _ in 0..times {
                tell(&told, subject.clone(), &event).await;
            }
        };
        perhaps_later(delay, work).await;
        let inbox =
            json!({ "type": "member_added", "siteId": shared.config.site, "destSiteId": shared.config.site, "timestamp": now_ms() });
        tell(shared, format!("chat.inbox.{}.internal.member_added", shared.config.site), &inbox).await;
        system_message(shared, &add.room_id, &add.requester_account, request_id, "addmembers").await;
    }
    tell(shared, format!("chat.user.{}.response.{request_id}", add.requester_account), &done(&add.room_id)).await;
}

async fn create_room(shared: &Arc<Shared>, create: &CreateRoom, request_id: &str) {
    let kind = if create.room_type == "dm" { RoomKind::Dm } else { RoomKind::Channel };
    let accounts: Vec<String> = std::iter::once(&create.requester_account).chain(&create.users).cloned().collect();
    {
        let mut directory = shared.directory_mut();
        directory.add_room(&create.room_id, &create.name, kind);
        for (i, account) in accounts.iter().enumerate() {
            if let Some(id) = directory.user_id(account).map(str::to_owned) {
                directory.add_member(&create.room_id, &id, i == 0);
            }
        }
    }
    announce(shared, &create.room_id, &accounts).await;
    if kind == RoomKind::Channel {
        system_message(shared, &create.room_id, &create.requester_account, request_id, "room_created").await;
        system_message(shared, &create.room_id, &create.requester_account, request_id, "members_added").await;
    }
    let done =
        json!({ "requestId": request_id, "operation": "room.create", "status": "ok", "roomId": create.room_id, "timestamp": now_ms() });
    tell(shared, format!("chat.user.{}.response.{request_id}", create.requester_account), &done).await;
}

/// Each new member learns of its subscription and of the room's key.
async fn announce(shared: &Shared, room: &str, accounts: &[String]) {
    for account in accounts {
        let update = json!({ "action": "added", "subscription": { "roomId": room }, "timestamp": now_ms() });
        tell(shared, format!("chat.user.{account}.event.subscription.update"), &update).await;
    }
    for account in accounts {
        let key = json!({ "roomId": room, "version": 0, "timestamp": now_ms() });
        tell(shared, format!("chat.user.{account}.event.room.key"), &key).await;
    }
}

async fn tell(shared: &Shared, subject: String, body: &Value) {
    // Core NATS: what cannot be sent is lost, as it would be there.
    let _ = shared.client.publish(subject, to_json(body).into()).await;
}

/// A message that the system itself writes into a room.
async fn system_message(shared: &Shared, room: &str, account: &str, request_id: &str, suffix: &str) {
    let (site, now) = (&shared.config.site, now_ms());
    let user_id = shared.directory().user_id(account).unwrap_or_default().to_owned();
    let id: String = format!("{request_id}{suffix}").bytes().filter(u8::is_ascii_alphanumeric).rev().take(20).map(char::from).collect();
    let message = StoredMessage {
        id: id.clone(),
        room_id: room.into(),
        user_id,
        user_account: account.into(),
        user_display_name: String::new(),
        content: suffix.into(),
        created_at: rfc3339(now),
        thread_parent_message_id: None,
        thread_parent_message_created_at: None,
        tshow: false,
    };
    let event = CanonicalEvent { event: "created".into(), message, site_id: site.clone(), timestamp: now };
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id.as_str());
    let _ = shared.client.publish_with_headers(format!("chat.msg.canonical.{site}.created"), headers, to_json(&event).into()).await;
}
