//! Replacement of the parameters by other arrays, or by a tree that has more.

use std::collections::{HashMap, HashSet};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::interpreter::errors::{Outcome, Refusal};
use crate::model::Model;
use crate::model::leaf::{Active, Leaf};
use crate::model::tree::Leaves;

const IF_LOST: &str = "; make a new optimizer to remove parameters";
const IF_NEW: &str = "; opt.extend(params) adds parameters";

impl Model {
    /// Adopts the arrays of another tree with the same names, shapes and dtypes; keeps the state.
    pub fn rebind<'py>(&mut self, params: &Bound<'py, PyAny>) -> Outcome<Leaves<'py>> {
        let (mut next, found) = self.successor(params, None)?;
        let trains = |leaf: &usize| !self.classes[next.leaves[*leaf].class].frozen;
        let leaves = (0..next.leaves.len()).filter(trains).collect();
        next.written = next.written_with(params.py(), leaves, &[])?;
        let assignment: Vec<usize> = next.leaves.iter().map(|leaf| leaf.class).collect();
        next.members = next.members(&assignment, self.classes.len())?;
        next.classes = std::mem::take(&mut self.classes);
        next.record = self.record.take();
        let replaced = next.replaced(self);
        *self = next;
        // What the earlier array lacked says nothing about this one.
        for leaf in replaced {
            let low = self.leaves[leaf].active.as_ref().and_then(Active::low);
            low.map(|low| low.array.bind(params.py()).call_method1("fill", (0,))).transpose()?;
        }
        Ok(found)
    }

    /// Leaves whose array lies elsewhere than in the earlier model.
    fn replaced(&self, earlier: &Model) -> Vec<usize> {
        let address = |leaf: &Leaf| leaf.active.as_ref().map(|active| active.p.address);
        let leaves = self.leaves.iter().enumerate();
        let moved = leaves.filter(|(_, leaf)| {
            let old = earlier.find(&leaf.name);
            old.is_some_and(|old| address(old) != address(leaf))
        });
        moved.map(|(i, _)| i).collect()
    }

    /// Adopts a tree with the same parameters and more, assigned to the given classes; keeps the
    /// state.
    pub fn extend<'py>(
        &mut self,
        params: &Bound<'py, PyAny>,
        (classes, assignment): (&[Bound<'py, PyDict>], Vec<usize>),
        bits: &HashSet<String>,
    ) -> Outcome<Leaves<'py>> {
        let (mut next, found) = self.successor(params, Some(bits))?;
        let classes = next.extract(params.py(), classes, &assignment)?;
        next.record = self.record.take(); // `configure` checks it before it makes files
        let configured = next.configure(params.py(), classes, assignment, &HashMap::new());
        if configured.is_err() {
            self.record = next.record.take();
        }
        configured?;
        *self = next;
        Ok(found)
    }

    /// A model of another tree with the same parameters and their state. With `more`, names of arrays
    /// that have bits, the tree may have further parameters. The model has no classes.
    fn successor<'py>(
        &self,
        params: &Bound<'py, PyAny>,
        more: Option<&HashSet<String>>,
    ) -> Outcome<(Self, Leaves<'py>)> {
        let bits = |name: &str| match self.index.get(name) {
            Some(i) => self.leaves[*i].bits,
            None => more.is_some_and(|bits| bits.contains(name)),
        };
        let (mut next, found) = Model::new(params, self.options.clone(), bits)?;
        let missing = |from: &Model, other: &Model| -> Vec<String> {
            let names = from.sorted.iter().map(|i| &from.leaves[*i].name);
            names.filter(|name| !other.index.contains_key(*name)).cloned().collect()
        };
        let lost = missing(self, &next);
        let new = if more.is_some() { Vec::new() } else { missing(&next, self) };
        if !lost.is_empty() || !new.is_empty() {
            return Err(Refusal::Names {
                tree: "the parameters",
                owner: self.options.wording.owner,
                missing: lost,
                extra: new,
                if_missing: IF_LOST,
                if_extra: IF_NEW,
            });
        }
        next.keeper = self.keeper.as_ref().map(|keeper| keeper.clone_ref(params.py()));
        for leaf in &mut next.leaves {
            let Some(old) = self.find(&leaf.name) else { continue };
            leaf.class = old.class;
            leaf.step = old.step;
            if let Some(active) = &old.active {
                let words = self.options.wording;
                leaf.active = Some(active.with_parameter(params.py(), leaf, words)?);
            }
        }
        Ok((next, found))
    }
}
