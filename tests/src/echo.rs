use crate::World;
use fixtures::Workload;
use futures::StreamExt;
use tokio::task::JoinHandle;

/// A system that is not a chat: whatever is asked on `echo.*` is answered to its inbox.
pub struct Echo(JoinHandle<()>);

impl Drop for Echo {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A workload for it: evenly spaced requests.
///
/// # Panics
/// If the numbers make no workload.
pub fn echo_workload(rate_per_sec: u32, seconds: u32) -> Workload {
    echo_workload_of(rate_per_sec, seconds, r#"{"id":"{new.message}"}"#)
}

/// The same with this payload.
///
/// # Panics
/// If it makes no workload.
pub fn echo_workload_of(rate_per_sec: u32, seconds: u32, payload: &str) -> Workload {
    let text = format!(
        "name = \"echo\"\n[[answer]]\nname = \"reply\"\nwhose = \"inbox\"\n[[action]]\nname = \"ask\"\ntarget = \"echo.ask\"\n\
         payload = '{payload}'\nanswers = {{ reply = 1 }}\ntimeout = \"2s\"\n\
         [arrivals]\nrate = {rate_per_sec}\nduration = \"{seconds}s\"\nprocess = \"uniform\"\n"
    );
    Workload::parse(&text, "echo.toml").expect("ours")
}

impl World {
    /// Starts the echo service.
    ///
    /// # Panics
    /// If the server is not there.
    pub fn echo(&self) -> Echo {
        let options = self.nats();
        let (client, mut requests) = self.runtime.block_on(async {
            let client = replay::control::connect(&options).await.expect("the server is up");
            let requests = client.queue_subscribe("echo.*", "echo".into()).await.expect("it subscribes");
            client.flush().await.expect("it is confirmed");
            (client, requests)
        });
        Echo(self.runtime.spawn(async move {
            while let Some(request) = requests.next().await {
                if let Some(inbox) = request.reply {
                    // While the server is away a reply is lost, as it would be there.
                    let _ = client.publish(inbox, request.payload).await;
                }
            }
        }))
    }
}
