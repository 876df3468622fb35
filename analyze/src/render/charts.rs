use crate::{Error, Summary};
use plotters::prelude::*;
use plotters::style::register_font;
use schedule::units::{show_count, show_ns};
use std::sync::Once;

/// A chart as data; [`Chart::svg`] and [`Chart::png`] draw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// File name without extension.
    pub name: String,
    /// Title.
    pub title: String,
    x: X,
    y: Y,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum X {
    /// Seconds from the anchor.
    Seconds,
    /// Operations per second, or users.
    Offered,
    /// −log₁₀(1 − fraction): 1 is 90%, 2 is 99%.
    Nines,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Y {
    /// log₁₀ of ns.
    LogNanos,
    Number,
}

const WIDTH: u32 = 960;
const HEIGHT: u32 = 360;
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xe6, 0x7e, 0x22),
    RGBColor(0xc0, 0x39, 0x2b),
    RGBColor(0x7f, 0x8c, 0x8d),
    RGBColor(0x27, 0xae, 0x60),
    RGBColor(0x8e, 0x44, 0xad),
    RGBColor(0x16, 0xa0, 0x85),
    RGBColor(0x2c, 0x3e, 0x50),
];

/// Every chart that the summary has data for.
pub fn charts(summary: &Summary) -> Vec<Chart> {
    let mut all: Vec<Chart> = vec![latency_by_target(summary)];
    for series in summary.series.iter().filter(|s| !s.name.contains(':')) {
        all.push(latency_over_time(summary, &series.name));
    }
    let curve = |points: &[(f64, i64)]| points.iter().map(|(p, ns)| (nines(*p), log_ns(*ns))).collect::<Vec<_>>();
    let curves = summary.series.iter().filter(|s| !s.name.contains(':')).flat_map(|s| {
        [(format!("{} response", s.name), curve(&s.response.curve)), (format!("{} service", s.name), curve(&s.service.curve))]
    });
    all.push(chart("percentiles", "Latency by percentile", X::Nines, Y::LogNanos, curves.collect()));
    let rate = |pick: fn(&(i64, u64, u64)) -> u64| {
        let per_sec = 1e9 / summary.run.window_ns as f64;
        summary.rate.windows.iter().map(|w| (seconds(w.0), pick(w) as f64 * per_sec)).collect::<Vec<_>>()
    };
    let rates = vec![("intended".to_owned(), rate(|w| w.1)), ("sent".to_owned(), rate(|w| w.2))];
    all.push(chart("rate", "Operations per second: intended and sent", X::Seconds, Y::Number, rates));
    let lateness = vec![("sent − intended".to_owned(), curve(&summary.lateness.percentiles.curve))];
    all.push(chart("lateness", "Lateness of the generator by percentile", X::Nines, Y::LogNanos, lateness));
    let backlog = summary.backlog.iter().map(|b| (b.consumer.clone(), b.points.iter().map(|(t, n)| (seconds(*t), *n as f64)).collect()));
    all.push(chart("backlog", "Backlog per consumer: pending and unacknowledged messages", X::Seconds, Y::Number, backlog.collect()));
    let open = summary.sockets.iter().flat_map(|s| &s.points).map(|(t, open)| (seconds(*t), *open as f64)).collect();
    all.push(chart("websockets", "WebSockets that are open", X::Seconds, Y::Number, vec![("open".to_owned(), open)]));
    let host = vec![("host".to_owned(), summary.evidence.host_cpu.iter().map(|(t, cores)| (seconds(*t), *cores)).collect())];
    all.push(chart("cpu", "Host CPU, cores", X::Seconds, Y::Number, host));
    all.retain(|c| !c.lines.is_empty());
    all
}

/// By how much a copy is ahead or behind, over time.
pub fn offsets(points: &[(i64, i64)]) -> Chart {
    let line = points.iter().map(|(t_ns, offset_ns)| (seconds(*t_ns), *offset_ns as f64 / 1e6)).collect();
    chart("offset", "Offset of the copy, ms", X::Seconds, Y::Number, vec![("copy − original".to_owned(), line)])
}

fn chart(name: &str, title: &str, x: X, y: Y, lines: Vec<(String, Vec<(f64, f64)>)>) -> Chart {
    let lines = lines.into_iter().filter(|(_, points)| !points.is_empty()).collect();
    Chart { name: name.into(), title: title.into(), x, y, lines }
}

/// Of a run in steps: where each series bends. Steps in order of what they offered, as a search jumps.
fn latency_by_target(summary: &Summary) -> Chart {
    let mut steps: Vec<&crate::Step> = summary.steps.iter().collect();
    steps.sort_by(|a, b| a.offered().total_cmp(&b.offered()));
    let names = summary.series.iter().map(|s| &s.name).filter(|name| !name.contains(':'));
    let line = |name: &String| {
        let p95 = |step: &&crate::Step| step.series.iter().find(|s| s.name == *name)?.response.p95_ns;
        (format!("{name} p95"), steps.iter().filter_map(|step| Some((step.offered(), log_ns(p95(step)?)))).collect())
    };
    chart("steps", "Response time by what was offered, a point for each step", X::Offered, Y::LogNanos, names.map(line).collect())
}

fn latency_over_time(summary: &Summary, series: &str) -> Chart {
    let windows = || summary.windows.iter().filter(|w| w.series == series);
    let line = |name: &str, pick: fn(&crate::Window) -> Option<i64>| {
        (name.to_owned(), windows().filter_map(|w| pick(w).map(|ns| (seconds(w.start_ns), log_ns(ns)))).collect::<Vec<_>>())
    };
    let lines = vec![line("p50", |w| w.p50_ns), line("p95", |w| w.p95_ns), line("p99", |w| w.p99_ns), line("max", |w| w.max_ns)];
    chart(&format!("latency-{}", series.replace('/', "-")), &format!("{series}: response time over time"), X::Seconds, Y::LogNanos, lines)
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

fn log_ns(ns: i64) -> f64 {
    (ns.max(1) as f64).log10()
}

fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-9).log10()
}

fn x_label(x: X, value: f64) -> String {
    match x {
        X::Seconds => format!("{value}s"),
        X::Offered => show_count(value.max(0.0).round() as u64),
        X::Nines => {
            let percent = 100.0 * (1.0 - 10f64.powf(-value));
            let digits = (value.ceil() as usize).saturating_sub(2);
            format!("{percent:.digits$}%")
        }
    }
}

fn y_label(y: Y, value: f64) -> String {
    match y {
        Y::LogNanos => show_ns(10f64.powf(value).round() as i64),
        Y::Number if value.fract().abs() > 1e-9 => format!("{value:.2}"),
        Y::Number if value < 0.0 => format!("-{}", show_count(-value as u64)),
        Y::Number => show_count(value as u64),
    }
}

/// Plotters needs a font to lay text out; this one is free and comes with the crate.
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A font that does not load makes the drawing fail, which is reported there.
        let _ = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
}

impl Chart {
    /// As SVG.
    ///
    /// # Errors
    /// [`Error::Render`].
    pub fn svg(&self) -> Result<String, Error> {
        let mut svg = String::new();
        self.draw(SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area())?;
        Ok(svg)
    }

    /// As PNG.
    ///
    /// # Errors
    /// [`Error::Render`].
    pub fn png(&self) -> Result<Vec<u8>, Error> {
        let failed = |e: png::EncodingError| Error::Render(format!("chart {}: {e}", self.name));
        let mut pixels = vec![0; (WIDTH * HEIGHT * 3) as usize];
        self.draw(BitMapBackend::with_buffer(&mut pixels, (WIDTH, HEIGHT)).into_drawing_area())?;
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, WIDTH, HEIGHT);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&pixels).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }

    /// Ranges of both axes, with some air.
    fn ranges(&self) -> (std::ops::Range<f64>, std::ops::Range<f64>) {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let span = |values: &mut dyn Iterator<Item = f64>| values.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
        let (x0, x1) = span(&mut points().map(|p| p.0));
        let (y0, y1) = span(&mut points().map(|p| p.1));
        let x1 = if x1 > x0 { x1 } else { x0 + 1.0 };
        let y = match self.y {
            Y::Number => 0.0..(y1 * 1.1).max(1.0),
            Y::LogNanos => y0 - 0.1..y1 + 0.15,
        };
        (x0..x1, y)
    }

    fn draw<B: DrawingBackend>(&self, area: DrawingArea<B, plotters::coord::Shift>) -> Result<(), Error> {
        register();
        self.draw_on(&area).map_err(|e| Error::Render(format!("chart {}: {e}", self.name)))
    }

    fn draw_on<B: DrawingBackend>(&self, area: &DrawingArea<B, plotters::coord::Shift>) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        area.fill(&WHITE)?;
        let (x, y) = self.ranges();
        let mut context = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(28)
            .y_label_area_size(70)
            .build_cartesian_2d(x, y)?;
        context
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
            .x_label_formatter(&|v| x_label(self.x, *v))
            .y_label_formatter(&|v| y_label(self.y, *v))
            .label_style(("sans-serif", 12))
            .draw()?;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let style = ShapeStyle { color: colour.to_rgba(), filled: true, stroke_width: 2 };
            let drawn = if points.len() > 1 {
                context.draw_series(LineSeries::new(points.iter().copied(), style))?
            } else {
                context.draw_series(points.iter().map(|&p| Circle::new(p, 3, style)))?
            };
            drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
        context
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(RGBColor(0xcc, 0xcc, 0xcc))
            .label_font(("sans-serif", 12))
            .draw()?;
        area.present()
    }
}
