use crate::config::StageName;
use crate::message::{ErrorReply, StoredMessage, now_ms, rfc3339};
use crate::service::{Answer, Request, serve as answer};
use crate::{Directory, Error, Shared};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;

/// Most messages kept; the oldest go first.
const KEPT: usize = 1_000_000;
/// Messages of a page, if nothing is said, and at most.
const PAGE: (usize, usize) = (20, 100);

/// What message-worker stored: messages by id and by room, and who follows which thread.
#[derive(Default)]
pub(crate) struct History(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    messages: HashMap<String, (StoredMessage, HashSet<String>)>,
    /// Ids, the oldest first.
    rooms: HashMap<String, Vec<String>>,
    threads: HashMap<String, Vec<String>>,
    order: VecDeque<String>,
}

/// A message as history knows it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub id: String,
    pub account: String,
    pub user_id: String,
    pub at_ms: i64,
    pub text: String,
    pub parent: Option<String>,
}

impl Known {
    fn to_json(&self, room: &str) -> Value {
        json!({
            "messageId": self.id, "roomId": room, "createdAt": rfc3339(self.at_ms), "msg": self.text, "threadParentId": self.parent,
            "sender": { "id": self.user_id, "account": self.account },
        })
    }
}

impl From<&StoredMessage> for Known {
    fn from(m: &StoredMessage) -> Known {
        let at = time::OffsetDateTime::parse(&m.created_at, &time::format_description::well_known::Rfc3339);
        let at_ms = at.map_or_else(|_| now_ms(), |at| (at.unix_timestamp_nanos() / 1_000_000) as i64);
        Known {
            id: m.id.clone(),
            account: m.user_account.clone(),
            user_id: m.user_id.clone(),
            at_ms,
            text: m.content.clone(),
            parent: m.thread_parent_message_id.clone(),
        }
    }
}

impl History {
    /// Stores a message. A thread reply makes its author and the parent's follow the thread.
    pub fn store(&self, message: StoredMessage) {
        let mut kept = self.0.lock().expect("no panic while locked");
        if let Some(parent) = &message.thread_parent_message_id {
            kept.threads.entry(parent.clone()).or_default().push(message.id.clone());
            if let Some(parent) = kept.messages.get_mut(parent) {
                let author = parent.0.user_account.clone();
                parent.1.extend([author, message.user_account.clone()]);
            }
        }
        if kept.order.len() == KEPT
            && let Some(oldest) = kept.order.pop_front()
            && let Some((gone, _)) = kept.messages.remove(&oldest)
            && let Some(ids) = kept.rooms.get_mut(&gone.room_id)
        {
            ids.retain(|id| *id != oldest);
        }
        kept.order.push_back(message.id.clone());
        if message.thread_parent_message_id.is_none() || message.tshow {
            kept.rooms.entry(message.room_id.clone()).or_default().push(message.id.clone());
        }
        kept.messages.insert(message.id.clone(), (message, HashSet::new()));
    }

    /// Followers of the thread under message `id`.
    pub fn followers(&self, id: &str) -> Vec<String> {
        let kept = self.0.lock().expect("no panic while locked");
        kept.messages.get(id).map(|(_, followers)| followers.iter().cloned().collect()).unwrap_or_default()
    }

    /// When the last message of a room was stored.
    pub fn last_at(&self, room: &str) -> Option<String> {
        let kept = self.0.lock().expect("no panic while locked");
        let last = kept.rooms.get(room)?.last()?;
        kept.messages.get(last).map(|(message, _)| message.created_at.clone())
    }

    /// The newest messages of a room before a time, the newest first.
    fn page(&self, room: &str, before_ms: i64, limit: usize) -> Vec<Known> {
        let kept = self.0.lock().expect("no panic while locked");
        let ids = kept.rooms.get(room).map_or(&[][..], Vec::as_slice);
        let known = ids.iter().rev().filter_map(|id| kept.messages.get(id)).map(|(message, _)| Known::from(message));
        known.filter(|message| message.at_ms < before_ms).take(limit).collect()
    }

    fn replies(&self, parent: &str) -> Vec<Known> {
        let kept = self.0.lock().expect("no panic while locked");
        let ids = kept.threads.get(parent).map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| kept.messages.get(id)).map(|(message, _)| Known::from(message)).collect()
    }

    fn get(&self, id: &str) -> Option<Known> {
        self.0.lock().expect("no panic while locked").messages.get(id).map(|(message, _)| Known::from(message))
    }
}

/// A message of a room by its id, stored or said before.
pub(crate) fn find(shared: &Shared, room: &str, id: &str) -> Option<Known> {
    shared.history.get(id).or_else(|| {
        let directory = shared.directory();
        let before = Before::of(shared, &directory, room)?;
        Some(before.message(before.chat.number(before.room, id)?))
    })
}

/// What was said in a room before the stand-in began.
struct Before<'a> {
    chat: &'a fixtures::Chat,
    room: u32,
    spec: &'a fixtures::MessagesSpec,
    began_ms: i64,
}

impl<'a> Before<'a> {
    fn of(shared: &Shared, directory: &'a Directory, room: &str) -> Option<Before<'a>> {
        let (chat, rooms) = directory.said.as_ref()?;
        let room = *rooms.get(room)?;
        Some(Before { chat, room, spec: chat.messages(room)?, began_ms: shared.began_ms })
    }

    fn message(&self, number: u32) -> Known {
        self.known(self.chat.message(self.room, number))
    }

    fn known(&self, said: fixtures::Said) -> Known {
        let sender = &self.chat.users[said.sender as usize];
        Known {
            id: said.id,
            account: sender.account.clone(),
            user_id: sender.id.clone(),
            at_ms: self.began_ms - said.age_ns / 1_000_000,
            text: "x".repeat(self.spec.bytes as usize),
            parent: said.parent,
        }
    }

    /// The newest messages before a time, the newest first.
    fn page(&self, before_ms: i64, limit: usize) -> Vec<Known> {
        let earlier = |n: u32| self.began_ms - self.chat.message(self.room, n).age_ns / 1_000_000 < before_ms;
        // Times rise with the number.
        let (mut low, mut high) = (0, self.spec.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if earlier(middle) { low = middle + 1 } else { high = middle }
        }
        (0..low).rev().take(limit).map(|n| self.message(n)).collect()
    }

    /// Replies in the thread under a message.
    fn replies(&self, parent: &str) -> Vec<Known> {
        let thread = self.chat.number(self.room, parent).and_then(|number| self.chat.thread_of(self.room, number));
        let replies = thread.into_iter().flat_map(|thread| (0..self.spec.replies).map(move |n| self.chat.reply(self.room, thread, n)));
        replies.map(|said| self.known(said)).collect()
    }
}

/// Subject of `msg.get` for a user and a room.
pub(crate) fn get_subject(account: &str, room: &str, site: &str) -> String {
    format!("chat.user.{account}.request.room.{room}.{site}.msg.get")
}

/// Answers `msg.get`, `msg.history` and `msg.thread`.
pub(crate) async fn serve(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> Result<(), Error> {
    let (site, stage) = (shared.config.site.clone(), StageName::HistoryService);
    answer(shared, tasks, stage, &get_subject("*", "*", &site), get).await?;
    answer(shared, tasks, stage, &format!("chat.user.*.request.room.*.{site}.msg.history"), history).await?;
    answer(shared, tasks, stage, &format!("chat.user.*.request.room.*.{site}.msg.thread"), thread).await
}

fn not_found() -> ErrorReply {
    ErrorReply::new("not_found", "message not found")
}

/// Only members see what was said.
fn subscribed(shared: &Shared, request: &Request) -> Result<(), ErrorReply> {
    let directory = shared.directory();
    match directory.room(request.room()).is_some_and(|room| room.members.contains_key(request.account())) {
        true => Ok(()),
        false => Err(ErrorReply::forbidden("not_subscribed", "not subscribed")),
    }
}

async fn get(shared: Arc<Shared>, request: Request) -> Answer {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Get {
        message_id: String,
    }
    let Get { message_id } = request.json()?;
    find(&shared, request.room(), &message_id).map(|known| known.to_json(request.room())).ok_or_else(not_found)
}

async fn history(shared: Arc<Shared>, request: Request) -> Answer {
    #[derive(Deserialize)]
    struct Page {
        before: Option<i64>,
        limit: Option<usize>,
    }
    let Page { before, limit } = request.json()?;
    subscribed(&shared, &request)?;
    let (before_ms, limit) = (before.unwrap_or(i64::MAX), limit.unwrap_or(PAGE.0).clamp(1, PAGE.1));
    let mut page = shared.history.page(request.room(), before_ms, limit);
    let rest = limit - page.len();
    let directory = shared.directory();
    page.extend(Before::of(&shared, &directory, request.room()).into_iter().flat_map(|before| before.page(before_ms, rest)));
    Ok(json!({ "messages": page.iter().map(|known| known.to_json(request.room())).collect::<Vec<_>>() }))
}

async fn thread(shared: Arc<Shared>, request: Request) -> Answer {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Thread {
        thread_message_id: String,
        cursor: Option<String>,
        limit: Option<usize>,
    }
    let Thread { thread_message_id, cursor, limit } = request.json()?;
    subscribed(&shared, &request)?;
    let parent = find(&shared, request.room(), &thread_message_id).ok_or_else(not_found)?;
    let directory = shared.directory();
    let mut replies = Before::of(&shared, &directory, request.room()).map_or_else(Vec::new, |before| before.replies(&parent.id));
    replies.extend(shared.history.replies(&parent.id));
    let (from, limit) = (cursor.and_then(|c| c.parse().ok()).unwrap_or(0usize), limit.unwrap_or(PAGE.0).clamp(1, PAGE.1));
    let page: Vec<Value> = replies.iter().skip(from).take(limit).map(|known| known.to_json(request.room())).collect();
    let next = from + page.len();
    let more = next < replies.len();
    Ok(json!({
        "messages": page, "hasNext": more, "nextCursor": more.then(|| next.to_string()), "parentMessage": parent.to_json(request.room()),
    }))
}
