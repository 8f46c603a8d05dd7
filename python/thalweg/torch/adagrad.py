"""Adagrad, with torch's arguments, defaults and semantics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from thalweg.torch.base import Optimizer
from thalweg.torch.groups import common, given_rows
from thalweg.torch.numbers import learning_rate, number

if TYPE_CHECKING:
    from thalweg.numbers import Real

__all__ = ["Adagrad"]

INITIAL = "initial_accumulator_value"


class Adagrad(Optimizer):
    """Adagrad for PyTorch tensors on the CPU.

    It replaces `torch.optim.Adagrad`, with the same arguments, groups, hooks and state dicts. A
    step has the bits of `thalweg.Adagrad`.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor), or of dict
        As for `Adam`.
    lr : float or Tensor, default 1e-2
        Learning rate, at least 0.
    lr_decay : float, default 0
        Decay of the learning rate by the step of the parameter, at least 0.
    weight_decay : float, default 0
        At least 0. As in torch, a penalty in the gradient: the ``l2`` of `thalweg.Adagrad`.
    initial_accumulator_value : float, default 0
        The sum before the first update of a parameter, at least 0. That of the group counts; in
        torch, the constructor's.
    eps : float, default 1e-10
        Added to the root; at least 1e-120 for float64 parameters, 1e-15 for others.
    foreach, maximize, differentiable, fused, nonfinite
        As for `Adam`.
    state : {"full"}, default "full"
        The sum has no smaller format.
    rows : {"lazy", "dense"}, optional
        As for `Adam`. Without `weight_decay`, both are what torch does with sparse gradients;
        ``"lazy"`` goes with an `initial_accumulator_value` of 0 only.

    Notes
    -----
    `state` has a parameter from its first update on, as for `Adam`; in torch, from the start. That
    update begins the sum at `initial_accumulator_value`, so a ``step`` of 0 in `state` is refused.
    `state_dict` has every parameter, as in torch. There is no ``share_memory``: state is never
    shared between processes.

    Examples
    --------
    >>> import torch, thalweg.torch
    >>> w = torch.tensor([1.0, -2.0], requires_grad=True)
    >>> opt = thalweg.torch.Adagrad([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> [round(x, 4) for x in w.tolist()]
    [0.9, -1.9]
    """

    def __init__(  # noqa: PLR0917 - torch's order
        self,
        params: Any,
        lr: Any = 1e-2,
        lr_decay: Any = 0,
        weight_decay: Any = 0,
        initial_accumulator_value: Any = 0,
        eps: Real = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        nonfinite: str = "raise",
        state: str = "full",
        rows: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
            **given_rows(rows),
        }
        super().__init__(params, defaults, nonfinite=nonfinite, state=state)

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """State and groups in the form of `torch.optim`, which can load them.

        Parameters
        ----------
        copy : bool, default True
            As for `Adam`.

        Returns
        -------
        dict
            ``state``, with all parameters, and ``param_groups``.
        """
        # Before the user's hooks.
        hook = self.register_state_dict_post_hook(_with_initial, prepend=True)
        try:
            return super().state_dict(copy=copy)
        finally:
            hook.remove()

    def _read(self, groups: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        options = common(groups, "Adagrad", None, self._given)
        return [_values(position, group) for position, group in enumerate(groups)], options


def _with_initial(opt: Any, saved: dict[str, Any]) -> None:
    """Add the state of parameters without an update, which torch's Adagrad has from the start."""
    state = saved["state"]
    groups = zip(opt.param_groups, saved["param_groups"], strict=True)
    for position, (group, packed) in enumerate(groups):
        initial = number(INITIAL, position, group[INITIAL])
        for param, key in zip(group["params"], packed["params"], strict=True):
            if not state.get(key):
                total = torch.full_like(param, initial)
                state[key] = {"step": torch.zeros((), dtype=torch.float64), "sum": total}


def _values(position: int, group: dict[str, Any]) -> dict[str, Any]:
    """The hyperparameters of a group, in the form that the core takes.

    Raises
    ------
    ValueError
        For lazy rows whose sums would begin above 0: the core needs the steps of each row for them.
    """
    initial = number(INITIAL, position, group[INITIAL])
    rows = group.get("rows")
    if rows == "lazy" and initial != 0:
        raise ValueError(
            f"rows must be 'dense' with an initial_accumulator_value other than 0, got 'lazy' and "
            f"{initial!r} in param_groups[{position}]"
        )
    return {
        "lr": learning_rate(position, group["lr"]),
        "lr_decay": number("lr_decay", position, group["lr_decay"]),
        "eps": group["eps"],
        "l2": number("weight_decay", position, group["weight_decay"]),
        INITIAL: initial,
        "rows": rows,
    }
