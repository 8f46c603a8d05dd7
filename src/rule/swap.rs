//! Swap of two arrays.

use std::marker::PhantomData;

use super::spec::{Hyperparameters, Step};
use super::terms::{Formula, Intake};
use crate::error::Error;
use crate::number::element::Element;

/// `p <-> s`: exchanges the parameter and its one state number; every bit is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Swap;

/// The coefficients of a [`Swap`]: none.
#[derive(Clone, Copy, Debug)]
pub struct SwapStep<E>(PhantomData<E>);

impl Hyperparameters for Swap {
    const NEW: Self = Swap;

    type Step<E: Element> = SwapStep<E>;

    /// Coefficients do not depend on the step.
    fn coefficients<E: Element>(&self, _step: u64, _intake: Intake) -> Result<SwapStep<E>, Error> {
        Ok(SwapStep(PhantomData))
    }
}

impl<E: Element> Step<E> for SwapStep<E> {}

impl<E: Element> Formula<E, 1> for SwapStep<E> {
    type Usual = Self;

    #[inline(always)]
    fn update(&self, p: E, _g: E, [s]: [E; 1]) -> (E, [E; 1]) {
        (s, [p])
    }
}
