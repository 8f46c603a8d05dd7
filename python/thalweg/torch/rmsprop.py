"""RMSprop, with torch's arguments, defaults and semantics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thalweg.torch.base import Optimizer
from thalweg.torch.groups import common, given_rows
from thalweg.torch.numbers import learning_rate, number

if TYPE_CHECKING:
    from thalweg.numbers import Real

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """RMSprop for PyTorch tensors on the CPU, plain or centered, with or without momentum.

    It replaces `torch.optim.RMSprop`, with the same arguments, groups, hooks and state dicts. A
    step has the bits of `thalweg.RMSprop`.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor), or of dict
        As for `Adam`.
    lr : float or Tensor, default 1e-2
        Learning rate, at least 0.
    alpha : float, default 0.99
        Decay of the averages, in [0, 1).
    eps : float, default 1e-8
        Added to the root; at least 1e-120 for float64 parameters, 1e-15 for others.
    weight_decay : float, default 0
        At least 0. As in torch, a penalty in the gradient: the ``l2`` of `thalweg.RMSprop`.
    momentum : float, default 0
        In [0, 1]; torch accepts larger values. As in torch, it cannot begin after the first update
        of a parameter; before, it can.
    centered : bool, default False
        Divide by the deviation of the gradient from its average; the same in all groups.
    capturable, foreach, maximize, differentiable, nonfinite, rows
        As for `Adam`.
    state : {"full", "bfloat16", "compact"}, default "full"
        Format of the state; `centered` goes with ``"full"`` alone.

    Notes
    -----
    Rounding can make the variance negative if `centered`; torch's result is then NaN. Here it
    counts as zero.

    Examples
    --------
    >>> import torch, thalweg.torch
    >>> w = torch.tensor([1.0, -2.0], requires_grad=True)
    >>> opt = thalweg.torch.RMSprop([w], lr=0.01, momentum=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> [round(x, 4) for x in w.tolist()]
    [0.9, -1.9]
    """

    def __init__(  # noqa: PLR0917 - torch's order
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: Any = 0.99,
        eps: Real = 1e-8,
        weight_decay: Any = 0,
        momentum: Any = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        nonfinite: str = "raise",
        state: str = "full",
        rows: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            **given_rows(rows),
        }
        super().__init__(params, defaults, nonfinite=nonfinite, state=state)

    def _read(self, groups: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        options = common(groups, "RMSprop", "centered", self._given)
        return [_values(position, group) for position, group in enumerate(groups)], options


def _values(position: int, group: dict[str, Any]) -> dict[str, Any]:
    """The hyperparameters of a group, in the form that the core takes."""
    return {
        "lr": learning_rate(position, group["lr"]),
        "alpha": number("alpha", position, group["alpha"]),
        "eps": group["eps"],
        "l2": number("weight_decay", position, group["weight_decay"]),
        "momentum": number("momentum", position, group["momentum"]),
        "rows": group.get("rows"),
    }
