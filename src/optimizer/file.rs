//! Files: those of the Python package, in both directions.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::Value;

use super::error::Error;
use super::groups::Source;
use super::held::{Held, Skips};
use super::json;
use super::param::{Live, Values};
use super::state::Leaf;
use crate::array::storage::Storage;
use crate::checkpoint::{Checkpoint, NewTensor, SavedTensor, save};
use crate::error::Quoted;
use crate::rule::{Choice, Format, Hyperparameter, Numbers};
use crate::step::setting::Policy;

/// The metadata key of an optimizer.
const KEY: &str = "thalweg.optimizer";

/// What a file has that the optimizer does not take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Names of averages and accumulators.
    pub ignored: Vec<String>,
}

impl Held {
    /// Saves the optimizer with its parameters.
    pub fn save(
        &self,
        path: &Path,
        params: Vec<(&str, Values<'_>)>,
        source: &dyn Source,
    ) -> Result<(), Error> {
        let mut given: HashMap<&str, Values<'_>> = HashMap::new();
        for (name, values) in params {
            self.check(name, (values.pointer.storage, values.len))?;
            if given.insert(name, values).is_some() {
                return Err(Error::of(name, "it occurs twice"));
            }
        }
        let mut tensors = Vec::new();
        for leaf in &self.leaves {
            let Some(values) = given.get(leaf.name.as_str()) else {
                return Err(Error::of(&leaf.name, "the file needs the parameter too"));
            };
            tensors.push(NewTensor {
                name: format!("params/{}", leaf.name),
                dtype: leaf.storage.dtype(),
                shape: leaf.shape.clone(),
                source: values.bytes(),
            });
            tensors.extend(leaf.arrays.iter().enumerate().map(|(position, array)| NewTensor {
                name: state_name(leaf, array.name),
                dtype: array.storage.dtype(),
                shape: leaf.shape_of(position),
                source: array.bytes(),
            }));
        }
        let metadata = BTreeMap::from([(KEY.to_owned(), self.text(source)?)]);
        Ok(save(path, &metadata, tensors, &mut || Ok(()))?)
    }

    /// Loads the optimizer and its parameters, or changes nothing.
    pub fn load(
        &mut self,
        path: &Path,
        params: Vec<(&str, Live<'_>)>,
        source: &dyn Source,
    ) -> Result<Loaded, Error> {
        let file = Checkpoint::open(path, &mut || Ok(()))?;
        let text = file.metadata().get(KEY).ok_or_else(|| {
            Error::Content(format!("{} has no optimizer", Quoted(&path.display().to_string())))
        })?;
        let saved: Value = serde_json::from_str(text).map_err(|error| malformed(&error))?;
        if !matches!(saved.get("format").and_then(Value::as_u64), Some(1 | 2)) {
            let what = "the file is of a newer version of thalweg, or has no format".to_owned();
            return Err(Error::Content(what));
        }
        self.check_rule(&saved)?;
        let mut of_file = BTreeMap::new();
        names(saved.get("params").unwrap_or(&Value::Null), "", &mut of_file);
        let step_count = whole(saved.get("step_count"))?;
        let count = |key| whole(saved.get("skips").and_then(|skips| skips.get(key)));
        let skips = Skips { total: count("total")?, consecutive: count("consecutive")? };

        let mut loaded = Vec::new();
        for (name, mut live) in params {
            let tensor = of_file.remove(name).and_then(|tensor| tensor_of(&file, &tensor));
            let tensor = tensor.ok_or_else(|| Error::of(name, "the file does not have it"))?;
            let mut bytes = vec![0; live.bytes_mut().len()];
            fill(&file, tensor, live.pointer.storage, name, &mut bytes)?;
            let leaf = match saved.get("state").and_then(|state| state.get(name)) {
                None => None,
                Some(state) => {
                    let form = (live.pointer.storage, &tensor.shape[..]);
                    Some(self.leaf(&file, (name, form), state, source)?)
                }
            };
            loaded.push((live, bytes, leaf));
        }
        if let Some(name) = of_file.keys().next() {
            return Err(Error::of(name, "the file has it, and it is not given"));
        }
        let mut leaves = Vec::new();
        for (mut live, bytes, leaf) in loaded {
            live.bytes_mut().copy_from_slice(&bytes);
            leaves.extend(leaf);
        }
        let place = |(place, leaf): (usize, &Leaf)| (leaf.name.clone(), place);
        self.places = leaves.iter().enumerate().map(place).collect();
        (self.leaves, self.step_count, self.skips) = (leaves, step_count, skips);
        let attached = saved.get("attached").and_then(Value::as_object);
        Ok(Loaded { ignored: attached.into_iter().flat_map(|map| map.keys().cloned()).collect() })
    }

    /// A parameter in this form; refused if the optimizer does not have it.
    pub(super) fn check(&self, name: &str, form: (Storage, usize)) -> Result<&Leaf, Error> {
        let leaf = self.places.get(name).map(|place| &self.leaves[*place]);
        let leaf =
            leaf.ok_or_else(|| Error::of(name, "the optimizer has not seen it in a step"))?;
        match (leaf.storage, leaf.len) == form {
            true => Ok(leaf),
            false => Err(Error::of(name, "its length or type is not that of its steps")),
        }
    }

    /// The state of a parameter in a file.
    fn leaf(
        &mut self,
        file: &Checkpoint,
        (name, form): (&str, (Storage, &[usize])),
        state: &Value,
        source: &dyn Source,
    ) -> Result<Leaf, Error> {
        let step = whole(state.get("step"))?;
        let mut leaf = self.made(name, form, step.max(1), source)?;
        leaf.step = step;
        let arrays = leaf.arrays.iter().map(|array| array.name);
        let (mut ours, mut theirs): (Vec<&str>, Vec<&str>) = (arrays.collect(), Vec::new());
        theirs.extend(state.as_object().into_iter().flat_map(|map| map.keys()).map(String::as_str));
        theirs.retain(|key| *key != "step");
        ours.sort_unstable();
        theirs.sort_unstable();
        if ours != theirs {
            let what =
                format!("its state is {} here, {} in the file", ours.join(", "), theirs.join(", "));
            return Err(Error::of(name, &what));
        }
        for array in &mut leaf.arrays {
            let key = state.get(array.name).and_then(tensor_name);
            let tensor = key.and_then(|key| tensor_of(file, key));
            let tensor = tensor.ok_or_else(|| Error::of(name, "its state is not in the file"))?;
            let storage = array.storage;
            fill(file, tensor, storage, name, array.bytes_mut())?;
        }
        Ok(leaf)
    }

    /// Refuses a file of another rule, or with other choices.
    fn check_rule(&self, saved: &Value) -> Result<(), Error> {
        let rule = saved.get("rule").and_then(Value::as_str).unwrap_or_default();
        if rule != self.rule.name {
            let (theirs, ours) = (Quoted(rule), self.rule.name);
            return Err(Error::Content(format!(
                "the file is of {theirs}, the optimizer is {ours}"
            )));
        }
        for choice in self.rule.choices {
            let (name, here) = (choice.name(), self.chosen.contains(choice));
            let there = saved.get("options").and_then(|options| options.get(name));
            let there = there.and_then(Value::as_bool).unwrap_or(false);
            if there != here {
                return Err(Error::Content(format!("{name} is {there} in the file, {here} here")));
            }
        }
        Ok(())
    }

    /// The description of the optimizer.
    fn text(&self, source: &dyn Source) -> Result<String, Error> {
        let narrow = self.leaves.iter().filter(|leaf| leaf.is_narrow());
        let low_of: Vec<(&str, String)> =
            narrow.map(|leaf| (&leaf.name[..], json::string(leaf.storage.numpy()))).collect();
        let small = self.format != Format::Full || !low_of.is_empty();
        let skips = [("total", self.skips.total), ("consecutive", self.skips.consecutive)];
        let tensor = |name: String| json::object([("$tensor", json::string(&name))]);
        let state = self.leaves.iter().map(|leaf| {
            let arrays = leaf.arrays.iter();
            let arrays = arrays.map(|array| (array.name, tensor(state_name(leaf, array.name))));
            let step = std::iter::once(("step", leaf.step.to_string()));
            (&leaf.name[..], json::object(arrays.chain(step)))
        });
        let params = self.leaves.iter();
        let params = params.map(|leaf| (&leaf.name[..], tensor(format!("params/{}", leaf.name))));
        let mut items = vec![
            ("format", if small { "2" } else { "1" }.to_owned()),
            ("rule", json::string(self.rule.name)),
            ("options", self.options()),
            ("step_count", self.step_count.to_string()),
            ("skips", json::object(skips.map(|(key, count)| (key, count.to_string())))),
            ("groups", self.groups(source)?),
            ("state", json::object(state)),
            ("attached", "{}".to_owned()),
        ];
        if !low_of.is_empty() {
            items.push(("low_of", json::object(low_of)));
        }
        items.push(("params", json::object(params)));
        Ok(json::object(items))
    }

    /// Choices and policy, in the order of the Python package.
    fn options(&self) -> String {
        let is_on = |choice| self.chosen.contains(&choice);
        let of_adam_and_sgd = ["AdamW", "Adam", "SGDW", "SGD"].contains(&self.rule.name);
        let first: &[Choice] = if of_adam_and_sgd {
            &[Choice::Amsgrad, Choice::Nesterov, Choice::Independent, Choice::Maximize]
        } else {
            self.rule.choices
        };
        let mut items: Vec<(&str, String)> =
            first.iter().map(|choice| (choice.name(), is_on(*choice).to_string())).collect();
        let policy = match self.policy {
            Policy::Raise => "raise",
            Policy::Skip => "skip",
            Policy::Ignore => "ignore",
        };
        items.push(("nonfinite", json::string(policy)));
        if of_adam_and_sgd && is_on(Choice::Cautious) {
            items.push((Choice::Cautious.name(), "true".to_owned()));
        }
        json::object(items)
    }

    /// The numbers of the last step: a group for all parameters, and one for each class that has
    /// others.
    fn groups(&self, source: &dyn Source) -> Result<String, Error> {
        let step = self.step_count.max(1);
        let base = self.filled(&[], step, source)?;
        let of = |class: Option<usize>| {
            let leaves = self.leaves.iter();
            let leaves = leaves.filter(|leaf| class.is_none_or(|class| leaf.class == class));
            json::list(leaves.map(|leaf| json::string(&leaf.name)))
        };
        let mut first = vec![("match", of(None))];
        first.extend(self.hyperparameters(base, None));
        if self.format != Format::Full {
            first.push(("state", json::string(self.format.name())));
        }
        let mut groups = vec![json::object(first)];
        for class in 0..self.classes.len() {
            let changed = self.hyperparameters(self.at(class, step, source)?, Some(base));
            if !changed.is_empty() {
                let matching = std::iter::once(("match", of(Some(class))));
                groups.push(json::object(matching.chain(changed)));
            }
        }
        Ok(json::list(groups))
    }

    /// The hyperparameters of the rule; only those that differ from `base`, if it is given.
    fn hyperparameters(
        &self,
        mut numbers: Numbers,
        base: Option<Numbers>,
    ) -> Vec<(&'static str, String)> {
        let mut of = |key| numbers.number(key).map_or(0.0, |number| *number);
        let mut was = base;
        let mut before = |key| was.as_mut().map(|base| base.number(key).map_or(0.0, |n| *n));
        let mut found = Vec::new();
        for key in self.rule.hyperparameters {
            let (value, base) = (of(*key), before(*key));
            match key {
                Hyperparameter::Beta2 => {}
                Hyperparameter::Beta1 => {
                    let second = of(Hyperparameter::Beta2);
                    if base != Some(value) || before(Hyperparameter::Beta2) != Some(second) {
                        let pair = [json::number(value), json::number(second)];
                        found.push(("betas", json::list(pair)));
                    }
                }
                Hyperparameter::UpdateRms if base.unwrap_or(0.0) == value => {}
                _ if base == Some(value) => {}
                _ => found.push((key.name(), json::number(value))),
            }
        }
        found
    }
}

fn malformed(what: &dyn std::fmt::Display) -> Error {
    Error::Content(format!("JSON in the checkpoint is malformed: {what}"))
}

/// The name of a state array in a file.
fn state_name(leaf: &Leaf, array: &str) -> String {
    format!("state/{}/{array}", leaf.name)
}

/// A count in a file.
fn whole(value: Option<&Value>) -> Result<u64, Error> {
    let count = value.and_then(Value::as_u64).filter(|count| i64::try_from(*count).is_ok());
    count.ok_or_else(|| malformed(&"a count is not a whole number"))
}

/// The name of a tensor that stands for an array.
fn tensor_name(value: &Value) -> Option<&str> {
    value.get("$tensor").and_then(Value::as_str).filter(|_| value.get("as").is_none())
}

fn tensor_of<'a>(file: &'a Checkpoint, name: &str) -> Option<&'a SavedTensor> {
    file.index(name).map(|index| &file.tensors()[index])
}

/// Collects the names of parameters in a tree, joined with dots, and those of their tensors.
fn names(tree: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match tree {
        _ if tensor_name(tree).is_some() => {
            let name = if path.is_empty() { "0" } else { path };
            found.insert(name.to_owned(), tensor_name(tree).unwrap_or_default().to_owned());
        }
        Value::Object(items) => {
            for (key, item) in items {
                if key == "$tuple" {
                    names(item, path, found);
                } else {
                    names(item, &below(key), found);
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                names(item, &below(&at.to_string()), found);
            }
        }
        _ => {}
    }
}

/// Reads a tensor of a file, which must have this storage and fill the bytes.
fn fill(
    file: &Checkpoint,
    tensor: &SavedTensor,
    storage: Storage,
    name: &str,
    bytes: &mut [u8],
) -> Result<(), Error> {
    if tensor.dtype != storage.dtype() || tensor.len != bytes.len() {
        let (theirs, ours) = (tensor.dtype, storage.dtype());
        let (there, here) = (tensor.len, bytes.len());
        let key = Quoted(&tensor.name);
        let what =
            format!("{key} has {there} bytes of {theirs:?} in the file, {here} of {ours:?} here");
        return Err(Error::of(name, what));
    }
    if let Some(index) = file.index(&tensor.name) {
        file.read(index, &mut |at, piece| bytes[at..at + piece.len()].copy_from_slice(piece))?;
    }
    Ok(())
}
