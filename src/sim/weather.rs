//! How often what goes wrong, and how often it did.

/// How often what goes wrong: probabilities for each operation, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// It is done, but the caller sees a time-out.
    pub lose_answer: f64,
    /// It is never done, and the caller sees a time-out.
    pub lose_request: f64,
    /// It is done twice, where the service does not notice that it is the same request.
    pub repeat: f64,
    /// It is held for up to 256 steps, and lands after its time-out if there is one.
    pub delay: f64,
    /// It is refused, surely not done.
    pub refuse: f64,
    /// Of a send whose answer is lost only some partitions' records land. 0 in every ready-made
    /// weather: the known flaw of one bus, not a property of all.
    pub torn: f64,
    /// A send finds the offsets of an aborted transaction before its own.
    pub aborted: f64,
    /// A batch is cut somewhere, perhaps behind or before offsets without a record.
    pub short: f64,
}

impl Weather {
    /// Nothing goes wrong.
    pub const fn calm() -> Self {
        Self {
            lose_answer: 0.0,
            lose_request: 0.0,
            repeat: 0.0,
            delay: 0.0,
            refuse: 0.0,
            torn: 0.0,
            aborted: 0.0,
            short: 0.0,
        }
    }

    /// About every third operation has a fault or a delay.
    pub const fn rough() -> Self {
        Self {
            lose_answer: 0.08,
            lose_request: 0.04,
            repeat: 0.06,
            delay: 0.12,
            refuse: 0.04,
            torn: 0.0,
            aborted: 0.1,
            short: 0.7,
        }
    }
}

/// How often what happened in a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations submitted.
    pub submitted: u64,
    /// Answers of the service delivered.
    pub answered: u64,
    /// Refusals.
    pub refused: u64,
    /// Time-outs.
    pub timed_out: u64,
    /// Second applications.
    pub repeated: u64,
    /// Operations that were held.
    pub held: u64,
    /// Applications after the caller had given up or died.
    pub landed_late: u64,
    /// Power cuts.
    pub power_cuts: u64,
}
