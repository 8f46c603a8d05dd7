"""`thalweg.convert` and optax: runs continue in the other library; misfits are refused."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")
optax = pytest.importorskip("optax", reason="optax is not installed")

if TYPE_CHECKING:
    from collections.abc import Callable

import thalweg  # noqa: E402
from conftest import unchanged  # noqa: E402
from thalweg.convert import from_optax, to_optax  # noqa: E402


def model() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "layers": [{"w": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}],
        "head": (rng.normal(size=3),),
    }


def typed(tree: Any) -> Any:
    """The tree in float32, with keys sorted as JAX sorts them."""
    return jax.tree.map(lambda a: np.array(a, np.float32), tree)


def gradients(step: int) -> Any:
    rng = np.random.default_rng(step)
    return typed(jax.tree.map(lambda p: rng.normal(size=p.shape), model()))


def warm(count: Any) -> Any:
    """A schedule of optax: a function of the number of updates done."""
    return 0.01 * (1 + count) / (2 + count)


RULES: list[tuple[str, Any, Callable[[Any], thalweg.Optimizer]]] = [
    (
        "adamw",
        lambda: optax.adamw(0.01, b2=0.9, weight_decay=0.1),
        lambda p: thalweg.AdamW(p, lr=0.01, betas=(0.9, 0.9), weight_decay=0.1),
    ),
    ("adam", lambda: optax.adam(0.01), lambda p: thalweg.Adam(p, lr=0.01)),
    (
        "adamw with a schedule",
        lambda: optax.adamw(warm, weight_decay=0.1),
        lambda p: thalweg.AdamW(p, lr=lambda t: warm(t - 1), weight_decay=0.1),
    ),
    ("sgd", lambda: optax.sgd(0.1), lambda p: thalweg.SGD(p, lr=0.1)),
    (
        "sgd with momentum",
        lambda: optax.sgd(0.1, momentum=0.9),
        lambda p: thalweg.SGD(p, lr=0.1, momentum=0.9),
    ),
    (
        "sgd with Nesterov's momentum and a schedule",
        lambda: optax.sgd(warm, momentum=0.9, nesterov=True),
        lambda p: thalweg.SGD(p, lr=lambda t: warm(t - 1), momentum=0.9, nesterov=True),
    ),
    (
        "nadamw",
        lambda: optax.nadamw(0.01, weight_decay=0.1),
        lambda p: thalweg.NAdamW(p, lr=0.01, weight_decay=0.1),
    ),
    (
        "radam with decay",
        lambda: optax.chain(
            optax.scale_by_radam(),
            optax.add_decayed_weights(0.1),
            optax.scale_by_learning_rate(0.01),
        ),
        lambda p: thalweg.RAdamW(p, lr=0.01, weight_decay=0.1),
    ),
    (
        "belief with decay and a schedule",
        lambda: optax.chain(
            optax.scale_by_belief(eps=1e-8),
            optax.add_decayed_weights(0.1),
            optax.scale_by_learning_rate(warm),
        ),
        lambda p: thalweg.AdaBelief(p, lambda t: warm(t - 1), eps=1e-8, weight_decay=0.1),
    ),
    (
        "lion",
        lambda: optax.lion(1e-3, weight_decay=0.1),
        lambda p: thalweg.Lion(p, lr=1e-3, weight_decay=0.1),
    ),
    (
        "rmsprop",
        lambda: optax.rmsprop(0.01, decay=0.99, eps_in_sqrt=False),
        lambda p: thalweg.RMSprop(p, lr=0.01),
    ),
    (
        "rmsprop, centered, with a schedule",
        lambda: optax.rmsprop(warm, decay=0.9, eps=1e-3, eps_in_sqrt=False, centered=True),
        lambda p: thalweg.RMSprop(p, lr=lambda t: warm(t - 1), alpha=0.9, eps=1e-3, centered=True),
    ),
]
FORMS = [
    (
        "adam with a penalty",
        lambda: optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.01)),
        lambda p: thalweg.Adam(p, lr=0.01, l2=0.1),
    ),
    (
        "adamw under a mask",
        lambda: optax.adamw(0.01, mask={"layers": [{"w": True, "b": False}], "head": (False,)}),
        lambda p: thalweg.AdamW(p, 0.01, weight_decay=1e-4, groups=[thalweg.no_decay()]),
    ),
    (
        "adamw with hyperparameters in its state",
        lambda: optax.inject_hyperparams(optax.adamw)(learning_rate=warm),
        lambda p: thalweg.AdamW(p, lr=lambda t: warm(t - 1), weight_decay=1e-4),
    ),
    (
        "adabelief",
        lambda: optax.adabelief(0.01, eps=1e-8),
        lambda p: thalweg.AdaBelief(p, lr=0.01, eps=1e-8, weight_decay=0.0),
    ),
    (
        "radam",
        lambda: optax.radam(0.01),
        lambda p: thalweg.RAdamW(p, lr=0.01, weight_decay=0.0),
    ),
    (
        "two groups",
        lambda: optax.partition(
            {"one": optax.adam(0.01), "two": optax.adam(0.02)},
            {"layers": [{"w": "one", "b": "two"}], "head": ("two",)},
        ),
        lambda p: thalweg.Adam(p, 0.01, groups=[{"match": ["*.b", "head.*"], "lr": 0.02}]),
    ),
]
each_rule = pytest.mark.parametrize(
    ("transformation", "optimizer"), [r[1:] for r in RULES], ids=[r[0] for r in RULES]
)
each_form = pytest.mark.parametrize(
    ("transformation", "optimizer"),
    [r[1:] for r in (*RULES, *FORMS)],
    ids=[r[0] for r in (*RULES, *FORMS)],
)


def train_theirs(tx: Any, state: Any, params: Any, steps: range) -> tuple[Any, Any]:
    update = jax.jit(tx.update)
    for step in steps:
        updates, state = update(gradients(step), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def train_ours(opt: thalweg.Optimizer, steps: range) -> None:
    for step in steps:
        opt.step(gradients(step))


def assert_close(one: Any, other: Any) -> None:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("before", [0, 10])
@each_form
def test_a_run_of_optax_continues_in_thalweg(
    transformation: Any, optimizer: Any, before: int
) -> None:
    tx = transformation()
    params = typed(model())
    params, state = train_theirs(tx, tx.init(params), params, range(1, before + 1))
    opt = optimizer(typed(params))
    report = from_optax(state, opt)
    if opt.rule.name not in ("SGD", "RMSprop"):
        assert report.step == opt.step_count == before
        assert {leaf["step"] for leaf in opt.state.values()} == {before}
    rest = range(before + 1, before + 16)
    params, _ = train_theirs(tx, state, params, rest)
    train_ours(opt, rest)
    assert_close(opt._held.tree, params)


@pytest.mark.parametrize("like", [True, False])
@pytest.mark.parametrize("before", [0, 10])
@each_rule
def test_a_run_of_thalweg_continues_in_optax(
    transformation: Any, optimizer: Any, before: int, *, like: bool
) -> None:
    assert_continues_in_optax(transformation(), optimizer(typed(model())), before, like=like)


@pytest.mark.parametrize(
    ("transformation", "optimizer"), [f[1:] for f in FORMS], ids=[f[0] for f in FORMS]
)
def test_any_state_of_optax_can_be_filled(transformation: Any, optimizer: Any) -> None:
    assert_continues_in_optax(transformation(), optimizer(typed(model())), 10, like=True)


def assert_continues_in_optax(tx: Any, opt: thalweg.Optimizer, before: int, *, like: bool) -> None:
    train_ours(opt, range(1, before + 1))
    params = typed(opt._held.tree)
    fresh = tx.init(params)
    state = to_optax(opt, like=fresh) if like else to_optax(opt)
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    counts = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == np.int32]
    assert all(count == before for count in counts)
    rest = range(before + 1, before + 16)
    train_ours(opt, rest)
    params, state = train_theirs(tx, state, params, rest)
    assert_close(params, opt._held.tree)
    assert jax.tree.structure(state) == jax.tree.structure(fresh)


@each_form
def test_a_round_trip_has_the_same_bits(transformation: Any, optimizer: Any) -> None:
    tx, params = transformation(), typed(model())
    _, state = train_theirs(tx, tx.init(params), params, range(1, 6))
    opt = optimizer(params)
    from_optax(state, opt, step_count=5)
    back = to_optax(opt, like=state)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        assert np.array_equal(one, other)
        assert np.asarray(one).dtype == other.dtype


def as_dicts(node: Any) -> Any:
    """The state as a checkpoint without classes returns it."""
    if hasattr(node, "_asdict"):
        return {key: as_dicts(value) for key, value in node._asdict().items()}
    if isinstance(node, dict):
        return {key: as_dicts(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [as_dicts(value) for value in node]
    return np.asarray(node)


def test_states_without_their_classes_are_read() -> None:
    tx, params = optax.adamw(warm), typed(model())
    _, state = train_theirs(tx, tx.init(params), params, range(1, 6))
    one, other = thalweg.AdamW(typed(params)), thalweg.AdamW(typed(params))
    from_optax(state, one)
    from_optax(as_dicts(state), other)
    for name, leaf in one.state.items():
        assert all(np.array_equal(leaf[key], other.state[name][key]) for key in leaf)
    filled = to_optax(one, like=as_dicts(state))
    assert filled[0].keys() == {"count", "mu", "nu"}


def test_half_precision_is_exact() -> None:
    tx, params = optax.adamw(0.1, mu_dtype="bfloat16"), typed(model())
    _, state = train_theirs(tx, tx.init(params), params, range(1, 3))
    opt = thalweg.AdamW(params)
    from_optax(state, opt)
    wanted = np.asarray(state[0].mu["head"][0]).astype(np.float32)
    assert np.array_equal(opt.state["head.0"]["exp_avg"], wanted)


def test_states_have_the_classes_of_optax_only_if_it_is_imported() -> None:
    code = """
import sys
import numpy as np, thalweg
opt = thalweg.AdamW({"w": np.ones(2)})
adam, decay, last = thalweg.convert.to_optax(opt)
print(type(adam).__name__, type(decay).__name__, type(last).__name__, "optax" in sys.modules)
"""
    said = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said == "ScaleByAdamState EmptyState EmptyState False\n"
    assert isinstance(to_optax(thalweg.AdamW(typed(model())))[0], optax.ScaleByAdamState)


def test_frozen_parameters_have_no_state_in_optax() -> None:
    params = typed(model())
    opt = thalweg.AdamW(params, groups=[{"match": "layers.*", "frozen": True}])
    assert jax.tree.structure(to_optax(opt)[0].mu) == jax.tree.structure(
        {"layers": [{"w": None, "b": None}], "head": (1,)}
    )
    tx = optax.adamw(0.1)
    head = {"head": params["head"]}
    made = to_optax(opt, like=tx.init(head))
    assert made[0].mu.keys() == {"head"}
    from_optax(made, opt)


def test_accumulators_and_averages_are_kept() -> None:
    opt = thalweg.AdamW(typed(model()))
    ema = thalweg.EMA(opt, decay=0.9)
    ema.update()
    from_optax(to_optax(opt), opt)
    assert ema.state_dict()["step_count"] == 1


def test_ignored_entries_are_listed() -> None:
    params = typed(model())
    state = optax.inject_hyperparams(optax.adam)(learning_rate=0.1).init(params)
    ignored = from_optax(state, thalweg.Adam(params)).ignored
    assert float(ignored["hyperparams.learning_rate"]) == pytest.approx(0.1)


def adam_state(params: Any, **changes: Any) -> Any:
    state = optax.adam(0.1).init(params)
    return (state[0]._replace(**changes), *state[1:])


def in_mid_accumulation(params: Any) -> Any:
    tx = optax.MultiSteps(optax.adam(0.1), every_k_schedule=2)
    return tx.update(params, tx.init(params), params)[1]


REFUSED: list[tuple[Callable[[Any], Any], str]] = [
    (lambda p: optax.amsgrad(0.1).init(p), "AMSGrad of optax cannot be converted"),
    (lambda p: optax.sgd(0.1, momentum=0.9).init(p), "saved .'momentum_buffer'., here"),
    (lambda _: (), "state must contain optax's ScaleByAdamState for AdamW, got none"),
    (lambda _: (None,), "state must contain optax's ScaleByAdamState"),
    (lambda _: None, "state must be a state of optax, .*, got NoneType"),
    (in_mid_accumulation, "in the middle of an accumulation of gradients \\(mini_step is 1\\)"),
    (lambda p: optax.adagrad(0.1).init(p), "state must contain optax's ScaleByAdamState"),
    (lambda p: optax.lion(0.1).init(p), r"saved \['exp_avg'\], here \['exp_avg', 'exp_avg_sq'\]"),
    (lambda p: optax.adabelief(0.1).init(p), r"saved \['exp_avg', 'exp_avg_var'\], here"),
    (lambda p: optax.novograd(0.1).init(p), "ScaleByNovogradState of optax is the state of a rule"),
    (lambda p: adam_state(p, count=-1), "step must be a whole number .*, got -1"),
    (lambda p: adam_state(p, count=0.5), "step must be a whole number .*, got 0.5"),
    (lambda p: adam_state(p, count=True), "step must be a whole number .*, got True"),
    (lambda p: adam_state(p, mu={}), r"saved \['exp_avg_sq'\], here \['exp_avg', 'exp_avg_sq'\]"),
    (lambda p: adam_state({"head": p["head"]}), "missing: 'layers.0.w'"),
    (lambda p: adam_state({**p, "new": p["head"]}), "unexpected: 'new.0', which is not"),
    (lambda p: adam_state({**p, "head": (np.ones(7, np.float32),)}), r"saved float32 \(7,\)"),
    (lambda p: adam_state({**p, "head": (np.ones(3, np.int32),)}), r"saved int32 \(3,\)"),
    (lambda p: (adam_state(p), adam_state(p)), "'layers.0.w' is in two states, the second at 1.0"),
    (lambda p: adam_state(p, nu={**p, "head": (np.ma.zeros(3),)}), "masked array; fill it first"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_a_state_that_does_not_fit_changes_nothing(make: Any, message: str) -> None:
    params = typed(model())
    opt = thalweg.AdamW(params)
    train_ours(opt, range(1, 3))
    with unchanged(opt), pytest.raises((ValueError, TypeError), match=message):
        from_optax(make(params), opt)


def test_not_strict_takes_over_the_states_that_fit() -> None:
    params = typed(model())
    opt = thalweg.AdamW(params)
    train_ours(opt, range(1, 3))
    state = adam_state({"head": params["head"]}, count=7)
    report = from_optax(state, opt, strict=False)
    assert set(report.missing) == {"layers.0.w", "layers.0.b"}
    assert {name: leaf["step"] for name, leaf in opt.state.items()} == {
        "layers.0.w": 2,
        "layers.0.b": 2,
        "head.0": 7,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cls": thalweg.AdamW, "amsgrad": True}, "amsgrad=True has no counterpart in optax"),
        ({"cls": thalweg.Adam, "maximize": True}, "maximize=True has no counterpart in optax"),
        (
            {"cls": thalweg.SGD, "lr": 0.1, "momentum": 0.9, "dampening": 0.5},
            "dampening, which 'head.0' has, has no counterpart in optax",
        ),
        (
            {"cls": thalweg.RMSprop, "momentum": 0.9},
            "momentum, which 'head.0' has, has no counterpart in RMSprop of optax",
        ),
        ({"cls": thalweg.Lion, "cautious": True}, "cautious=True has no counterpart"),
    ],
)
def test_options_without_a_counterpart_in_optax_are_refused(
    options: dict[str, Any], message: str
) -> None:
    options = copy.copy(options)
    opt = options.pop("cls")(typed(model()), **options)
    with pytest.raises(ValueError, match=message):
        to_optax(opt)
    with unchanged(opt), pytest.raises(ValueError, match=message):
        from_optax((), opt)


def test_a_state_that_does_not_fit_cannot_be_filled() -> None:
    params = typed(model())
    opt = thalweg.AdamW(params)
    tx = optax.adamw(0.1)
    for other, message in (
        ({"head": params["head"]}, "like does not fit; missing: 'layers.0.b', 'layers.0.w'"),
        (
            {**params, "new": params["head"]},
            "like does not fit; unexpected: 'new.0', which has no exp_avg here",
        ),
        ({**params, "head": (np.ones(7),)}, r"'head.0' in like must have shape \(3,\), got \(7,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            to_optax(opt, like=tx.init(other))
    opt.step({**gradients(1), "head": (None,)})
    with pytest.raises(
        ValueError, match=r"numbers of steps must be equal, .*, got 'head.0' 0, 'layers.0.b' 1"
    ):
        to_optax(opt)
    saved = opt.state_dict()
    saved["step_count"] = 2**31
    for leaf in saved["state"].values():
        leaf["step"] = 2**31
    opt.load_state_dict(saved)
    with pytest.raises(ValueError, match="must be at most 2147483647, got 2147483648"):
        to_optax(opt)
    with pytest.raises(TypeError, match=r"opt must be one of thalweg.AdamW"):
        from_optax((), params)  # type: ignore[arg-type]  # that is the test
    mixed = thalweg.SGD(params, 0.1, groups=[{"match": "head.*", "momentum": 0.9}])
    with pytest.raises(ValueError, match=r"'layers.0.b' has no momentum, but 'head.0' has"):
        to_optax(mixed)
