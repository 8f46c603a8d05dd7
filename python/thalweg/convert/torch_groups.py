"""Groups of `torch.optim`: their parameters under our names, and their hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.convert.arrays import number
from thalweg.convert.names import Order, convertible, differences, flat, refuse_params
from thalweg.convert.numbers import Values
from thalweg.convert.torch_names import not_torchs, torch_key
from thalweg.errors import itemized
from thalweg.state.fitting import differing

if TYPE_CHECKING:
    from thalweg.convert.loading import Found
    from thalweg.state.held import Held

__all__ = ["DECOUPLED", "Form", "checked", "form_of", "names", "read_groups"]

DECOUPLED = "decoupled_weight_decay"
NO_NUMBERS = ("params", "param_names", "maximize", DECOUPLED)
"""Keys of a group that are not hyperparameters; other code reads them."""


@dataclass(frozen=True)
class Form:
    """The groups of an optimizer of torch."""

    rules: tuple[str, ...]
    """Thalweg's; of two, the first decouples the decay."""

    keys: tuple[str, ...]
    """Hyperparameters and choices, by which the form is recognised."""

    others: tuple[str, ...]
    """Ways to compute, which thalweg does not have."""

    counts: bool = True
    """Whether state has a step."""


ADAM = Form(
    ("AdamW", "Adam"),
    ("lr", "betas", "eps", "weight_decay", "amsgrad"),
    ("foreach", "capturable", "differentiable", "fused"),
)
RADAM = Form(
    ("RAdamW", "RAdam"),
    ("lr", "betas", "eps", "weight_decay", DECOUPLED),
    ("foreach", "capturable", "differentiable"),
)
RMSPROP = Form(
    ("RMSprop",),
    ("lr", "momentum", "alpha", "eps", "centered", "weight_decay"),
    ("foreach", "capturable", "differentiable"),
)
ADAGRAD = Form(
    ("Adagrad",),
    ("lr", "lr_decay", "eps", "weight_decay", "initial_accumulator_value"),
    ("foreach", "differentiable", "fused"),
)
SGD = Form(
    ("SGD",),
    ("lr", "momentum", "dampening", "weight_decay", "nesterov"),
    ("foreach", "differentiable", "fused"),
    counts=False,
)
FORMS = (ADAM, RADAM, RMSPROP, ADAGRAD, SGD)
OTHERS = ("momentum_decay",)
"""Hyperparameters of rules that thalweg lacks."""


def form_of(rule: str) -> Form:
    """The form of one of thalweg's rules."""
    return next(form for form in FORMS if rule in form.rules)


def checked(saved: Any) -> tuple[list[Mapping[str, Any]], Form]:
    """The groups of a state dict, and their form; ``params`` are numbers or names."""
    if not isinstance(saved, Mapping):
        raise TypeError(
            "state_dict must be the state dict of an optimizer of torch.optim, got "
            f"{type(saved).__name__}"
        )
    states, groups = saved.get("state"), saved.get("param_groups")
    whole_form = (
        isinstance(states, Mapping)
        and all(isinstance(entry, Mapping) for entry in states.values())
        and isinstance(groups, list | tuple)
        and len(groups) > 0
        and all(map(_is_group, groups))
    )
    if not whole_form or groups is None:
        raise ValueError(not_torchs(saved, "; pass optimizer.state_dict()"))
    form = next((form for form in FORMS if all(key in groups[0] for key in form.keys)), SGD)
    for i, group in enumerate(groups):
        if any(key not in group for key in form.keys) or any(key in group for key in OTHERS):
            keys = ", ".join(map(str, group))
            raise ValueError(
                "not a state dict of torch's AdamW, Adam, RAdam, RMSprop, Adagrad or SGD: "
                f"param_groups[{i}] has {keys}"
            )
    return list(groups), form


def _is_group(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    keys, names = value.get("params"), value.get("param_names")
    betas = value.get("betas", (0.0, 0.0))
    return (
        isinstance(keys, list | tuple)
        and (all(isinstance(key, int) for key in keys) or all(isinstance(k, str) for k in keys))
        and isinstance(betas, list | tuple)
        and len(betas) == 2
        and isinstance(names, list | tuple | None)
        and all(isinstance(name, str) for name in names or ())
    )


def names(held: Held, groups: list[Mapping[str, Any]], params: Order | None) -> list[str]:
    """Our name of each of torch's parameters, in torch's order."""
    sizes = [len(group["params"]) for group in groups]
    if params is not None:
        return _asked(held, sizes, params)
    keys = [key for group in groups for key in group["params"]]
    if keys and all(isinstance(key, str) for key in keys):
        return _by_name(held, keys)
    theirs: list[str] = [name for group in groups for name in group.get("param_names") or ()]
    if len(theirs) == sum(sizes) and all(name in held.params for name in theirs):
        if len(set(theirs)) < len(theirs):
            raise ValueError(f"torch's param_names must be different, got {', '.join(theirs)}")
        return theirs
    return _ordered(held, sizes, theirs)


def _by_name(held: Held, keys: list[str]) -> list[str]:
    """The names for a state dict whose keys are names."""
    wrong = differences(held, keys)
    if wrong:
        order = ", ".join(map(repr, keys[:3])) + (", ..." if len(keys) > 3 else "")
        raise ValueError(
            itemized(
                f"the names in the state dict do not fit; pass the names that {order} have here, "
                "in this order, as params=['w', 'b']",
                wrong,
            )
        )
    return keys


def _asked(held: Held, sizes: list[int], params: Order) -> list[str]:
    """The names in the order that the caller gave."""
    ours, asked = flat(params)
    wrong = differences(held, ours)
    if (asked or [len(ours)]) != (sizes if asked else [sum(sizes)]):
        wrong.append(
            f"params must have groups of {sizes} names, as torch has, got {asked or len(ours)}"
        )
    refuse_params(wrong)
    return ours


def _ordered(held: Held, sizes: list[int], theirs: list[str]) -> list[str]:
    """The names in the order of the tree, for one group."""
    if len(sizes) > 1:
        raise ValueError(
            f"torch has {len(sizes)} groups, which may be in another order than the tree; pass the "
            "names in each, as params=[['w'], ['b']]"
        )
    orders = [convertible(held), list(held.params)]
    fitting = [order for order in orders if len(order) == sizes[0]]
    if not fitting:
        raise ValueError(
            f"the state dict has {sizes[0]} parameters, the optimizer has {len(orders[1])}, of "
            f"which {len(orders[0])} can be converted; pass their names in torch's order, as "
            "params=['w', 'b']"
        )
    for ours, name in zip(fitting[0], theirs, strict=False):
        if name != ours and name in held.params:
            raise ValueError(
                f"torch's param_names have {name!r} where the tree has {ours!r}; pass the names in "
                "torch's order, as params=['w', 'b']"
            )
    return fitting[0]


def read_groups(held: Held, groups: list[Mapping[str, Any]], form: Form, found: Found) -> None:
    """Read rule, options and hyperparameters; keep groups in `found` if any number differs."""
    before = len(found.mismatched)
    rule = _rule(held, groups, form)
    if rule != held.rule.name:
        found.mismatched.append(differing("rule", rule, held.rule.name))
    else:
        for key in sorted({*held.rule.choices} - {"cautious"}):
            theirs = [bool(number(group.get(key, False))) for group in groups]
            if theirs != [held.options[key]] * len(groups):
                shown = theirs[0] if len(set(theirs)) == 1 else theirs
                found.mismatched.append(differing(f"option {key}", shown, held.options[key]))
    for i, group in enumerate(groups):
        keys = (*form.keys, *NO_NUMBERS)
        found.ignored |= {
            f"param_groups[{i}].{key}": value
            for key, value in group.items()
            if key not in keys and value is not None and value is not False
        }
    if len(found.mismatched) == before:
        found.groups = _made(held, groups, found.names)


def _rule(held: Held, groups: list[Mapping[str, Any]], form: Form) -> str:
    """The rule of the groups; without decay, AdamW and Adam are the same."""
    told = [
        form.rules[0 if number(group[DECOUPLED]) else 1]
        for group in groups
        if DECOUPLED in group and number(group["weight_decay"]) != 0
    ]
    ours = held.rule.name if held.rule.name in form.rules else form.rules[0]
    return next((rule for rule in told if rule != ours), ours)


def _made(held: Held, groups: list[Mapping[str, Any]], order: list[str]) -> list[dict[str, Any]]:
    """Groups in the form of our state dicts; none if the optimizer has the same numbers."""
    rest = iter(order)
    members = [[next(rest) for _ in group["params"]] for group in groups]
    values = [_values(held, group) for group in groups]
    ours = Values(held, 1)
    if all(
        ours.plain(name) and ours.of(name) == theirs
        for m, theirs in zip(members, values, strict=True)
        for name in m
    ):
        return []
    made = [
        {"match": m, **{key: v for key, v in theirs.items() if not i or v != values[0][key]}}
        for i, (m, theirs) in enumerate(zip(members, values, strict=True))
    ]
    made[0]["match"] = order
    frozen = [name for name in held.params if held.resolve(name)["frozen"]]
    return [*made, {"match": frozen, "frozen": True}] if frozen else made


def _values(held: Held, group: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: number(group[torch_key(key)]) for key in held.rule.keys}
    if "betas" in values:
        values["betas"] = (number(values["betas"][0]), number(values["betas"][1]))
    return values
