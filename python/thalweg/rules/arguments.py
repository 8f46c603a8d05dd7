"""Arguments that the optimizers and functions of all rules share."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from thalweg.groups.values import unknown_argument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from thalweg.numbers import Number
    from thalweg.optimizer import Optimizer

    Arrays: TypeAlias = NDArray[Any] | Sequence[NDArray[Any]]

__all__ = ["Arrays", "NonFinite", "default_weight_decay", "limit", "options_of", "refuse"]

DEFAULT_WEIGHT_DECAY = 1e-2

NonFinite = Literal["raise", "skip", "ignore"]


def options_of(
    maximize: bool,
    nonfinite: str,
    *,
    amsgrad: bool = False,
    nesterov: bool = False,
    independent: bool = False,
) -> dict[str, Any]:
    """Options of Adam's and SGD's rules; state dicts have the choices of both in each."""
    return {
        "amsgrad": amsgrad,
        "nesterov": nesterov,
        "independent": independent,
        "maximize": maximize,
        "nonfinite": nonfinite,
    }


def refuse(cls: type[Optimizer], unsupported: Mapping[str, Any]) -> None:
    """Refuse arguments that the constructor of `cls` lacks.

    Raises
    ------
    TypeError
        If there are any; the message has the way to write what a user may mean.
    """
    for key in unsupported:
        arguments = list(signature(cls.__init__).parameters)
        known = arguments[arguments.index("params") + 1 : -1]
        raise TypeError(unknown_argument(cls.rule, key, known))


def limit(update_rms: Number | None) -> dict[str, Number]:
    """The entry of a limit among the values, if there is one."""
    return {} if update_rms is None else {"update_rms": update_rms}


def default_weight_decay(weight_decay: Number | None, independent: bool) -> Number:
    """`weight_decay`, or its default, which applies to ``lr·weight_decay`` only.

    Raises
    ------
    TypeError
        For ``independent=True`` without `weight_decay`.
    """
    if weight_decay is not None:
        return weight_decay
    if independent:
        raise TypeError(
            "independent=True needs an explicit weight_decay: it is not multiplied by lr, so the "
            f"default of {DEFAULT_WEIGHT_DECAY} would be far too strong"
        )
    return DEFAULT_WEIGHT_DECAY
