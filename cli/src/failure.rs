//! Exit codes, and which error gets which.

/// What the process returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// PASS, or done.
    Done = 0,
    /// The environment: a server that is not there, a disk that is full.
    CouldNotRun = 1,
    /// What was typed, or a file that is no good.
    Usage = 2,
    /// TRIP.
    Trip = 3,
    /// INCONCLUSIVE.
    Inconclusive = 4,
    /// A signal; what was recorded is there.
    Interrupted = 130,
}

/// One sentence and an exit code.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, Failure>;

/// Bad input.
pub fn usage(message: impl ToString) -> Failure {
    Failure { exit: Exit::Usage, message: message.to_string() }
}

/// The environment.
pub fn could_not_run(message: impl ToString) -> Failure {
    Failure { exit: Exit::CouldNotRun, message: message.to_string() }
}

impl From<schedule::Error> for Failure {
    fn from(e: schedule::Error) -> Failure {
        usage(e)
    }
}

impl From<fixtures::Error> for Failure {
    fn from(e: fixtures::Error) -> Failure {
        match e {
            fixtures::Error::Mongo(message) | fixtures::Error::Cassandra(message) => could_not_run(message),
            other => usage(other),
        }
    }
}

impl From<wire::Error> for Failure {
    fn from(e: wire::Error) -> Failure {
        match e {
            wire::Error::BadUrl(_) | wire::Error::Credentials { .. } => usage(e),
            other => could_not_run(other),
        }
    }
}

impl From<replay::Error> for Failure {
    fn from(e: replay::Error) -> Failure {
        match e {
            replay::Error::Schedule(e) => e.into(),
            replay::Error::Connect(e) => e.into(),
            replay::Error::Plan(_) => usage(e),
            replay::Error::Server(_) | replay::Error::Log(_) => could_not_run(e),
        }
    }
}

impl From<capture::Error> for Failure {
    fn from(e: capture::Error) -> Failure {
        match e {
            capture::Error::Connect(e) => e.into(),
            capture::Error::Schedule(e) => e.into(),
            capture::Error::Capture { .. } => usage(e),
            capture::Error::Server(_) | capture::Error::Log(_) => could_not_run(e),
        }
    }
}

impl From<runlog::Error> for Failure {
    fn from(e: runlog::Error) -> Failure {
        usage(e)
    }
}

impl From<analyze::Error> for Failure {
    fn from(e: analyze::Error) -> Failure {
        usage(e)
    }
}

impl From<standin::Error> for Failure {
    fn from(e: standin::Error) -> Failure {
        could_not_run(e)
    }
}

impl From<analyze::Outcome> for Exit {
    fn from(outcome: analyze::Outcome) -> Exit {
        match outcome {
            analyze::Outcome::Pass => Exit::Done,
            analyze::Outcome::Trip => Exit::Trip,
            analyze::Outcome::Inconclusive => Exit::Inconclusive,
        }
    }
}
