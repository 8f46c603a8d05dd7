//! Rows of a parameter that are updated alone.

use thalweg::error::Quoted;

use crate::array::rows::{check_has_rows, check_whole_blocks};
use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::Model;
use crate::model::form::Form;
use crate::model::leaf::Leaf;
use crate::values::hyper::RowsMeaning;

impl Model {
    /// The meaning of a gradient of this leaf that has rows.
    ///
    /// The rows of a sum are added to it, and its first gradient sets it as a whole. Averages have
    /// no gradient.
    pub fn rows_meaning(&self, leaf: &Leaf) -> Outcome<RowsMeaning> {
        let words = self.options.wording;
        match words.itself {
            Some("sum") if leaf.step == 0 => return Ok(RowsMeaning::Dense),
            Some("sum") => return Ok(RowsMeaning::Lazy),
            Some(_) => {
                return Err(Refusal::NotAnArray {
                    what: format!("{} {}", words.input, Quoted(&leaf.name)),
                    kind: words.kind,
                    got: "thalweg.Rows".to_owned(),
                    advice: words.advice,
                });
            }
            None => {}
        }
        self.classes[leaf.class].rows.ok_or_else(|| {
            Refusal::Value(format!(
                "the gradient of {0} has rows, so the optimizer must be told what they mean: \
                 rows='lazy' (only these rows change) or rows='dense' (the gradient of the others is \
                 zero); pass one to the constructor or in a group (groups=[{{'match': {0}, 'rows': \
                 'lazy'}}])",
                Quoted(&leaf.name)
            ))
        })
    }
}

/// Refuses a parameter of this shape and form whose rows cannot be updated alone.
pub fn check_alone(name: &str, shape: &[usize], form: &Form) -> Outcome<()> {
    let what = || format!("parameter {}", Quoted(name));
    check_has_rows(shape, what)?;
    match form.bases() {
        Some(_) => check_whole_blocks(shape, what, "give it state='bfloat16' or 'full'"),
        None => Ok(()),
    }
}
