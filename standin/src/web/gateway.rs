//! The search gateway: `POST /v1/matrix/search`, `POST /v1/matrix/playbooks/record`.

use super::{Shared, WebFaultKind, json, refusal};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// Workers, and what was learnt of them.
pub(super) struct Gateway {
    workers: Vec<BTreeMap<String, String>>,
    /// (query, role, id) of what was recorded as a good answer.
    playbooks: Mutex<HashSet<(String, String, String)>>,
    recording: AtomicU64,
}

#[derive(Deserialize)]
struct Search {
    query_text: String,
    query_role: String,
    #[serde(default)]
    k: usize,
    #[serde(default)]
    per_corpus_k: Option<usize>,
    #[serde(default)]
    use_playbook: bool,
    #[serde(default)]
    exclude_ids: Vec<String>,
}

#[derive(Deserialize)]
struct Record {
    query_text: String,
    role: String,
    answer_id: String,
}

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/v1/matrix/search", post(search)).route("/v1/matrix/playbooks/record", post(record))
}

impl Gateway {
    pub fn new(workers: Option<&schedule::Table>) -> Gateway {
        let row = |table: &schedule::Table, row: &[String]| table.columns.iter().cloned().zip(row.iter().cloned()).collect();
        let workers = workers.map(|table| table.rows.iter().map(|values| row(table, values)).collect()).unwrap_or_default();
        Gateway { workers, playbooks: Mutex::default(), recording: AtomicU64::new(0) }
    }

    /// The nearest workers of a role, by the words that they share with the query; what was recorded for the query comes nearer.
    fn search(&self, asked: &Search) -> Value {
        let words: HashSet<String> = asked.query_text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect();
        let playbooks = self.playbooks.lock().expect("no panic while locked");
        let recorded =
            |id: &String| asked.use_playbook && playbooks.contains(&(asked.query_text.clone(), asked.query_role.clone(), id.clone()));
        let mut found: Vec<(f64, bool, &BTreeMap<String, String>)> = Vec::new();
        for worker in &self.workers {
            let Some(id) = worker.get("id").filter(|id| !asked.exclude_ids.contains(id)) else { continue };
            let of_role = worker.get("role") == Some(&asked.query_role);
            let own: HashSet<String> = worker.values().flat_map(|v| v.split(' ')).map(str::to_lowercase).collect();
            let distance = 1.0 - own.intersection(&words).count() as f64 / own.len().max(1) as f64;
            if of_role || recorded(id) {
                found.push((if recorded(id) { distance / 2.0 } else { distance }, recorded(id), worker));
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.2["id"].cmp(&b.2["id"])));
        found.truncate(asked.k.min(asked.per_corpus_k.unwrap_or(usize::MAX)).max(1));
        let boosted = found.iter().filter(|(_, boosted, _)| *boosted).count();
        let result = |(distance, _, worker): &(f64, bool, &BTreeMap<String, String>)| json!({ "id": worker["id"], "distance": distance, "corpus": "workers", "metadata": worker });
        json!({ "results": found.iter().map(result).collect::<Vec<_>>(), "playbook_boosted": boosted, "playbook_injected": 0 })
    }

    /// What the check of a step should find: one that was excluded, or one that nobody knows.
    fn spoil(&self, asked: &Search, answer: &mut Value) {
        let id = asked.exclude_ids.first().cloned().unwrap_or_else(|| "nobody".into());
        if let Some(first) = answer["results"].get_mut(0) {
            first["id"] = id.clone().into();
            first["metadata"]["id"] = id.into();
        }
    }
}

async fn search(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let began = Instant::now();
    let number = match shared.before("search").await {
        Ok(number) => number,
        Err(response) => return response,
    };
    let Ok(asked) = serde_json::from_slice::<Search>(&body) else { return refusal(StatusCode::BAD_REQUEST, "bad_request") };
    let mut answer = shared.gateway.search(&asked);
    if shared.strikes(WebFaultKind::Wrong, "search", number).is_some() {
        shared.gateway.spoil(&asked, &mut answer);
    }
    shared.hear("search", &body, began, &answer);
    json(&answer)
}

async fn record(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let under_way = shared.gateway.recording.fetch_add(1, Relaxed) + 1;
    let answer = recorded(&shared, &body, under_way).await;
    shared.gateway.recording.fetch_sub(1, Relaxed);
    answer
}

async fn recorded(shared: &Shared, body: &Bytes, under_way: u64) -> Response {
    let began = Instant::now();
    let overloaded = shared.config.faults.iter().any(|f| f.kind == WebFaultKind::Overload && under_way > f.most);
    let number = match shared.before("record").await {
        Ok(number) => number,
        Err(response) => return response,
    };
    if overloaded {
        shared.ledger.record("overload", "record", number, "");
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "overloaded");
    }
    let Ok(asked) = serde_json::from_slice::<Record>(body) else { return refusal(StatusCode::BAD_REQUEST, "bad_request") };
    if !shared.gateway.workers.iter().any(|worker| worker["id"] == asked.answer_id) {
        return refusal(StatusCode::NOT_FOUND, "not_found");
    }
    shared.gateway.playbooks.lock().expect("no panic while locked").insert((asked.query_text, asked.role, asked.answer_id));
    let answer = json!({ "recorded": true, "id": format!("playbook-{number}") });
    shared.hear("record", body, began, &answer);
    json(&answer)
}
