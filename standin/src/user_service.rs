use crate::config::StageName;
use crate::service::{Answer, Request, serve as answer};
use crate::{Error, Shared};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Answers `subscription.list`: the rooms of a user.
pub(crate) async fn serve(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> Result<(), Error> {
    let subject = format!("chat.user.*.request.user.{}.subscription.list", shared.config.site);
    answer(shared, tasks, StageName::UserService, &subject, list).await
}

#[derive(Deserialize)]
struct List {
    #[serde(rename = "type")]
    kind: String,
}

async fn list(shared: Arc<Shared>, request: Request) -> Answer {
    let List { kind } = request.json()?;
    let directory = shared.directory();
    let rooms = directory.rooms_of(request.account()).iter().filter_map(|id| Some((id, directory.room(id)?)));
    let rows: Vec<_> = rooms
        .filter(|_| kind != "apps")
        .map(|(id, room)| {
            let me = &room.members[request.account()];
            json!({
                "roomId": id, "name": room.name, "roomType": room.kind.name(), "muted": me.muted, "siteId": shared.config.site,
                "u": { "_id": me.user_id, "account": request.account() },
                "room": { "name": room.name, "userCount": room.members.len(), "lastMsgAt": shared.history.last_at(id) },
            })
        })
        .collect();
    Ok(json!({ "total": rows.len(), "subscriptions": rows }))
}
