//! Wording of messages. Optimizers, sums and averages share one model and differ in their wording.

/// Wording for the objects of a rule.
#[derive(Debug)]
pub struct Wording {
    /// The key under which the arrays are saved; `None` if the arrays are parameters.
    pub itself: Option<&'static str>,
    pub owner: &'static str,
    /// Precedes the name of an array that is updated.
    pub updated: &'static str,
    /// Additional advice if an updated array has changed.
    pub rebind: &'static str,
    /// Precedes the name of an input array.
    pub input: &'static str,
    pub inputs: &'static str,
    /// The accepted inputs.
    pub are: &'static str,
    pub if_missing: &'static str,
    pub if_extra: &'static str,
    /// The message if no leaf that trains has an input.
    pub none: &'static str,
}

const OPTIMIZER: Wording = Wording {
    itself: None,
    owner: "optimizer",
    updated: "parameter",
    rebind: ", or adopt the new array with opt.rebind(params)",
    input: "the gradient of",
    inputs: "the gradients",
    are: crate::array::checks::GRADIENTS_ARE,
    if_missing: "; give None for a parameter without a gradient, or pass partial=True",
    if_extra: "; opt.params has the names",
    none: "no parameter that trains has a gradient; at least one must",
};

const SUM: Wording = Wording {
    itself: Some("sum"),
    owner: "accumulator",
    updated: "the sum of",
    rebind: "",
    if_missing: "; give None for a parameter without a gradient",
    if_extra: "; its parameters are those it was made for",
    ..OPTIMIZER
};

const AVERAGE: Wording = Wording {
    itself: Some("average"),
    owner: "average",
    updated: "the average of",
    rebind: "",
    input: "parameter",
    inputs: "the parameters",
    are: "parameters are float32 or float64 ndarrays",
    if_missing: "; update with all parameters that are averaged",
    if_extra: "; the average is of the parameters it was made for",
    none: "no parameter that is averaged is there",
};

impl Wording {
    /// The wording for a rule; sums and averages, whose arrays mirror parameters, have their own.
    pub fn of(rule: &str) -> &'static Wording {
        let mirrors = [&SUM, &AVERAGE];
        mirrors.into_iter().find(|wording| wording.itself == Some(rule)).unwrap_or(&OPTIMIZER)
    }
}
