use crate::message::now_ms;
use fixtures::{Chat, RoomKind};
use std::collections::HashMap;
use std::sync::Arc;

/// Who is in which room: what the services look up in their store.
#[derive(Debug, Default)]
pub struct Directory {
    rooms: HashMap<String, RoomInfo>,
    /// Account and display name by id.
    users_by_id: HashMap<String, (String, String)>,
    ids_by_account: HashMap<String, String>,
    rooms_by_account: HashMap<String, Vec<String>>,
    /// What was said before, and the numbers of the rooms.
    pub(crate) said: Option<(Arc<Chat>, HashMap<String, u32>)>,
}

/// A room and its members.
#[derive(Debug, Clone)]
pub struct RoomInfo {
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: RoomKind,
    /// Members by account.
    pub members: HashMap<String, Member>,
}

/// A member of a room.
#[derive(Debug, Clone)]
pub struct Member {
    /// Id of the user.
    pub user_id: String,
    /// Display name.
    pub display_name: String,
    /// Whether the large-room rule does not apply.
    pub privileged: bool,
    /// Whether it wants no notifications.
    pub muted: bool,
    /// When it last read, epoch ms.
    pub last_seen_ms: i64,
}

impl Directory {
    /// From a population.
    pub fn from_chat(chat: &Arc<Chat>) -> Directory {
        let mut directory = Directory::default().said_before(chat);
        let display = |user: &fixtures::User| format!("{} {}", user.eng_name, user.chinese_name);
        for user in &chat.users {
            directory.add_user(&user.id, &user.account, &display(user));
        }
        let now_ms = now_ms();
        for (number, room) in (0..).zip(&chat.rooms) {
            directory.add_room(&room.id, &room.name, room.kind);
            for (i, &member) in (0..).zip(&room.members) {
                let user = &chat.users[member as usize];
                directory.add_member(&room.id, &user.id, i == 0);
                let read_ms = chat.last_read_ns(number, i).map_or(0, |ns| now_ms + ns / 1_000_000);
                directory.read_until(&room.id, &user.account, read_ms);
            }
        }
        directory
    }

    /// From what a store holds.
    pub fn from_store(stored: &fixtures::mongo::Stored) -> Directory {
        let mut directory = Directory::default();
        stored.users.iter().for_each(|(id, account, display)| directory.add_user(id, account, display));
        stored.rooms.iter().for_each(|room| directory.add_room(&room.id, &room.name, room.kind));
        stored.subscriptions.iter().for_each(|(room, user, privileged)| directory.add_member(room, user, *privileged));
        directory
    }

    /// With the messages that a population has from before.
    pub fn said_before(mut self, chat: &Arc<Chat>) -> Directory {
        let numbers = || chat.rooms.iter().zip(0..).map(|(room, number)| (room.id.clone(), number)).collect();
        let any = (0..chat.rooms.len() as u32).any(|room| chat.messages(room).is_some());
        self.said = any.then(|| (chat.clone(), numbers()));
        self
    }

    /// Adds a user.
    pub fn add_user(&mut self, id: &str, account: &str, display_name: &str) {
        self.users_by_id.insert(id.to_owned(), (account.to_owned(), display_name.to_owned()));
        self.ids_by_account.insert(account.to_owned(), id.to_owned());
    }

    /// Adds a room without members.
    pub fn add_room(&mut self, id: &str, name: &str, kind: RoomKind) {
        self.rooms.insert(id.to_owned(), RoomInfo { name: name.to_owned(), kind, members: HashMap::new() });
    }

    /// Adds a known user to a known room; anything else is ignored, as a dangling subscription would be.
    pub fn add_member(&mut self, id: &str, user_id: &str, privileged: bool) {
        if let (Some(room), Some((account, display_name))) = (self.rooms.get_mut(id), self.users_by_id.get(user_id)) {
            let member =
                Member { user_id: user_id.to_owned(), display_name: display_name.clone(), privileged, muted: false, last_seen_ms: 0 };
            if room.members.insert(account.clone(), member).is_none() {
                self.rooms_by_account.entry(account.clone()).or_default().push(id.to_owned());
            }
        }
    }

    /// A member last read in a room at this time, epoch ms.
    pub fn read_until(&mut self, room: &str, account: &str, at_ms: i64) {
        if let Some(member) = self.rooms.get_mut(room).and_then(|room| room.members.get_mut(account)) {
            member.last_seen_ms = at_ms;
        }
    }

    pub(crate) fn room(&self, id: &str) -> Option<&RoomInfo> {
        self.rooms.get(id)
    }

    pub(crate) fn room_mut(&mut self, id: &str) -> Option<&mut RoomInfo> {
        self.rooms.get_mut(id)
    }

    /// Id of the user with this account.
    pub(crate) fn user_id(&self, account: &str) -> Option<&str> {
        self.ids_by_account.get(account).map(String::as_str)
    }

    /// Ids of the rooms that a user is in.
    pub(crate) fn rooms_of(&self, account: &str) -> &[String] {
        self.rooms_by_account.get(account).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn knows_user(&self, id: &str) -> bool {
        self.users_by_id.contains_key(id)
    }

    /// Number of rooms and of users.
    pub fn size(&self) -> (usize, usize) {
        (self.rooms.len(), self.users_by_id.len())
    }
}
