"""What a step costs besides arithmetic: many small tensors in containers of several forms."""

from __future__ import annotations

from functools import partial
from itertools import zip_longest
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from subjects import ADAMW, Array, check, values
from tables import Table
from thalweg.tree import flatten
from timing import Timed, interleaved

if TYPE_CHECKING:
    from collections.abc import Callable

    from sections import Options

TITLE = "nanoseconds a step, and a tensor of it, of many tensors of 16 elements"
COUNTS = (1, 10, 100, 1_000)
ELEMENTS = 16
SETTINGS = ("raise", "ignore")


class Layer(NamedTuple):
    """A container as users have them; None is no leaf."""

    w: Array
    b: Array | None


def _flat(arrays: list[Array]) -> dict[str, Array]:
    return {f"layers.{i}.w": array for i, array in enumerate(arrays)}


def _nested(arrays: list[Array]) -> dict[str, list[Layer]]:
    layers = [Layer(w, b) for w, b in zip_longest(arrays[::2], arrays[1::2])]
    half = len(layers) // 2
    return {"encoder": layers[:half], "decoder": layers[half:]}


def _by_name(arrays: list[Array]) -> dict[str, Array]:
    return flatten(_nested(arrays))


class Form(NamedTuple):
    """How arrays become the tree of parameters, and that of gradients."""

    params: Callable[[list[Array]], Any]
    grads: Callable[[list[Array]], Any]


FORMS = {
    "flat dict": Form(_flat, _flat),
    "list": Form(list, list),
    "nested": Form(_nested, _nested),
    "nested, gradients by name": Form(_nested, _by_name),
}


def _arrays(count: int, scale: float = 1.0) -> list[Array]:
    return list(values((count, ELEMENTS), "float32", scale))


def _timed(count: int) -> dict[tuple[str, str], Timed]:
    """Return a step for each form and setting."""
    timed = {}
    for name, (params, grads) in FORMS.items():
        given = grads(_arrays(count, 0.01))
        check(ADAMW, params(_arrays(count)), given)
        for nonfinite in SETTINGS:
            opt = ADAMW.make(params(_arrays(count)), nonfinite=nonfinite)
            timed[name, nonfinite] = Timed(partial(opt.step, given))
    return timed


def run(options: Options) -> None:
    """Measure the forms of one number of tensors together."""
    table = Table("form", "tensors", "default", "a tensor", "ignore", "a tensor")
    for count in options.pick(COUNTS, COUNTS[:2]):
        times = interleaved(_timed(count), options.rounds_or(31))
        for name in FORMS:
            whole = [median(times[name, nonfinite]) for nonfinite in SETTINGS]
            table.row(name, count, *(round(ns) for t in whole for ns in (t, t / count)))
