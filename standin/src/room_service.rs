use crate::config::StageName;
use crate::message::{ErrorReply, now_ms, to_json};
use crate::service::{Answer, Request, serve as answer};
use crate::{Error, RoomInfo, Shared};
use async_nats::HeaderMap;
use fixtures::RoomKind;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use tokio::task::JoinSet;

const NAME_CHARS_MAX: usize = 100;

/// Body of `member.add`; what the service adds goes on to the worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddMembers {
    #[serde(default)]
    pub room_id: String,
    #[serde(default)]
    pub users: Vec<String>,
    #[serde(default)]
    pub requester_account: String,
    #[serde(default)]
    pub timestamp: i64,
}

/// Body of `create`; what the service adds goes on to the worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateRoom {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub users: Vec<String>,
    #[serde(default)]
    pub room_id: String,
    #[serde(default)]
    pub room_type: String,
    #[serde(default)]
    pub requester_account: String,
}

/// Answers what is asked of rooms.
pub(crate) async fn serve(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> Result<(), Error> {
    let (site, stage) = (shared.config.site.clone(), StageName::RoomService);
    let of_room = |what: &str| format!("chat.user.*.request.room.*.{site}.{what}");
    answer(shared, tasks, stage, &of_room("member.add"), add).await?;
    answer(shared, tasks, stage, &format!("chat.user.*.request.room.{site}.create"), create).await?;
    answer(shared, tasks, stage, &of_room("message.read"), mark_read).await?;
    answer(shared, tasks, stage, &of_room("message.read-receipt"), receipt).await?;
    answer(shared, tasks, stage, &of_room("mute.toggle"), mute).await
}

/// The room, if the one who asks is in it.
fn joined(room: Option<&RoomInfo>, account: &str) -> Result<RoomInfo, ErrorReply> {
    let joined = room.filter(|room| room.members.contains_key(account));
    joined.cloned().ok_or_else(|| ErrorReply::forbidden("not_room_member", "not a member of the room"))
}

fn is_bot(account: &str) -> bool {
    account.ends_with(".bot") || account.starts_with("p_")
}

async fn add(shared: Arc<Shared>, request: Request) -> Answer {
    let mut add: AddMembers = request.json()?;
    if !add.room_id.is_empty() && add.room_id != request.room() {
        return Err(ErrorReply::new("bad_request", "roomId mismatch"));
    }
    let room = joined(shared.directory().room(request.room()), request.account())?;
    if room.kind != RoomKind::Channel {
        return Err(ErrorReply::because("bad_request", "non_channel_operation", "members are added to channels"));
    }
    if add.users.iter().any(|account| is_bot(account)) {
        return Err(ErrorReply::because("bad_request", "bot_in_channel", "bots are no members of channels"));
    }
    known(&shared, &add.users)?;
    if room.members.len() + add.users.len() > shared.config.room_size_max {
        return Err(ErrorReply::because("conflict", "max_room_size_reached", "the room would be too large"));
    }
    (add.room_id, add.requester_account, add.timestamp) = (request.room().into(), request.account().into(), now_ms());
    hand_on(&shared, "member.add", &request, &add).await?;
    Ok(json!({ "status": "accepted" }))
}

fn known(shared: &Shared, accounts: &[String]) -> Result<(), ErrorReply> {
    let directory = shared.directory();
    match accounts.iter().all(|account| directory.user_id(account).is_some()) {
        true => Ok(()),
        false => Err(ErrorReply::because("not_found", "user_not_found", "no such user")),
    }
}

async fn create(shared: Arc<Shared>, request: Request) -> Answer {
    let mut create: CreateRoom = request.json()?;
    let me = request.account();
    let channel = !create.name.is_empty() || create.users.len() > 1;
    if create.users.is_empty() || create.name.chars().count() > NAME_CHARS_MAX {
        return Err(ErrorReply::new("bad_request", "a room has a name of up to 100 characters and somebody in it"));
    }
    if !channel && create.users[0] == me {
        return Err(ErrorReply::because("bad_request", "self_dm", "nobody writes to himself"));
    }
    if channel && create.users.iter().any(|account| is_bot(account)) {
        return Err(ErrorReply::because("bad_request", "bot_in_channel", "bots are no members of channels"));
    }
    known(&shared, &create.users)?;
    let id = |account: &str| shared.directory().user_id(account).unwrap_or_default().to_owned();
    create.room_id =
        if channel { format!("created-{}-{}", shared.began_ms, request.sequence) } else { dm_id(&id(me), &id(&create.users[0])) };
    create.room_type = if channel { "channel" } else { "dm" }.into();
    if shared.directory().room(&create.room_id).is_some() {
        return Ok(json!({ "status": "exists", "roomId": create.room_id, "roomType": "" }));
    }
    create.requester_account = me.into();
    hand_on(&shared, "create", &request, &create).await?;
    Ok(json!({ "status": "accepted", "roomId": create.room_id, "roomType": create.room_type }))
}

/// The two user ids in order.
fn dm_id(one: &str, two: &str) -> String {
    format!("{}{}", one.min(two), one.max(two))
}

/// To the room-worker, by its stream.
async fn hand_on(shared: &Shared, what: &str, request: &Request, body: &impl Serialize) -> Result<(), ErrorReply> {
    let mut headers = HeaderMap::new();
    headers.insert("X-Request-ID", request.request_id().as_str());
    let subject = format!("chat.room.canonical.{}.{what}", shared.config.site);
    let publish = async { shared.jetstream.publish_with_headers(subject, headers, to_json(body).into()).await?.await };
    publish.await.map(drop).map_err(|_| ErrorReply::new("internal", "internal error"))
}

async fn mark_read(shared: Arc<Shared>, request: Request) -> Answer {
    joined(shared.directory().room(request.room()), request.account())?;
    let now = now_ms();
    shared.directory_mut().read_until(request.room(), request.account(), now);
    let event = json!({ "action": "read", "subscription": { "roomId": request.room() }, "timestamp": now });
    let subject = format!("chat.user.{}.event.subscription.update", request.account());
    let _ = shared.client.publish(subject, to_json(&event).into()).await;
    Ok(json!({ "status": "accepted" }))
}

async fn receipt(shared: Arc<Shared>, request: Request) -> Answer {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Receipt {
        message_id: String,
    }
    let Receipt { message_id } = request.json()?;
    let room = joined(shared.directory().room(request.room()), request.account())?;
    let unavailable = || ErrorReply::because("unavailable", "read_receipts_unavailable", "the message cannot be resolved");
    let message = crate::history::find(&shared, request.room(), &message_id).ok_or_else(unavailable)?;
    if message.account != request.account() {
        return Err(ErrorReply::forbidden("not_sender", "only the sender sees who has read"));
    }
    let read = room.members.iter().filter(|(account, member)| **account != message.account && member.last_seen_ms >= message.at_ms);
    let readers: Vec<_> =
        read.map(|(account, member)| json!({ "userId": member.user_id, "account": account, "engName": member.display_name })).collect();
    Ok(json!({ "readers": readers }))
}

async fn mute(shared: Arc<Shared>, request: Request) -> Answer {
    joined(shared.directory().room(request.room()), request.account())?;
    let muted = {
        let mut directory = shared.directory_mut();
        let me = directory.room_mut(request.room()).and_then(|room| room.members.get_mut(request.account()));
        me.is_some_and(|me| {
            me.muted = !me.muted;
            me.muted
        })
    };
    let event =
        json!({ "type": "member.muted", "roomId": request.room(), "account": request.account(), "muted": muted, "timestamp": now_ms() });
    let subject = format!("chat.room.canonical.{}.event.member.muted", shared.config.site);
    let _ = shared.client.publish(subject, to_json(&event).into()).await;
    Ok(json!({ "status": "ok", "muted": muted }))
}
