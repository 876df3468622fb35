use crate::config::StageName;
use crate::fault::{FaultKind, perhaps_later};
use crate::message::{ErrorReply, to_json};
use crate::{Error, Shared};
use async_nats::Message;
use futures::StreamExt;
use serde_json::Value;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::task::JoinSet;

/// A request to a service.
pub(crate) struct Request {
    message: Message,
    /// The tokens of its subject.
    tokens: Vec<String>,
    /// Its number among those of the service.
    pub sequence: u64,
}

impl Request {
    /// `chat.user.ACCOUNT.…`
    pub fn account(&self) -> &str {
        self.tokens.get(2).map_or("", String::as_str)
    }

    /// `….request.room.ROOM.…`
    pub fn room(&self) -> &str {
        self.tokens.get(5).map_or("", String::as_str)
    }

    pub fn body(&self) -> &[u8] {
        &self.message.payload
    }

    /// The body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ErrorReply> {
        serde_json::from_slice(self.body()).map_err(|_| ErrorReply::new("bad_request", "invalid request payload"))
    }

    /// The id that job results will carry; a service mints one where there is none.
    pub fn request_id(&self) -> String {
        let given = self.message.headers.as_ref().and_then(|headers| headers.get("X-Request-ID")).map(|id| id.as_str().to_owned());
        given.unwrap_or_else(|| format!("00000000-0000-7000-8000-{:012x}", self.sequence))
    }
}

/// What is answered.
pub(crate) type Answer = Result<Value, ErrorReply>;

/// Answers requests on a subject, so many at a time as the stage may, with its service time and its faults.
pub(crate) async fn serve<F, H>(
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
    stage: StageName,
    subject: &str,
    handle: H,
) -> Result<(), Error>
where
    H: Fn(Arc<Shared>, Request) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send,
{
    let failed = |why: String| Error::JetStream { what: stage.durable().into(), why };
    let subscribed = shared.client.queue_subscribe(subject.to_owned(), stage.durable().into()).await;
    let requests = subscribed.map_err(|e| failed(e.to_string()))?;
    let shared = shared.clone();
    tasks.spawn(async move {
        let work = requests.for_each_concurrent(shared.config.stage(stage).concurrency, |message| {
            let (shared, handle) = (shared.clone(), &handle);
            async move {
                let sequence = shared.requests[stage as usize].fetch_add(1, Relaxed) + 1;
                let tokens = message.subject.as_str().split('.').map(str::to_owned).collect();
                answer(shared, stage, Request { message, tokens, sequence }, handle).await;
            }
        });
        work.await;
    });
    Ok(())
}

async fn answer<F: Future<Output = Answer>>(
    shared: Arc<Shared>,
    stage: StageName,
    request: Request,
    handle: &impl Fn(Arc<Shared>, Request) -> F,
) {
    let (sequence, inbox) = (request.sequence, request.message.reply.clone());
    let strikes = |kind| shared.strikes(kind, stage, sequence, "");
    shared.stand_still(stage).await;
    let service = shared.config.stage(stage).service.draw(shared.config.seed, sequence, stage.durable());
    if !service.is_zero() {
        tokio::time::sleep(service).await;
    }
    if strikes(FaultKind::Drop).is_some() {
        return;
    }
    let answer = match strikes(FaultKind::ErrorReply) {
        Some(fault) => Err(ErrorReply::new(fault.code, "an injected error")),
        None => handle(shared.clone(), request).await,
    };
    let reply = answer.map_or_else(|error| to_json(&error), |value| to_json(&value));
    let Some(inbox) = inbox else { return };
    let (delay, client) = (strikes(FaultKind::LateReply).map(|fault| fault.delay), shared.client.clone());
    // A requester that is gone does not matter.
    perhaps_later(delay, async move { drop(client.publish(inbox, reply.into()).await) }).await;
}
