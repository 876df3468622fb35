//! Renderers: each a function from [`crate::Summary`] to text or bytes. Only the command line touches files.

mod charts;
mod csv;
mod hgrm;
mod html;
mod json;
mod text;
mod web;

pub use charts::{Chart, charts, offsets};
pub use csv::csv;
pub use hgrm::hgrm;
pub use html::html;
pub use json::json;
pub use text::{outcome_name, text};
