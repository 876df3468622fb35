//! Renderers: each a function from [`crate::Summary`] to text or bytes. Only the command line touches files.

mod csv;
mod hgrm;
mod json;
mod text;

pub use csv::csv;
pub use hgrm::hgrm;
pub use json::json;
pub use text::text;
