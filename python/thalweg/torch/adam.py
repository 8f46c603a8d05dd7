"""Adam and AdamW, with torch's arguments, defaults and semantics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thalweg.torch.base import Optimizer
from thalweg.torch.groups import common, given_rows
from thalweg.torch.numbers import learning_rate, number

if TYPE_CHECKING:
    from thalweg.numbers import Real

__all__ = ["Adam", "AdamW", "moments"]


class Adam(Optimizer):
    """Adam for PyTorch tensors on the CPU; AMSGrad with ``amsgrad=True``.

    It replaces `torch.optim.Adam`, with the same arguments, groups, hooks and state dicts. A step
    has the bits of `thalweg.Adam`; with ``decoupled_weight_decay=True``, those of `thalweg.AdamW`.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor), or of dict
        float32, float64, bfloat16 or float16 tensors on the CPU, with any strides; or parameter
        groups. Names, from ``model.named_parameters()`` with torch 2.5 or newer, are used in
        messages.
    lr : float or Tensor, default 1e-3
        Learning rate, at least 0.
    betas : tuple of two floats, default (0.9, 0.999)
        Decay of the first and second moment, each in [0, 1).
    eps : float, default 1e-8
        Added to the root; at least 1e-120 for float64 parameters, 1e-15 for others.
    weight_decay : float, default 0
        At least 0. As in torch, a penalty in the gradient: the ``l2`` of `thalweg.Adam`.
    amsgrad : bool, default False
        Keep the running maximum of the second moment; the same in all groups.
    foreach, fused : bool, optional
        Accepted without effect.
    maximize : bool, default False
        Ascend instead of descend.
    capturable, differentiable : bool, default False
        True is refused.
    decoupled_weight_decay : bool, default False
        Decouple the decay from the gradient, as in `AdamW`.
    nonfinite : {"raise", "skip", "ignore"}, default "raise"
        Treatment of gradients that are NaN, infinite or too large to be squared. ``"ignore"`` uses
        them, as torch does.
    state : {"full", "bfloat16", "compact"}, default "full"
        Format of the moments of all parameters: 8, 4 or 3 bytes for each element. ``"full"`` alone
        goes with `amsgrad` and with float64 parameters.
    rows : {"lazy", "dense"}, optional
        Meaning of sparse gradients, such as those of ``nn.Embedding(sparse=True)``; without it,
        they are refused. ``"lazy"`` changes only the rows that a gradient has, as
        `torch.optim.SparseAdam` does; ``"dense"`` takes the gradient of the others as zero. A group
        may set it.

    Raises
    ------
    TypeError, ValueError
        For values out of range, and for tensors whose memory cannot be updated: on another device,
        sparse, of another dtype, overlapping.

    Notes
    -----
    A parameter that does not require grad needs no memory until it has a gradient. The others get
    their state when the optimizer is made; `state` has it from their first update on.

    A bfloat16 or float16 parameter has ``low`` in its `state`, what it lacks of a float32: each
    step updates the float32 number of both.

    Examples
    --------
    >>> import torch, thalweg.torch
    >>> w = torch.tensor([1.0, -2.0], requires_grad=True)
    >>> opt = thalweg.torch.Adam([w], lr=0.1)
    >>> for _ in range(200):
    ...     opt.zero_grad()
    ...     (w * w).sum().backward()
    ...     opt.step()
    >>> bool(w.abs().max() < 0.01), opt.report.step, opt.state[w]["step"].item()
    (True, 200, 200.0)
    """

    def __init__(  # noqa: PLR0917 - torch's order
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: Real = 1e-8,
        weight_decay: Any = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        nonfinite: str = "raise",
        state: str = "full",
        rows: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
            **given_rows(rows),
        }
        super().__init__(params, defaults, nonfinite=nonfinite, state=state)

    def _read(self, groups: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        options = common(groups, "AdamW", "amsgrad", self._given)
        return [moments(position, group) for position, group in enumerate(groups)], options


def moments(position: int, group: dict[str, Any]) -> dict[str, Any]:
    """The hyperparameters of a group, in the form that the core takes."""
    betas = group["betas"]
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas of param_groups[{position}] must be two numbers, got {betas!r}")
    decay = number("weight_decay", position, group["weight_decay"])
    decoupled = group["decoupled_weight_decay"]
    return {
        "lr": learning_rate(position, group["lr"]),
        "betas[0]": number("betas[0]", position, betas[0]),
        "betas[1]": number("betas[1]", position, betas[1]),
        "eps": group["eps"],
        "l2": 0.0 if decoupled else decay,
        "weight_decay": decay if decoupled else 0.0,
        "rows": group.get("rows"),
    }


class AdamW(Adam):
    """Adam with decoupled weight decay, for PyTorch tensors on the CPU.

    It replaces `torch.optim.AdamW`, with the same arguments, groups, hooks and state dicts. A step
    has the bits of `thalweg.AdamW`.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad, maximize, foreach, capturable, differentiable, fused
        As for `Adam`.
    nonfinite, state, rows
        As for `Adam`.
    weight_decay : float, default 1e-2
        At least 0; a step subtracts ``lr·weight_decay·p``, independently of the gradients.

    Examples
    --------
    >>> import torch, thalweg.torch
    >>> model = torch.nn.Linear(3, 1)
    >>> opt = thalweg.torch.AdamW(model.parameters(), lr=0.1)
    >>> model(torch.ones(2, 3)).sum().backward()
    >>> opt.step(max_norm=1.0)
    >>> opt.report.step, opt.report.clip < 1
    (1, True)
    """

    def __init__(  # noqa: PLR0917 - torch's order
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: Real = 1e-8,
        weight_decay: Any = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        nonfinite: str = "raise",
        state: str = "full",
        rows: str | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
            nonfinite=nonfinite,
            state=state,
            rows=rows,
        )

    def _read(self, groups: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        for group in groups:
            # State dicts of Adam, and of AdamW in older versions of torch, have another value.
            group["decoupled_weight_decay"] = True
        return super()._read(groups)
