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
    /// An accepted input.
    pub kind: &'static str,
    /// Advice for an input that is a container.
    pub advice: &'static str,
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
    kind: crate::array::checks::GRADIENT_KIND,
    advice: crate::array::checks::GRADIENT_ADVICE,
    if_missing: "; give None for a parameter without a gradient, or pass partial=True",
    if_extra: "; the names are those of opt.params",
    none: "no parameter that trains has a gradient; pass at least one",
};

const SUM: Wording = Wording {
    itself: Some("sum"),
    owner: "sum",
    updated: "the sum of",
    rebind: "",
    if_missing: "; give None for a parameter without a gradient",
    if_extra: "; the parameters of a sum are fixed when it is made",
    ..OPTIMIZER
};

const AVERAGE: Wording = Wording {
    itself: Some("average"),
    owner: "average",
    updated: "the average of",
    rebind: "",
    input: "parameter",
    inputs: "the parameters",
    kind: "a float32 or float64 ndarray",
    advice: "restore the array",
    if_missing: "; restore the averaged parameters",
    if_extra: "; the parameters of an average are fixed when it is made",
    none: "no parameter has an average that can be updated; all are frozen or None",
};

impl Wording {
    /// The wording for a rule; sums and averages, whose arrays mirror parameters, have their own.
    pub fn of(rule: &str) -> &'static Wording {
        let mirrors = [&SUM, &AVERAGE];
        mirrors.into_iter().find(|wording| wording.itself == Some(rule)).unwrap_or(&OPTIMIZER)
    }
}
