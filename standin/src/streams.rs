use crate::Error;
use async_nats::jetstream::{Context, stream};

/// Streams of a site: name, and the subjects they capture.
fn table(site: &str) -> [(String, Vec<String>); 5] {
    [
        (format!("MESSAGES_{site}"), vec![format!("chat.user.*.room.*.{site}.msg.>")]),
        (format!("MESSAGES_CANONICAL_{site}"), vec![format!("chat.msg.canonical.{site}.>")]),
        (format!("ROOMS_{site}"), vec![format!("chat.room.canonical.{site}.>")]),
        (format!("INBOX_{site}"), vec![format!("chat.inbox.{site}.internal.>"), format!("chat.inbox.{site}.external.>")]),
        (format!("PUSH_NOTIFICATION_{site}"), vec![format!("chat.server.notification.push.{site}.>")]),
    ]
}

/// Creates the streams, with the settings the services use in development, and purges them. Durables of an earlier
/// stand-in go, so that none starts with its predecessor's position.
pub(crate) async fn create(jetstream: &Context, site: &str) -> Result<(), Error> {
    for (name, subjects) in table(site) {
        let failed = |why: String| Error::JetStream { what: format!("stream {name}"), why };
        let config = stream::Config { name: name.clone(), subjects, ..Default::default() };
        let stream = jetstream.get_or_create_stream(config).await.map_err(|e| failed(e.to_string()))?;
        stream.purge().await.map_err(|e| failed(e.to_string()))?;
        let mut names = stream.consumer_names();
        let mut old = Vec::new();
        while let Some(consumer) = futures::TryStreamExt::try_next(&mut names).await.map_err(|e| failed(e.to_string()))? {
            old.push(consumer);
        }
        for consumer in old {
            stream.delete_consumer(&consumer).await.map_err(|e| failed(e.to_string()))?;
        }
    }
    Ok(())
}
