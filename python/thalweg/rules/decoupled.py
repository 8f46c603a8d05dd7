"""The constructor of rules with the arguments of AdamW, apart from `amsgrad`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from thalweg.optimizer import Optimizer
from thalweg.rules.arguments import default_weight_decay, limit, refuse

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from thalweg.groups.matching import Match
    from thalweg.groups.specified import Groups
    from thalweg.numbers import Number, RowsMeaning, StateFormat
    from thalweg.rules.arguments import NonFinite

__all__ = ["Decoupled"]


class Decoupled(Optimizer):
    """An optimizer with two moments and decoupled weight decay; a subclass has the rule."""

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-3,
        *,
        betas: Sequence[Number] = (0.9, 0.999),
        eps: Number = 1e-8,
        weight_decay: Number | None = None,
        independent: bool = False,
        update_rms: Number | None = None,
        cautious: bool = False,
        groups: Groups = (),
        maximize: bool = False,
        nonfinite: NonFinite = "raise",
        state: StateFormat = "full",
        rows: RowsMeaning | None = None,
        row_steps: bool = False,
        bfloat16: Match = (),
        state_dir: str | os.PathLike[str] | None = None,
        **unsupported: NoReturn,
    ) -> None:
        refuse(type(self), unsupported)
        weight_decay = default_weight_decay(weight_decay, independent)
        values = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            **limit(update_rms),
        }
        options = {
            "cautious": cautious,
            "independent": independent,
            "maximize": maximize,
            "nonfinite": nonfinite,
        }
        self._start(
            params,
            groups,
            values,
            options,
            state=state,
            rows=rows,
            row_steps=row_steps,
            bfloat16=bfloat16,
            state_dir=state_dir,
        )
