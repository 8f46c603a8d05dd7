"""RAdam, with torch's arguments, defaults and semantics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thalweg.torch.adam import moments
from thalweg.torch.base import Optimizer
from thalweg.torch.groups import common, given_rows

if TYPE_CHECKING:
    from thalweg.numbers import Real

__all__ = ["RAdam"]


class RAdam(Optimizer):
    """Rectified Adam for PyTorch tensors on the CPU.

    It replaces `torch.optim.RAdam`, with the same arguments, groups, hooks and state dicts. With
    ``decoupled_weight_decay=True`` a step has the bits of `thalweg.RAdamW`.

    Parameters
    ----------
    params, lr, betas, eps, foreach, maximize, capturable, differentiable
        As for `Adam`.
    weight_decay : float, default 0
        At least 0; a penalty in the gradient.
    decoupled_weight_decay : bool, default False
        Decouple the decay from the gradient.
    nonfinite, state, rows
        As for `Adam`.

    Examples
    --------
    >>> import torch, thalweg.torch
    >>> w = torch.tensor([1.0, -2.0], requires_grad=True)
    >>> opt = thalweg.torch.RAdam([w], lr=0.1)
    >>> for _ in range(200):
    ...     opt.zero_grad()
    ...     (w * w).sum().backward()
    ...     opt.step()
    >>> bool(w.abs().max() < 0.01)
    True
    """

    def __init__(  # noqa: PLR0917 - torch's order
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: Real = 1e-8,
        weight_decay: Any = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        nonfinite: str = "raise",
        state: str = "full",
        rows: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
            **given_rows(rows),
        }
        super().__init__(params, defaults, nonfinite=nonfinite, state=state)

    def _read(self, groups: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        options = common(groups, "RAdamW", None, self._given)
        return [moments(position, group) for position, group in enumerate(groups)], options
