//! The same work done with async-nats, the client a Rust user would otherwise take.

use async_nats::{Client, HeaderMap, Subject};
use futures::StreamExt;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn subject(name: &str) -> Subject {
    name.into()
}

/// Publishes as fast as it can.
pub async fn publish(url: &str, count: u64, size: usize, headers: bool) -> Outcome {
    let client = async_nats::connect(url).await?;
    let payload: bytes::Bytes = vec![b'x'; size].into();
    let (to, mut header) = (subject("bench.flood"), HeaderMap::new());
    header.insert("X-Request-ID", "018f6f0e-5b7a-7c31-9d52-0c4f1b2a9e77");
    for _ in 0..count {
        if headers {
            client.publish_with_headers(to.clone(), header.clone(), payload.clone()).await?;
        } else {
            client.publish(to.clone(), payload.clone()).await?;
        }
    }
    client.flush().await?;
    Ok(())
}

/// Receives `count` messages of a subject.
pub async fn receive(url: &str, on: &str, count: u64) -> Outcome {
    let client = async_nats::ConnectOptions::new().subscription_capacity(1 << 22).connect(url).await?;
    let mut messages = client.subscribe(on.to_owned()).await?;
    client.flush().await?;
    println!("ready");
    for _ in 0..count {
        messages.next().await.ok_or("the subscription ended")?;
    }
    Ok(())
}

/// Requests at a fixed rate, each in a task of its own.
pub async fn request(url: &str, to: &str, rate: f64, seconds: f64, size: usize) -> Outcome {
    let client = async_nats::connect(url).await?;
    let payload: bytes::Bytes = vec![b'x'; size].into();
    let ask = |client: Client, to: String, payload: bytes::Bytes| async move { client.request(to, payload).await.is_ok() };
    at_rate(rate, seconds, |tasks| drop(tasks.spawn(ask(client.clone(), to.to_owned(), payload.clone())))).await
}

/// JetStream publishes at a fixed rate, each acknowledgement awaited in a task of its own.
pub async fn jetstream(url: &str, to: &str, rate: f64, seconds: f64, size: usize) -> Outcome {
    let client = async_nats::connect(url).await?;
    let context = async_nats::jetstream::ContextBuilder::new().max_ack_inflight(1_000_000).build(client);
    let payload: bytes::Bytes = vec![b'x'; size].into();
    let ask = |context: async_nats::jetstream::Context, to: String, payload: bytes::Bytes| async move {
        match context.publish(to, payload).await {
            Ok(ack) => ack.await.is_ok(),
            Err(_) => false,
        }
    };
    at_rate(rate, seconds, |tasks| drop(tasks.spawn(ask(context.clone(), to.to_owned(), payload.clone())))).await
}

/// A stream in memory that keeps little of what it acknowledged.
pub async fn stream(url: &str, on: &str) -> Outcome {
    let context = async_nats::jetstream::new(async_nats::connect(url).await?);
    let storage = async_nats::jetstream::stream::StorageType::Memory;
    let config = async_nats::jetstream::stream::Config {
        name: "BENCH".into(),
        subjects: vec![on.into()],
        storage,
        max_messages: 100_000,
        ..Default::default()
    };
    context.create_stream(config).await?;
    Ok(())
}

/// What is due is started every millisecond, the grain of tokio's timer.
async fn at_rate(rate: f64, seconds: f64, mut start: impl FnMut(&mut JoinSet<bool>)) -> Outcome {
    let (mut tasks, mut answered, mut sent) = (JoinSet::new(), 0u64, 0u64);
    let began = Instant::now();
    let total = (rate * seconds) as u64;
    while sent < total {
        let due = ((began.elapsed().as_secs_f64() * rate) as u64).min(total);
        (sent..due).for_each(|_| start(&mut tasks));
        sent = due;
        while let Some(done) = tasks.try_join_next() {
            answered += u64::from(done?);
        }
        sleep_until(Instant::now() + Duration::from_millis(1)).await;
    }
    while let Some(done) = tasks.join_next().await {
        answered += u64::from(done?);
    }
    println!("{answered}");
    Ok(())
}

/// Sends each op of a list of times at its time by `sleep_until`; prints the lateness of each, ns.
pub async fn pace(url: &str, to: &str, times_ns: &[i64], size: usize) -> Outcome {
    let client = async_nats::connect(url).await?;
    let payload: bytes::Bytes = vec![b'x'; size].into();
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await?;
    let reader = tokio::spawn(async move { while replies.next().await.is_some() {} });
    let began = Instant::now() + Duration::from_millis(300);
    let mut late_ns = Vec::with_capacity(times_ns.len());
    for &at_ns in times_ns {
        let due = began + Duration::from_nanos(at_ns as u64);
        sleep_until(due).await;
        late_ns.push(Instant::now().saturating_duration_since(due).as_nanos() as i64);
        client.publish_with_reply(to.to_owned(), inbox.clone(), payload.clone()).await?;
    }
    client.flush().await?;
    reader.abort();
    late_ns.sort_unstable();
    println!("{}", late_ns[(late_ns.len() * 99).div_ceil(100) - 1]);
    Ok(())
}
