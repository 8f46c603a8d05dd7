"""The Python half of a rule: its class, its reference in plain NumPy, its function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thalweg import _core, reference
from thalweg.groups.rule import Rule
from thalweg.optimizer import Optimizer
from thalweg.reference import terms

if TYPE_CHECKING:
    from numpy.typing import NDArray

if "Toy" not in _core.rules():
    raise ImportError(
        "this native module has no toys; `bash tests/toys/run` builds one that has, and runs these "
        "tests"
    )


class Toy(Optimizer):
    """Descent along an average of gradients, with weight decay."""

    rule = Rule.named("Toy")

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        *,
        momentum: Any = 0.9,
        weight_decay: Any = 0.0,
        groups: Any = (),
        maximize: bool = False,
        nonfinite: Any = "raise",
        state_dir: Any = None,
    ) -> None:
        values = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        none = dict.fromkeys(("amsgrad", "nesterov", "independent"), False)
        options = {**none, "maximize": maximize, "nonfinite": nonfinite}
        self._start(params, groups, values, options, state_dir=state_dir)


def reference_toy(
    p: NDArray[Any],
    g: NDArray[Any],
    toy_average: NDArray[Any],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    scale: float = 1.0,
    maximize: bool = False,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The toy rule in plain NumPy."""
    real, floors = p.dtype.type, reference.FLOORS[p.dtype]
    g = terms.gradient(p, g, scale=scale, max_value=float("inf"), maximize=maximize, l2=0.0)
    average = reference.mix(reference.flush(toy_average, floors.average), g, momentum)
    return terms.descend(p, real(lr) * average, lr * weight_decay), average


def functional_toy(p: Any, g: Any, toy_average: Any, step: int, **values: Any) -> bool:
    """The toy rule on arrays whose state the caller keeps."""
    return _core.apply(
        "Toy", p, g, (toy_average,), step, values, scale=1.0, nonfinite="raise", threads=None
    )
