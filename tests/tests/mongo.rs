//! Seeding, teardown, fingerprints and the stand-in's lookups on a real mongod.

use fixtures::mongo::{FIXTURES, Store, Stored};
use fixtures::{Population, preset};
use harness::{Mongod, World, series};
use mongodb::bson::{Document, doc};
use mongodb::{Client, IndexModel};
use standin::{Config, Directory};
use std::path::Path;

/// When the stores are seeded.
const AT_MS: i64 = 1_800_000_000_000;

fn population(name: &str, seed: u64) -> Population {
    Population::build(&preset(name).unwrap(), seed, Path::new(".")).unwrap()
}

async fn count(client: &Client, collection: &str) -> u64 {
    client.database("chat").collection::<Document>(collection).count_documents(doc! {}).await.unwrap()
}

#[tokio::test]
async fn teardown_removes_what_seed_wrote_and_nothing_else() {
    let mongod = Mongod::new();
    let client = Client::with_uri_str(mongod.uri()).await.unwrap();
    let users = client.database("chat").collection::<Document>("users");
    users.insert_one(doc! { "_id": "theirs", "account": "theirs" }).await.unwrap();
    let unique = mongodb::options::IndexOptions::builder().unique(true).build();
    users.create_index(IndexModel::builder().keys(doc! { "account": 1 }).options(unique).build()).await.unwrap();

    let store = Store::connect(mongod.uri()).await.unwrap();
    let (medium, other) = (population("medium", 1), population("medium", 2));
    let written = store.seed(&medium, "medium", "site-local", AT_MS, &mut |_| {}).await.unwrap().unwrap();
    assert_eq!((written.users, written.rooms, written.subscriptions), (1_000, 100, 1_000));
    assert_eq!(store.seed(&medium, "medium", "site-local", AT_MS, &mut |_| {}).await.unwrap(), None, "it is there already");
    store.seed(&other, "medium", "site-local", AT_MS, &mut |_| {}).await.unwrap().unwrap();
    assert_eq!((count(&client, "users").await, count(&client, "subscriptions").await), (2_001, 2_000));
    assert!(store.holds(medium.fingerprint()).await.unwrap());

    assert_eq!(store.teardown(medium.fingerprint()).await.unwrap(), written);
    assert!(!store.holds(medium.fingerprint()).await.unwrap());
    assert!(store.holds(other.fingerprint()).await.unwrap());
    store.teardown(other.fingerprint()).await.unwrap();
    assert_eq!((count(&client, "users").await, count(&client, "rooms").await, count(&client, "subscriptions").await), (1, 0, 0));
    assert_eq!(users.list_index_names().await.unwrap(), ["_id_", "account_1"]);
    assert!(!client.database("chat").list_collection_names().await.unwrap().contains(&FIXTURES.to_owned()));
}

#[tokio::test]
async fn a_seed_that_was_cut_off_is_not_taken_for_whole_and_is_done_again() {
    let mongod = Mongod::new();
    let client = Client::with_uri_str(mongod.uri()).await.unwrap();
    let store = Store::connect(mongod.uri()).await.unwrap();
    let small = population("small", 1);
    store.seed(&small, "small", "site-local", AT_MS, &mut |_| {}).await.unwrap();
    let chat = client.database("chat");
    chat.collection::<Document>(FIXTURES).update_one(doc! {}, doc! { "$set": { "state": "seeding" } }).await.unwrap();
    chat.collection::<Document>("rooms").delete_one(doc! {}).await.unwrap();
    assert!(!store.holds(small.fingerprint()).await.unwrap());
    store.seed(&small, "small", "site-local", AT_MS, &mut |_| {}).await.unwrap().unwrap();
    assert_eq!(count(&client, "rooms").await, 5);
}

#[tokio::test]
async fn the_store_has_what_the_services_look_up() {
    let mongod = Mongod::new();
    let store = Store::connect(mongod.uri()).await.unwrap();
    let realistic = population("realistic", 1);
    store.seed(&realistic, "realistic", "site-local", AT_MS, &mut |_| {}).await.unwrap();
    let Stored { users, rooms, subscriptions } = store.load("site-local").await.unwrap();
    let chat = realistic.chat().unwrap();
    assert_eq!((users.len(), rooms.len(), subscriptions.len()), (1_000, 100, chat.memberships.len()));
    assert_eq!(subscriptions.iter().filter(|s| s.2).count(), 100, "one owner each");
    assert!(store.load("elsewhere").await.unwrap().users.is_empty());
    let client = Client::with_uri_str(mongod.uri()).await.unwrap();
    let rooms = client.database("chat").collection::<Document>("rooms");
    assert_eq!(rooms.count_documents(doc! { "type": "channel", "encKey.priv": { "$type": "binData" } }).await.unwrap(), 90);
    assert_eq!(rooms.count_documents(doc! { "type": "dm", "encKey": { "$exists": true } }).await.unwrap(), 0);
}

#[tokio::test]
async fn what_was_said_and_read_before_ends_when_the_store_was_seeded() {
    let mongod = Mongod::new();
    let store = Store::connect(mongod.uri()).await.unwrap();
    let client = Client::with_uri_str(mongod.uri()).await.unwrap();
    let of = |collection: &str| client.database("chat").collection::<Document>(collection);
    let at = |ms: i64| mongodb::bson::DateTime::from_millis(AT_MS + ms);

    let receipts = population("read-receipt-small", 1);
    store.seed(&receipts, "read-receipt-small", "site-local", AT_MS, &mut |_| {}).await.unwrap().unwrap();
    // A hundred messages in a day: the last is younger than their distance.
    let last = doc! { "lastMsgAt": { "$gt": at(-864_000), "$lte": at(0) }, "lastMsgId": { "$ne": "" } };
    assert_eq!(of("rooms").count_documents(last).await.unwrap(), 5);
    assert_eq!(of("subscriptions").count_documents(doc! { "lastSeenAt": { "$exists": true } }).await.unwrap(), 5 * 7, "seven of ten");
    store.teardown(receipts.fingerprint()).await.unwrap();

    let threads = population("thread-small", 1);
    let written = store.seed(&threads, "thread-small", "site-local", AT_MS, &mut |_| {}).await.unwrap().unwrap();
    assert_eq!((written.threads, count(&client, "thread_rooms").await), (5 * 8, 5 * 8));
    assert_eq!(store.seeded_at_ms(threads.fingerprint()).await.unwrap(), Some(AT_MS));
    assert_eq!(store.teardown(threads.fingerprint()).await.unwrap(), written);

    let unread = population("room-read-small", 1);
    store.seed(&unread, "room-read-small", "site-local", AT_MS, &mut |_| {}).await.unwrap().unwrap();
    let ahead = doc! { "lastMsgAt": at(86_400_000), "minUserLastSeenAt": { "$lt": at(86_400_000) } };
    assert_eq!(of("rooms").count_documents(ahead).await.unwrap(), 5);
    let read = doc! { "lastSeenAt": { "$gte": at(86_400_000 - 7 * 86_400_000), "$lte": at(86_340_000) } };
    assert_eq!(of("subscriptions").count_documents(read).await.unwrap(), 10);
}

#[test]
fn the_stand_in_takes_its_members_from_the_store() {
    let (world, mongod) = (World::new(), Mongod::new());
    let (path, meta) = world.compile("small", 100.0, 1_000_000_000);
    let stored = world.runtime.block_on(async {
        let store = Store::connect(mongod.uri()).await.unwrap();
        let population = Population::of_schedule(&meta).unwrap();
        store.seed(&population, "small", "site-local", AT_MS, &mut |_| {}).await.unwrap();
        store.load("site-local").await.unwrap()
    });
    let services = world.standin_with(Directory::from_store(&stored), Config::default());
    let (_, summary) = world.run(&world.options(&path, "stored"));
    services.stop();
    assert_eq!((series(&summary, "send/reply").ok, series(&summary, "send/broadcast").ok), (100, 100));

    let services = world.standin_with(Directory::default(), Config::default());
    let (_, summary) = world.run(&world.options(&path, "empty"));
    services.stop();
    assert_eq!(series(&summary, "send/reply").errors["not_subscribed"], 100);
    assert_eq!(series(&summary, "send/broadcast").void, 100);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_one_sentence_without_its_password() {
    let error = Store::connect("mongodb://user:secret@127.0.0.1:1/").await.err().unwrap().to_string();
    assert!(error.starts_with("cannot reach MongoDB at 127.0.0.1:1"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}
