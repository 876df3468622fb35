//! CPU of the target's parts as a Prometheus sees it: instant queries.

use crate::ask::Http;

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

impl Promql {
    /// The value of each query that has one: the sum over its series.
    ///
    /// # Errors
    /// A sentence: nobody is there, or says something else.
    pub(crate) async fn ask(&self, http: &Http) -> Result<Vec<(String, f64)>, String> {
        let mut values = Vec::new();
        for (name, query) in &self.queries {
            let encoded = percent_encoding::utf8_percent_encode(query, percent_encoding::NON_ALPHANUMERIC);
            let body = http.get(&self.url, &format!("/api/v1/query?query={encoded}")).await?;
            values.extend(value(&body).map_err(|e| format!("{}: {e} ({query})", self.url))?.map(|v| (name.clone(), v)));
        }
        Ok(values)
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
