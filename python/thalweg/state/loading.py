"""Loading of a state dict, from memory or from a checkpoint file.

Everything is checked before the first change. Differences are collected and raised together, so
that a user sees all of them at once.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from thalweg.state.form import check_form, whole
from thalweg.state.plan import Plan
from thalweg.state.report import LoadReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thalweg.state.held import Held

__all__ = ["Origin", "load_state_dict"]


@dataclass(frozen=True)
class Origin:
    """Source of a state dict, and the data that comes with it."""

    what: str = "the state dict"
    """Name of the source in messages."""
    params: Mapping[str, Any] | None = None
    """Parameters, if a file has them. Arrays of a file are not read yet."""
    extra: Any = None
    """The user's data in a file."""
    foreign: Sequence[str] | None = None
    """For state of another library, the differences that its conversion found. Accumulators and
    averages then stay unchanged, because the library has none."""
    stacklevel: int = 3
    """Level of the user's code, for warnings."""


def load_state_dict(
    held: Held,
    saved: Mapping[str, Any],
    *,
    hyperparameters: Literal["saved", "current"],
    strict: bool,
    convert: bool = False,
    origin: Origin | None = None,
) -> LoadReport:
    """See `Optimizer.load_state_dict`; `origin` describes other sources."""
    origin = origin or Origin()
    if hyperparameters not in ("saved", "current"):
        raise ValueError(f"hyperparameters must be 'saved' or 'current', got {hyperparameters!r}")
    check_form(saved)
    convert = convert or origin.foreign is not None  # other libraries keep every digit
    use_saved = hyperparameters == "saved"
    plan = Plan(held, saved, origin.params, use_saved=use_saved, convert=convert)
    if plan.use_saved:
        plan.check_header()
        plan.plan_groups()
    plan.plan_state()
    plan.plan_params()
    if origin.foreign is None:
        plan.plan_attached()
    else:
        plan.mismatched += origin.foreign
    if strict:
        plan.refuse(origin.what)
    if plan.changed:
        listed = ", ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in plan.changed.items())
        # Before the first change, because a filter can make the warning an error.
        warnings.warn(f"loading changes hyperparameters: {listed}", stacklevel=origin.stacklevel)
    plan.carry_out()
    return LoadReport(
        step=whole(saved["step_count"]),
        extra=origin.extra,
        missing=tuple(plan.missing),
        unexpected=tuple(plan.unexpected),
        mismatched=tuple(plan.mismatched),
        changed=plan.changed,
    )
