"""Random sequences of actions on an optimizer and on a plain NumPy model of it give the same bits.

After every action, parameters, state, counters, groups and reports are compared bit by bit. An
action that the model refuses must raise the same exception in the optimizer and change nothing.
``THALWEG_EXAMPLES=5000 pytest tests/test_machine.py`` tries 5000 sequences, new ones in each run.
"""

from __future__ import annotations

import copy
import functools
import os
import pickle
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import thalweg
from arrays import assert_same_bits, generators, place, readable, types, writable
from conftest import attached
from formulas import FORMULAS
from model import Model, Refused, Report, Saved, check_value

if TYPE_CHECKING:
    from collections.abc import Callable


def warmup(step: int) -> float:
    return 0.1 * min(1.0, step / 5)


def rising(step: int) -> float:
    return 1.0 - 0.9 / step


def broken(step: int) -> float:
    return float("nan") if step == 4 else 0.25


VALUES: dict[str, list[Any]] = {
    "lr": [0.0, 1e-3, 0.1, 1 / 3, warmup],
    "lr_scale": [0.5, 1 / 3, 3.7, rising],
    "betas": [(0.9, 0.999), (0.0, 0.3), (rising, 0.99), (0.5, rising)],
    "eps": [1e-8, 1e-15, 0.1, 1e-100, warmup],
    "l2": [0.0, 0.1, warmup],
    "weight_decay": [0.0, 0.1, rising],
    "momentum": [0.0, 0.5, 0.9, 1.0, rising],
    "r": [0.0, 0.5, warmup],
    "weight_lr_power": [2.0, 0.0, rising],
    "dampening": [0.0, 0.25, 1.0, warmup],
    "update_rms": [0.0, 0.0, 0.3, 1.0, warmup],
    "eps_root": [0.0, 1e-16, 0.1, warmup],
    "alpha": [0.0, 0.3, 0.99, rising],
    "lr_decay": [0.0, 0.5, warmup],
    "initial_accumulator_value": [0.0, 0.1, warmup],
    "frozen": [True, False],
    "name": ["head", "body"],
}
WRONG_VALUES: list[tuple[str, Any]] = [
    ("lr", -1.0),
    ("lr", "0.1"),
    ("lr_scale", float("nan")),
    ("betas", (0.9, 1.0)),
    ("betas", (0.9,)),
    ("betas", 0.9),
    ("eps", 1e-130),
    ("momentum", 1.5),
    ("l2", float("inf")),
    ("weight_decay", None),
    ("frozen", 1),
    ("name", 3),
    ("amsgrad", True),
    ("match", "*"),
]
SHAPES = [(), (1,), (3,), (17,), (2, 3), (3, 2, 2), (0, 2)]
LARGE = (257, 257)  # enough for several threads
FROZEN = {"match": "ice", "frozen": True}


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    shape = draw(st.sampled_from([*SHAPES, *SHAPES, LARGE]))
    values = draw(generators).standard_normal(shape).astype(draw(types))
    return place(values, draw(writable))[1]


def containers(child: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keyed = st.dictionaries(st.sampled_from(["w", "b", "[b]"]), child, min_size=1)
    listed = st.lists(child, min_size=1, max_size=3)
    return keyed | listed | listed.map(tuple)


trees = st.recursive(arrays(), containers, max_leaves=4)


def matches(names: list[str]) -> st.SearchStrategy[Any]:
    """Globs that match at least one name."""
    exact = [name.replace("[", "?").replace("]", "?") for name in names]
    parts = [glob for name in exact for glob in (f"{name[:2]}*", f"*{name[-1]}")]
    globs = st.sampled_from([*exact, *parts, "*"])
    return globs | st.lists(globs, min_size=1, max_size=2)


@dataclass(frozen=True)
class World:
    """The arguments that an optimizer is made from."""

    rule: str
    tree: Any
    values: dict[str, Any]
    groups: list[dict[str, Any]]
    options: dict[str, Any]

    def real(self) -> thalweg.Optimizer:
        make = getattr(thalweg, self.rule)
        return make(self.tree, **self.values, groups=self.groups, **self.options)

    def model(self) -> Model:
        params = thalweg.tree.flatten(self.tree)
        return Model(self.rule, params, self.values, self.groups, self.options)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    name, tree = draw(st.sampled_from(list(FORMULAS))), draw(trees)
    frozen = draw(st.sampled_from(["nothing", "nothing", "integers", "tied"]))
    groups = []
    if frozen != "nothing":
        first = next(iter(thalweg.tree.flatten(tree).values()))
        tree = {"body": tree, "ice": np.arange(3) if frozen == "integers" else first}
        groups.append(FROZEN)
    names = list(thalweg.tree.flatten(tree))
    values = {key: st.sampled_from(VALUES[key]) for key in FORMULAS[name].values}
    optional = FORMULAS[name].optional
    values |= {key: st.sampled_from(VALUES[key]) for key in optional}
    keys = {key: st.sampled_from(VALUES[key]) for key in (*values, "lr_scale", "frozen", "name")}
    specification = st.fixed_dictionaries({"match": matches(names)}, optional=keys)
    lr = {"lr": values.pop("lr")}
    choices = dict.fromkeys(FORMULAS[name].choices, st.just(value=True))
    nonfinite = {"nonfinite": st.sampled_from(["raise", "skip", "ignore"])}
    chosen = draw(st.fixed_dictionaries(nonfinite, optional=choices))
    if "nesterov" in chosen:
        lr["momentum"] = values.pop("momentum")
    return World(
        name,
        tree,
        draw(st.fixed_dictionaries(lr, optional=values)),
        groups + draw(st.lists(specification, max_size=3)),
        chosen,
    )


def holder(tree: Any, name: str) -> tuple[Any, Any]:
    """The container of a leaf, and the leaf's key in it."""
    *path, last = name.split(".")
    for key in path:
        tree = tree[key] if isinstance(tree, dict) else tree[int(key)]
    return tree, last if isinstance(tree, dict) else int(last)


def swapped(tree: Any) -> Any:
    """The same names in containers of another type and order."""
    if isinstance(tree, dict):
        return {key: swapped(child) for key, child in reversed(tree.items())}
    if isinstance(tree, list | tuple):
        return (tuple if isinstance(tree, list) else list)(map(swapped, tree))
    return tree


def collapsed(tree: Any) -> Any:
    """None in place of every container whose leaves are all None."""
    if isinstance(tree, dict):
        children = {key: collapsed(child) for key, child in tree.items()}
        return children if any(c is not None for c in children.values()) else None
    if isinstance(tree, list | tuple):
        entries = [collapsed(child) for child in tree]
        return type(tree)(entries) if any(c is not None for c in entries) else None
    return tree


FORMS: dict[str, Callable[[Any], Any]] = {
    "tree": lambda tree: tree,
    "swapped": swapped,
    "collapsed": collapsed,
}
MAGNITUDES = [1.0, 1.0, 1.0, 1.0, 1e-3, 0.0, 1e-20, 1e-40, 1e18, 1e38]
scales = st.sampled_from([1.0, 1 / 3, 1e-6, 1e30])
limits = st.dictionaries(
    st.sampled_from(["max_norm", "max_tensor_norm", "max_value"]),
    st.sampled_from([1 / 3, 1.0, 1e30, float("inf")]),
    max_size=1,
)
POISON = [*[None] * 20, np.nan, np.inf, 1e300]

COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),  # noqa: S301 - our own bytes
    "shallow": lambda pair: (pair[0], copy.copy(pair[1])),
}


class Machine(RuleBasedStateMachine):
    """One optimizer and its model; each rule acts on both."""

    def __init__(self) -> None:
        super().__init__()
        self.threads, self.level = thalweg.get_num_threads(), thalweg.get_cpu_level()
        self.saved: list[tuple[Any, Saved]] = []

    def teardown(self) -> None:
        thalweg.set_num_threads(self.threads)
        thalweg.set_cpu_level(self.level)

    def both(self, real: Callable[[], Any], model: Callable[[], Any]) -> tuple[Any, Any] | None:
        """The results of both, or None if both refuse."""
        refused = expected = None
        try:
            with np.errstate(all="ignore"):
                expected = model()
        except Refused as why:
            refused = why
        if refused is None:
            return real(), expected
        with pytest.raises(refused.error) as told:
            real()
        assert type(told.value) is refused.error
        assert getattr(told.value, "nonfinite", None) == refused.nonfinite
        return None

    def start(self, world: World) -> bool:
        made = self.both(world.real, world.model)
        if made is None:
            return False
        self.opt, self.model = made
        self.world, self.tree = world, world.tree
        self.arrays = thalweg.tree.flatten(world.tree)
        self.held: dict[tuple[str, str], Any] = {}
        self.ema: thalweg.EMA | None = None
        self.save(copied=True)
        return True

    @initialize(world=worlds(), data=st.data(), steps=st.integers(0, 4))
    def begin(self, world: World, data: st.DataObject, steps: int) -> None:
        # If the options are refused, start with the same parameters and default options.
        frozen = [group for group in world.groups if group is FROZEN]
        plain = replace(world, values={"lr": 0.1}, groups=frozen, options={})
        assert self.start(world) or self.start(plain)
        self.train_plainly(data, steps)

    @rule(world=worlds())
    def make_another(self, world: World) -> None:
        self.start(world)

    def gradients(self, data: st.DataObject) -> dict[str, Any]:
        rng, grads = data.draw(generators), {}
        for name, leaf in self.model.leaves.items():
            shape, dtype = leaf.array.shape, data.draw(types)
            values = rng.standard_normal(shape) * data.draw(st.sampled_from(MAGNITUDES))
            if values.size and (poison := data.draw(st.sampled_from(POISON))) is not None:
                values.flat[rng.integers(values.size)] = poison
            with np.errstate(over="ignore"):
                grads[name] = place(values.astype(dtype), data.draw(readable))[1]
        return grads

    def step(self, data: st.DataObject, grads: dict[str, Any], **arguments: Any) -> None:
        """Step both; the optimizer gets the gradients in a random container, the model by name."""
        given: Any = grads
        form = data.draw(st.sampled_from(["by name", *FORMS]))
        if form in FORMS and grads.keys() == self.model.leaves.keys():
            given = FORMS[form](thalweg.tree.unflatten(grads, like=self.tree))
        self.compare(
            self.both(
                lambda: self.opt.step(given, **arguments),
                lambda: self.model.step(grads, **arguments),
            )
        )

    def compare(self, steps: tuple[Any, Report] | None) -> None:
        """Compare the reports of a step unless both refused it."""
        if steps is not None:
            report, expected = steps
            fields = Report(*(getattr(report, key) for key in Report._fields))
            fields = fields._replace(nonfinite=dict(report.nonfinite))
            assert repr(fields) == repr(expected)  # NaN norms are equal

    def train_plainly(self, data: st.DataObject, steps: int, **arguments: Any) -> None:
        rng = data.draw(generators)
        shapes = {name: leaf.array.shape for name, leaf in self.model.leaves.items()}
        for _ in range(steps):
            grads = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
            self.step(data, grads, **arguments)

    @rule(data=st.data(), steps=st.integers(1, 4), limits=limits)
    def train(self, data: st.DataObject, steps: int, limits: dict[str, float]) -> None:
        self.train_plainly(data, steps, **limits)

    def strange_gradients(self, data: st.DataObject, *, partial: bool) -> dict[str, Any]:
        grads = self.gradients(data)
        trains = self.model.trains()
        for name in list(grads):
            fate = data.draw(st.sampled_from(["given", "given", "None", "left out", "anything"]))
            if fate == "None":
                grads[name] = None
            elif fate == "left out" and (partial or name not in trains):
                del grads[name]
            elif fate == "anything" and name not in trains:
                grads[name] = fate
        return grads

    @rule(data=st.data(), limits=limits, scale=scales, partial=st.booleans())
    def train_strangely(
        self, data: st.DataObject, limits: dict[str, float], scale: float, partial: bool
    ) -> None:
        grads = self.strange_gradients(data, partial=partial)
        self.step(data, grads, scale=scale, partial=partial, **limits)

    @rule(data=st.data(), parts=st.integers(0, 4))
    def train_in_parts(self, data: st.DataObject, parts: int) -> None:
        step = self.opt.open_step()
        if self.both(step.__enter__, self.model.open) is None:
            return
        for _ in range(parts):
            grads = self.strange_gradients(data, partial=True)
            given = {name: g for name, g in grads.items() if data.draw(st.booleans())}
            arguments = {"scale": data.draw(scales), **data.draw(limits)}
            arguments.pop("max_norm", None)
            self.compare(
                self.both(
                    functools.partial(step, given, **arguments),
                    functools.partial(self.model.part, given, **arguments),
                )
            )
        with pytest.raises(thalweg.BusyError):
            self.opt.lr = 0.5
        step.__exit__(None, None, None)

    @rule(
        data=st.data(),
        wrong=st.sampled_from(
            [
                *("none", "extra", "missing", "shape", "dtype", "too large", "two limits"),
                *("scale", "max_norm", "max_tensor_norm", "max_value"),
            ]
        ),
    )
    def train_wrongly(self, data: st.DataObject, wrong: str) -> None:
        grads, arguments = self.gradients(data), {}
        name = data.draw(st.sampled_from(list(grads)))
        if wrong == "none":
            grads = dict.fromkeys(grads)
        elif wrong == "extra":
            grads[f"{name}.more"] = np.ones(2)
        elif wrong == "missing":
            del grads[name]
        elif wrong == "shape":
            grads[name] = grads[name][..., None]
        elif wrong == "dtype":
            grads[name] = np.zeros(grads[name].shape, int)
        elif wrong == "too large":
            arguments["scale"] = 1e39
        elif wrong == "two limits":
            arguments |= dict.fromkeys(["max_tensor_norm", "max_value"], 1.0)
        else:
            arguments[wrong] = data.draw(st.sampled_from([0.0, -1.0, float("nan")]))
        self.step(data, grads, **arguments)

    def edit(self, position: int, key: str, value: Any) -> None:
        self.both(
            lambda: setattr(self.opt.groups[position], key, value),
            lambda: self.model.edit(position, key, value),
        )

    def positions(self) -> st.SearchStrategy[int]:
        return st.sampled_from(range(len(self.model.groups))[::-1])

    @rule(data=st.data())
    def set_a_value(self, data: st.DataObject) -> None:
        formula = FORMULAS[self.model.rule]
        known = [*formula.values, *formula.optional, "lr_scale", "name"]
        key = data.draw(st.sampled_from(known))
        self.edit(data.draw(self.positions()), key, data.draw(st.sampled_from(VALUES[key])))

    @rule(data=st.data(), wrong=st.sampled_from(WRONG_VALUES))
    def set_a_wrong_value(self, data: st.DataObject, wrong: tuple[str, Any]) -> None:
        self.edit(data.draw(self.positions()), *wrong)

    @rule(data=st.data(), frozen=st.booleans())
    def freeze_or_thaw(self, data: st.DataObject, frozen: bool) -> None:
        self.edit(data.draw(self.positions()), "frozen", frozen)

    @rule(value=st.sampled_from([*VALUES["lr"], broken]))
    def set_lr(self, value: Any) -> None:
        self.both(lambda: setattr(self.opt, "lr", value), lambda: self.model.edit(0, "lr", value))

    @rule(data=st.data())
    def delete_a_value(self, data: st.DataObject) -> None:
        position = data.draw(self.positions())
        key = data.draw(st.sampled_from([*self.model.groups[position].values, "lr_scale"]))
        self.both(
            lambda: delattr(self.opt.groups[position], key),
            lambda: self.model.delete(position, key),
        )

    @rule(data=st.data(), rng=generators)
    def write_from_outside(self, data: st.DataObject, rng: np.random.Generator) -> None:
        name = data.draw(st.sampled_from(list(self.arrays)))
        array = self.arrays[name]
        values = rng.standard_normal(array.shape).astype(array.dtype)
        for written in (array, self.model.leaves[name].array):
            written[...] = values

    @rule(data=st.data(), fits=st.sampled_from([True, True, False]))
    def replace_in_the_tree(self, data: st.DataObject, fits: bool) -> None:
        name = data.draw(st.sampled_from(list(self.arrays)))
        container, key = holder(self.tree, name) if self.tree is not self.arrays[name] else (0, 0)
        if isinstance(container, dict | list):
            array = self.arrays[name]
            container[key] = array.copy() if fits else array[None].astype(np.float64)
            self.model.rebound.add(name)

    @precondition(lambda self: self.model.rebound)
    @rule()
    def put_back(self) -> None:
        for name in self.model.rebound:
            container, key = holder(self.tree, name)
            container[key] = self.arrays[name]
        self.model.rebound = set()

    @rule(copied=st.booleans())
    def rebind(self, copied: bool) -> None:
        tree = copy.deepcopy(self.tree) if copied else self.tree
        params = thalweg.tree.flatten(tree)
        if self.both(lambda: self.opt.rebind(tree), lambda: self.model.rebind(params)):
            self.tree, self.arrays = tree, params

    @rule(decay=st.sampled_from([0.0, 0.3, 0.9]), corrected=st.booleans())
    def make_an_average(self, decay: float, corrected: bool) -> None:
        self.ema = thalweg.EMA(self.opt, decay, bias_correction=corrected)
        self.held = {key: array for key, array in self.held.items() if key[1] != "average"}
        self.model.make_average(decay, bias_correction=corrected)

    @precondition(lambda self: self.ema is not None)
    @rule()
    def update_the_average(self) -> None:
        self.both(lambda: (self.ema.update(), True), lambda: (self.model.update_average(), True))

    @precondition(lambda self: self.ema is not None and not self.model.rebound)
    @rule()
    def evaluate_the_average(self) -> None:
        block = self.ema.swapped()
        if self.both(block.__enter__, lambda: (self.model.exchange(), True)) is None:
            return
        self.optimizer_and_model_are_the_same()
        with pytest.raises(thalweg.BusyError):
            self.ema.update()
        block.__exit__(None, None, None)
        self.model.exchange()

    @precondition(lambda self: isinstance(self.tree, dict) and len(self.arrays) < 6)
    @rule(
        data=st.data(),
        key=st.sampled_from(["w2", "b2", "a", "z"]),
        kind=st.sampled_from(["new", "new", "new", "tied", "integers"]),
        values=st.sampled_from([{}, {"lr_scale": 0.5}, {"frozen": True}, {"lr": -1.0}]),
    )
    def extend(self, data: st.DataObject, key: str, kind: str, values: dict[str, Any]) -> None:
        if key in self.arrays:
            return
        array = data.draw(arrays())
        tied = data.draw(st.sampled_from(list(self.arrays)))
        array = {"new": array, "tied": self.arrays[tied], "integers": array.astype(int)}[kind]
        params = thalweg.tree.flatten({**self.tree, key: array})

        def model() -> None:
            for name, value in values.items():
                check_value(self.model.rule, name, value)
            self.model.extend(params, values)

        group = {"match": [key], **values}
        self.tree[key] = array
        if self.both(lambda: self.opt.extend(self.tree, [group]), lambda: (model(), True)):
            self.arrays = params
        else:
            del self.tree[key]

    def save(self, *, copied: bool) -> None:
        real, model = self.opt.state_dict(copy=copied), self.model.save(copied=copied)
        assert list(real["state"]) == list(model.state)
        self.saved.append((real, model))

    @rule(copied=st.booleans())
    def save_for_later(self, copied: bool) -> None:
        self.save(copied=copied)

    def load(self, data: st.DataObject) -> None:
        real, model = data.draw(st.sampled_from(self.saved))
        hyperparameters = data.draw(st.sampled_from(["saved", "current"]))
        strict = data.draw(st.booleans())
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            loaded = self.both(
                lambda: self.opt.load_state_dict(
                    real, hyperparameters=hyperparameters, strict=strict
                ),
                lambda: self.model.load(model, hyperparameters, strict=strict),
            )
        if loaded is not None:
            report, expected = loaded
            assert bool(report.mismatched) == expected.mismatched
            for key in ("step", "missing", "unexpected", "changed"):
                assert getattr(report, key) == getattr(expected, key)
            assert len(warned) == bool(expected.changed)

    @rule(data=st.data())
    def load_a_saved_state(self, data: st.DataObject) -> None:
        self.load(data)

    @rule(data=st.data())
    def load_into_a_fresh_optimizer(self, data: st.DataObject) -> None:
        average = self.model.average
        if self.start(replace(self.world, tree=copy.deepcopy(self.tree))):
            if average is not None:
                self.ema = thalweg.EMA(self.opt, 0.9, bias_correction=average.bias_correction)
                self.model.make_average(0.9, bias_correction=average.bias_correction)
            self.load(data)

    # A copy is refused while the tree holds other arrays; test_state_dict.py tests that.
    @precondition(lambda self: not self.model.rebound)
    @rule(how=st.sampled_from(list(COPIES)))
    def continue_with_a_copy(self, how: str) -> None:
        self.tree, self.opt = COPIES[how]((self.tree, self.opt))
        self.model = copy.deepcopy(self.model)
        for group in self.model.groups[1:]:
            group.match = None  # a copy keeps the names that were matched
        self.ema = attached(self.opt).get("ema")
        if how == "shallow":  # the average stays with the original
            assert self.ema is None
            self.model.average = None
        self.arrays, self.held = thalweg.tree.flatten(self.tree), {}

    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        match = data.draw(st.none() | st.just("nothing") | matches(list(self.arrays)))
        self.both(lambda: self.opt.reset(match), lambda: self.model.reset(match))

    @rule(
        threads=st.integers(1, 3),
        level=st.sampled_from(thalweg.cpu_levels()),
    )
    def change_the_machine(self, threads: int, level: str) -> None:
        thalweg.set_num_threads(threads)
        thalweg.set_cpu_level(level)

    @invariant()
    def optimizer_and_model_are_the_same(self) -> None:
        opt, model = self.opt, self.model
        groups = [(g.names, {k: getattr(g, k) for k in list(g.keys())}) for g in opt.groups]
        assert groups == [(group.names, group.values) for group in model.groups]
        assert opt.lr == groups[0][1]["lr"]
        counts = opt.step_count, opt.skip_count, opt.consecutive_skips
        assert counts == (model.step_count, model.skips, model.consecutive)
        if self.ema is not None:
            assert self.ema._mirrored is opt._held.attached["ema"]
            assert self.ema.count == model.average.count
            assert self.ema.decay == model.average.decay
            assert self.ema._mirrored.arrays.keys() == model.average.leaves.keys()
            for name, array in self.ema._mirrored.arrays.items():
                assert self.held.setdefault((name, "average"), array) is array
                assert_same_bits(array, model.average.leaves[name].array)
        state = opt.state
        assert list(opt.params) == list(model.leaves)
        assert list(state) == [n for n, leaf in model.leaves.items() if leaf.state is not None]
        for name, leaf in model.leaves.items():
            assert opt.params[name] is self.arrays[name]
            assert opt.resolve(name) == model.resolve(name)
            if leaf.array.dtype.kind != "f":
                assert np.array_equal(opt.params[name], leaf.array)
                continue
            assert_same_bits(opt.params[name], leaf.array)
            if leaf.state is None:
                continue
            assert list(state[name]) == ["step", *leaf.state]
            assert state[name]["step"] == leaf.step
            for key, expected in leaf.state.items():
                array = state[name][key]
                assert self.held.setdefault((name, key), array) is array
                assert_same_bits(array, expected)


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=int(os.environ.get("THALWEG_EXAMPLES", "120")),
    stateful_step_count=40,
    deadline=None,
    derandomize="THALWEG_EXAMPLES" not in os.environ,
    report_multiple_bugs=False,  # shrinking one sequence takes minutes
)
