"""SGD, with torch's arguments, defaults and semantics."""

from __future__ import annotations

from typing import Any

from thalweg.torch.base import Optimizer
from thalweg.torch.groups import common, given_rows
from thalweg.torch.numbers import learning_rate, number

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum, for PyTorch tensors on the CPU.

    It replaces `torch.optim.SGD`, with the same arguments, groups, hooks and state dicts. A step
    has the bits of `thalweg.SGD`.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor), or of dict
        As for `Adam`.
    lr : float or Tensor, default 1e-3
        Learning rate, at least 0.
    momentum : float, default 0
        In [0, 1]; torch accepts larger values.
    dampening : float, default 0
        In [0, 1]; ignored without momentum.
    weight_decay : float, default 0
        At least 0. As in torch, a penalty in the gradient: the ``l2`` of `thalweg.SGD`.
    nesterov : bool, default False
        Nesterov's form; needs momentum above 0 and dampening 0; the same in all groups.
    maximize, foreach, differentiable, fused, nonfinite
        As for `Adam`.
    state : {"full", "bfloat16"}, default "full"
        Format of the momentum buffers: 4 or 2 bytes for each element.
    rows : {"lazy", "dense"}, optional
        As for `Adam`.

    Notes
    -----
    As in torch, `state` has no ``step``. After a state dict is loaded, `report` counts steps from 1
    (from 2 with a momentum buffer). No update depends on this count. With ``state="bfloat16"``,
    where bits depend on it, `state` has ``step``.

    Examples
    --------
    >>> import torch, thalweg.torch
    >>> w = torch.tensor([1.0, -2.0], requires_grad=True)
    >>> opt = thalweg.torch.SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.tolist()
    [0.5, -1.0]
    """

    def __init__(  # noqa: PLR0917 - torch's order
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: Any = 0,
        dampening: Any = 0,
        weight_decay: Any = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        nonfinite: str = "raise",
        state: str = "full",
        rows: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
            **given_rows(rows),
        }
        super().__init__(params, defaults, nonfinite=nonfinite, state=state)

    def _read(self, groups: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        options = common(groups, "SGDW", "nesterov", self._given)
        return [values(position, group) for position, group in enumerate(groups)], options


def values(position: int, group: dict[str, Any]) -> dict[str, Any]:
    """The hyperparameters of a group, in the form that the core takes."""
    return {
        "lr": learning_rate(position, group["lr"]),
        "momentum": number("momentum", position, group["momentum"]),
        "dampening": group["dampening"],
        "l2": number("weight_decay", position, group["weight_decay"]),
        "weight_decay": 0.0,
        "rows": group.get("rows"),
    }
