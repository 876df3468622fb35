//! CPU of the target's parts as a Prometheus sees it: instant queries over plain HTTP.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

/// An answer takes no longer, or it is none.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What to ask, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promql {
    /// `http://127.0.0.1:9090`.
    pub url: String,
    /// Names of the target's parts, and the query whose value is the CPU of each, in cores.
    pub queries: Vec<(String, String)>,
}

impl Promql {
    /// Asks for each part what cAdvisor tells of the container of that name, unless a query is given for it.
    pub fn new(url: &str, parts: &[String], given: &[(String, String)]) -> Promql {
        let of_container = |part: &String| {
            let query =
                format!("sum(rate(container_cpu_usage_seconds_total{{container_label_com_docker_compose_service=\"{part}\"}}[15s]))");
            (part.clone(), query)
        };
        let unasked = parts.iter().filter(|part| given.iter().all(|(name, _)| name != *part));
        let queries = given.iter().cloned().chain(unasked.map(of_container)).collect();
        Promql { url: url.trim_end_matches('/').to_owned(), queries }
    }
}

/// Asks, over connections that are kept.
pub(crate) struct Asker {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Asker {
    pub fn new() -> Asker {
        Asker { client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// The value of each query that has one: the sum over its series.
    ///
    /// # Errors
    /// A sentence: nobody is there, or says something else.
    pub async fn ask(&self, promql: &Promql) -> Result<Vec<(String, f64)>, String> {
        let mut values = Vec::new();
        for (name, query) in &promql.queries {
            let encoded = percent_encoding::utf8_percent_encode(query, percent_encoding::NON_ALPHANUMERIC);
            let uri = format!("{}/api/v1/query?query={encoded}", promql.url);
            let uri = uri.parse().map_err(|e| format!("{} is no address: {e}", promql.url))?;
            let body = tokio::time::timeout(TIMEOUT, self.get(uri)).await.map_err(|_| format!("{} did not answer in 2 s", promql.url))?;
            let body = body.map_err(|e| format!("{}: {e}", promql.url))?;
            values.extend(value(&body).map_err(|e| format!("{}: {e} ({query})", promql.url))?.map(|v| (name.clone(), v)));
        }
        Ok(values)
    }

    async fn get(&self, uri: hyper::Uri) -> Result<Bytes, String> {
        let response = self.client.get(uri).await.map_err(|e| e.to_string())?;
        Ok(response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes())
    }
}

/// The sum over the series of an instant query; `None` where there are none.
fn value(body: &[u8]) -> Result<Option<f64>, String> {
    let answer: serde_json::Value = serde_json::from_slice(body).map_err(|_| "the answer is no JSON; is it a Prometheus?".to_owned())?;
    if let Some(error) = answer["error"].as_str() {
        return Err(error.to_owned());
    }
    let series = answer["data"]["result"].as_array().ok_or("the answer holds no result; is it a Prometheus?")?;
    let values: Vec<f64> = series.iter().filter_map(|s| s["value"][1].as_str()?.parse().ok()).filter(|v: &f64| v.is_finite()).collect();
    Ok((!values.is_empty()).then(|| values.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let vector = br#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.25"]},{"metric":{},"value":[1,"0.5"]},{"metric":{},"value":[1,"NaN"]}]}}"#;
        assert_eq!(value(vector), Ok(Some(0.75)));
        assert_eq!(value(br#"{"status":"success","data":{"result":[]}}"#), Ok(None));
        assert_eq!(value(br#"{"status":"error","error":"parse error"}"#), Err("parse error".into()));
        assert!(value(b"<html>").unwrap_err().contains("is it a Prometheus?"));
    }

    #[test]
    fn a_given_query_takes_the_place_of_the_containers() {
        let given = [("mongod".to_owned(), "up".to_owned())];
        let promql = Promql::new("http://p:9090/", &["mongod".into(), "worker".into()], &given);
        assert_eq!((promql.url.as_str(), &promql.queries[0]), ("http://p:9090", &given[0]));
        assert!(promql.queries[1].1.contains("compose_service=\"worker\""), "{promql:?}");
    }
}
