//! The example that is not a chat: a JetStream stream, a processor that announces, a service that answers.

use async_nats::jetstream;
use fixtures::{Overrides, Population, Workload};
use futures::StreamExt;
use harness::{World, series};
use std::path::Path;

#[test]
fn the_example_workload_is_replayed_and_answered() {
    let world = World::new();
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let text = std::fs::read_to_string(base.join("sensors.toml")).unwrap();
    let overrides = Overrides { duration_ns: Some(15_000_000_000), rate_per_sec: Some(100.0), ..Overrides::default() };
    let workload = Workload::parse(&text, "sensors.toml").unwrap().with(&overrides).unwrap();
    let population = Population::build(&workload, workload.seed, &base).unwrap();
    let path = world.path("sensors.parquet");
    let meta = fixtures::compile(&workload, &population, &path, &mut |_| {}).unwrap();
    assert_eq!(meta.rows, 3_000, "10 s at 100/s and 5 s at four times that");
    let (client, options) = (world.nats(), world.options(&path, "sensors"));
    let services = world.runtime.spawn(async move {
        let client = replay::control::connect(&client).await.unwrap();
        let config = jetstream::stream::Config { name: "SENSORS".into(), subjects: vec!["sensors.*.report".into()], ..Default::default() };
        jetstream::new(client.clone()).create_stream(config).await.unwrap();
        let mut reports = client.subscribe("sensors.*.report").await.unwrap();
        let mut asked = client.subscribe("settings.*.get").await.unwrap();
        loop {
            tokio::select! {
                Some(report) = reports.next() => client.publish("sensors.processed", report.payload).await.unwrap(),
                Some(ask) = asked.next() => client.publish(ask.reply.unwrap(), r#"{"every":"60s"}"#.into()).await.unwrap(),
            }
        }
    });
    world.runtime.block_on(async {
        // The stream is there when it can be looked up.
        let jetstream = jetstream::new(replay::control::connect(&world.nats()).await.unwrap());
        while jetstream.get_stream("SENSORS").await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    let mut options = options;
    options.tempo = replay::TempoChoice::Tempo(schedule::Tempo::parse_speed("5").unwrap());
    let (_, summary) = world.run(&options);
    services.abort();
    let (stored, processed, settings) =
        (series(&summary, "report/stored"), series(&summary, "report/processed"), series(&summary, "ask_settings/settings"));
    assert_eq!((stored.ok + settings.ok, processed.ok), (3_000, stored.ok), "{:?}", summary.evidence);
    assert!((200..400).contains(&settings.ok));
    assert_eq!(summary.buckets.iter().filter(|b| b.series.name == "report/stored").count(), 3, "a bucket per region");
}
