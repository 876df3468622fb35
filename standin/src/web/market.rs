//! The market service: `GET /v1/quotes`, `/v1/indices`, `/v1/derivatives`, `/v1/foreign-flow`, `/health`, and snapshots over `GET /v1/stream`.

use super::{Shared, WebFaultKind, asked, header_of, json, refusal};
use crate::chance;
use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, frame::coding::CloseCode};

const SYMBOLS: [&str; 8] = ["AAPL", "BP", "DTE", "NESN", "SAP", "SHEL", "TSM", "VOD"];
const INDICES: [&str; 4] = ["DAX", "FTSE", "SMI", "SPX"];
/// A WebSocket is told that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// More than a client should be sent at a time.
const BIG: usize = 1_200_000;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/health", get(async || "{\"status\":\"ok\"}"))
        .route("/v1/quotes", get(async |State(s): State<Arc<Shared>>, RawQuery(q): RawQuery| answer(&s, "quotes", q.as_deref()).await))
        .route("/v1/indices", get(async |State(s): State<Arc<Shared>>, RawQuery(q): RawQuery| answer(&s, "indices", q.as_deref()).await))
        .route(
            "/v1/derivatives",
            get(async |State(s): State<Arc<Shared>>, RawQuery(q): RawQuery| answer(&s, "derivatives", q.as_deref()).await),
        )
        .route(
            "/v1/foreign-flow",
            get(async |State(s): State<Arc<Shared>>, RawQuery(q): RawQuery| answer(&s, "foreign", q.as_deref()).await),
        )
        .route("/v1/stream", get(stream))
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Prices go up and down with their number, the same for the same seed.
fn price(shared: &Shared, number: u64, name: &str) -> f64 {
    (100.0 + 10.0 * chance::unit(shared.config.seed, number, name) * 100.0).round() / 100.0
}

fn list(shared: &Shared, number: u64, kind: &str, symbol: Option<&str>) -> Value {
    let one = |name: &&str| {
        let price = price(shared, number, name);
        match kind {
            "derivatives" => json!({ "symbol": name, "strike": price.round(), "open_interest": number % 1000 }),
            "foreign" => json!({ "symbol": name, "net_flow": price - 105.0 }),
            _ => json!({ "symbol": name, "price": price, "volume": number % 10_000 }),
        }
    };
    let names = if kind == "indices" { &INDICES[..] } else { &SYMBOLS[..] };
    names.iter().filter(|name| symbol.is_none_or(|symbol| symbol == **name)).map(one).collect()
}

async fn answer(shared: &Shared, route: &'static str, query: Option<&str>) -> Response {
    let number = match shared.before(route).await {
        Ok(number) => number,
        Err(response) => return response,
    };
    let symbol = asked(query, "symbol");
    if symbol.is_some_and(|symbol| !SYMBOLS.contains(&symbol)) {
        return refusal(StatusCode::NOT_FOUND, "no_such_symbol");
    }
    let wrong = shared.strikes(WebFaultKind::Wrong, route, number).is_some();
    let found = if wrong { json!([]) } else { list(shared, number, route, symbol) };
    json(&json!({ "timestamp": now_ms(), route: found }))
}

async fn stream(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let Some(key) = header_of(request.headers(), "sec-websocket-key").map(str::to_owned) else {
        return refusal(StatusCode::UPGRADE_REQUIRED, "upgrade_required");
    };
    if let Err(refused) = shared.before("stream").await {
        return refused;
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            push(&shared, socket).await;
        }
    });
    let accept = derive_accept_key(key.as_bytes());
    let headers =
        [(header::CONNECTION, "Upgrade".to_owned()), (header::UPGRADE, "websocket".into()), (header::SEC_WEBSOCKET_ACCEPT, accept)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Snapshots until either side has enough.
async fn push(shared: &Shared, mut socket: WebSocketStream<TokioIo<Upgraded>>) {
    let _ = socket.send(Message::text(r#"{"type":"status","status":"connected"}"#)).await;
    let mut tick = tokio::time::interval(shared.config.push_every);
    let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let message = tokio::select! {
            _ = tick.tick() => {
                let number = shared.number("push");
                if shared.strikes(WebFaultKind::Disconnect, "push", number).is_some() {
                    let frame = CloseFrame { code: CloseCode::Away, reason: "injected".into() };
                    let _ = socket.close(Some(frame)).await;
                    return;
                }
                Message::text(snapshot(shared, number))
            }
            _ = heartbeat.tick() => {
                if socket.send(Message::Ping(Default::default())).await.is_err() {
                    return;
                }
                Message::text(r#"{"type":"ping"}"#)
            }
            came = socket.next() => match came {
                // Pings and closes are answered by the library.
                Some(Ok(Message::Text(text))) => match answer_to(&text) {
                    Some(answer) => answer,
                    None => continue,
                },
                Some(Ok(_)) => continue,
                _ => return,
            },
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Whoever asks with an id is answered with it.
fn answer_to(text: &str) -> Option<Message> {
    let asked: Value = serde_json::from_str(text).ok()?;
    let id = asked.get("id")?;
    Some(Message::text(json!({ "type": "subscribed", "id": id }).to_string()))
}

fn snapshot(shared: &Shared, number: u64) -> String {
    let wrong = shared.strikes(WebFaultKind::Wrong, "push", number).is_some();
    let quotes = if wrong { json!([]) } else { list(shared, number, "quotes", None) };
    let prices: serde_json::Map<String, Value> =
        SYMBOLS.iter().map(|name| ((*name).to_owned(), price(shared, number, name).into())).collect();
    let mut snapshot = json!({
        "type": "snapshot",
        "timestamp": now_ms(),
        "quotes": quotes,
        "indices": list(shared, number, "indices", None),
        "foreign": list(shared, number, "foreign", None),
        "derivatives": list(shared, number, "derivatives", None),
        "prices": prices,
    });
    if shared.strikes(WebFaultKind::Big, "push", number).is_some() {
        snapshot["filler"] = "x".repeat(BIG).into();
    }
    snapshot.to_string()
}
