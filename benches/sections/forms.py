"""The cost of a step besides arithmetic: many small tensors in containers of several forms."""

from __future__ import annotations

from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from sections import compare
from thalweg.cli.bench.cases import Case
from thalweg.cli.bench.contenders import BASELINE, Contender, ours
from thalweg.cli.bench.native import adamw
from thalweg.tree import flatten

if TYPE_CHECKING:
    from collections.abc import Callable

    import thalweg
    from sections import Options
    from thalweg.cli.bench.formulas import Array, Arrays

TITLE = "steps of many tensors of 16 elements; x thalweg is the time of a flat dict"
COUNTS = (1, 10, 100, 1_000)
ELEMENTS = 16


class Layer(NamedTuple):
    """A typical container of a user; None is no leaf."""

    w: Array
    b: Array | None


def _nested(arrays: Arrays) -> dict[str, list[Layer]]:
    given = [*arrays.values()]
    layers = [Layer(w, b) for w, b in zip_longest(given[::2], given[1::2])]
    half = len(layers) // 2
    return {"encoder": layers[:half], "decoder": layers[half:]}


def _as_list(arrays: Arrays) -> list[Array]:
    return [*arrays.values()]


def _by_name(arrays: Arrays) -> Arrays:
    return flatten(_nested(arrays))


class Form(NamedTuple):
    """The functions that make trees of parameters and of gradients out of arrays."""

    params: Callable[[Arrays], Any]
    grads: Callable[[Arrays], Any]


FORMS = {
    "flat dict": Form(dict, dict),
    "list": Form(_as_list, _as_list),
    "nested": Form(_nested, _nested),
    "nested, gradients by name": Form(_nested, _by_name),
}


def _make(form: Form, params: Arrays, **options: Any) -> thalweg.Optimizer:
    return adamw(form.params(params), **options)


def _contenders() -> list[Contender]:
    return [
        ours(
            BASELINE if label == "flat dict" else label,
            label,
            partial(_make, form),
            nonfinite=nonfinite,
            arrange=form.grads,
        )
        for name, form in FORMS.items()
        for label, nonfinite in ((name, "raise"), (f"{name}, ignore", "ignore"))
    ]


def run(options: Options) -> None:
    """Measure the forms of one number of tensors together."""
    for count in options.pick(COUNTS, COUNTS[:2]):
        case = Case("forms", f"{count:,} tensors of {ELEMENTS}", ((ELEMENTS,),) * count)
        compare(case, _contenders(), options.effort)
