//! Steps of a run: each a stretch at one tempo, told by an event when it is over.

use serde::{Deserialize, Serialize};

/// What a step aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Operations per second.
    Rate,
    /// The first so many sessions, each keeping its own rhythm.
    Users,
    /// The ops of one bucket, whose name begins with this number, at a rate of their own.
    Size,
}

/// Why a step was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// One of a given list.
    Ramp,
    /// A search doubles until something trips.
    Climb,
    /// It halves what lies between.
    Bisect,
    /// It repeats the borderline.
    Edge,
    /// It overloads the target on purpose …
    Overload,
    /// … and sees whether it is as it was before.
    Back,
}

/// A step that is over: the text of an event `step`, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMark {
    /// From 1.
    pub number: u32,
    /// Part of what.
    pub course: Course,
    /// What the target counts.
    pub axis: Axis,
    /// Operations per second, users, or the size.
    pub target: f64,
    /// Its first op was due, ns from the anchor.
    pub from_ns: i64,
    /// What is due from here on counts.
    pub hold_from_ns: i64,
    /// Nothing is due from here on.
    pub until_ns: i64,
    /// The drain was over, ns.
    pub drained_ns: i64,
    /// Its ops are numbered from here …
    pub first_op: i64,
    /// … to below this.
    pub end_op: i64,
    /// Messages in the target's consumers beyond those before the first step, when it was over.
    pub backlog_left: i64,
    /// The schedule, which cannot be sent twice, ended within it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spent: bool,
}
