use crate::Series;

/// The percentile table that HdrHistogram's plotter reads: value in ms, fraction, count at or below, 1/(1 − fraction).
/// One file per series; of response time.
pub fn hgrm(series: &Series) -> String {
    let n = series.count + series.missing;
    let mut out = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n".to_owned();
    for (percentile, ns) in &series.response.curve {
        let fraction = percentile / 100.0;
        let below = (fraction * n as f64).ceil() as u64;
        let ms = *ns as f64 / 1e6;
        out += &format!("{ms:12.6} {fraction:.12} {below:10} {:14.2}\n", 1.0 / (1.0 - fraction));
    }
    if let Some(max) = series.response.max_ns {
        out += &format!("{:12.6} {:.12} {n:10}\n", max as f64 / 1e6, 1.0);
    }
    out += &format!("#[Total count    = {:>12}, Missing        = {:>12}]\n", series.count, series.missing);
    out
}
