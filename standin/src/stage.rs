use crate::config::StageName;
use crate::{Error, Shared};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::{AckKind, Message};
use futures::StreamExt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What a handler wants done with a message.
pub(crate) enum Done {
    Ack,
    /// Deliver it again.
    Nak,
}

/// Consumes the stage's stream with its durable, `concurrency` messages at a time.
pub(crate) async fn spawn<F, H>(shared: &Arc<Shared>, tasks: &mut JoinSet<()>, name: StageName, handle: H) -> Result<(), Error>
where
    H: Fn(Arc<Shared>, Delivery) -> F + Send + Sync + 'static,
    F: Future<Output = Done> + Send,
{
    let failed = |why: String| Error::JetStream { what: format!("consumer {}", name.durable()), why };
    let consumer = consumer(shared, name).await.map_err(failed)?;
    let concurrency = shared.config.stage(name).concurrency;
    let batch = consumer.stream().max_messages_per_batch(2 * concurrency).messages().await;
    let messages = batch.map_err(|e| Error::JetStream { what: format!("consumer {}", name.durable()), why: e.to_string() })?;
    let shared = shared.clone();
    tasks.spawn(async move {
        let work = messages.for_each_concurrent(concurrency, |message| {
            let (shared, handle) = (shared.clone(), &handle);
            async move {
                // A failed pull is asked again by the stream itself.
                let Ok(message) = message else { return };
                let Some(delivery) = Delivery::new(message) else { return };
                shared.stand_still(name).await;
                let service = shared.config.stage(name).service.draw(shared.config.seed, delivery.sequence, name.durable());
                // A sleep of no time still waits for the next tick of a millisecond.
                if !service.is_zero() {
                    tokio::time::sleep(service).await;
                }
                let message = delivery.message.clone();
                let ack = match handle(shared, delivery).await {
                    Done::Ack => AckKind::Ack,
                    Done::Nak => AckKind::Nak(None),
                };
                // An ack that is lost leads to a redelivery, which is the store's business.
                let _ = message.ack_with(ack).await;
            }
        });
        work.await;
    });
    Ok(())
}

async fn consumer(shared: &Shared, name: StageName) -> Result<PullConsumer, String> {
    let site = &shared.config.site;
    let (stream, filter) = match name {
        StageName::Gatekeeper => (format!("MESSAGES_{site}"), String::new()),
        StageName::BroadcastWorker => (format!("MESSAGES_CANONICAL_{site}"), String::new()),
        StageName::RoomWorker => (format!("ROOMS_{site}"), String::new()),
        StageName::MessageWorker | StageName::NotificationWorker => {
            (format!("MESSAGES_CANONICAL_{site}"), format!("chat.msg.canonical.{site}.created"))
        }
        // They consume no stream.
        _ => return Err("it is a service".into()),
    };
    let config = pull::Config {
        durable_name: Some(name.durable().into()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(30),
        max_deliver: 5,
        max_waiting: 512,
        max_ack_pending: 1000,
        filter_subject: filter,
        ..Default::default()
    };
    let stream = shared.jetstream.get_stream(stream).await.map_err(|e| e.to_string())?;
    stream.create_consumer(config).await.map_err(|e| e.to_string())
}

/// A message with its place in the stream.
pub(crate) struct Delivery {
    pub message: Message,
    pub sequence: u64,
    /// 1 for the first delivery.
    pub attempt: i64,
}

impl Delivery {
    fn new(message: Message) -> Option<Delivery> {
        let info = message.info().ok()?;
        let (sequence, attempt) = (info.stream_sequence, info.delivered);
        Some(Delivery { message, sequence, attempt })
    }
}
