"""Taking over a state dict: plain dicts, lists, numbers and arrays, or those of a file.

Everything is checked first. Differences are collected, not raised one by one, so that a user sees
all of them at once; only then is anything changed.
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
    """Where a state dict comes from, and what comes with it."""

    what: str = "the state dict"
    """What it is in messages."""
    params: Mapping[str, Any] | None = None
    """Of a file, the parameters too. Its arrays, and those of the state dict, are not read yet."""
    extra: Any = None
    """Of a file, what the user saved along with it."""
    foreign: Sequence[str] | None = None
    """Differences that were found before, if another library saved the state: it knows of no
    accumulators and averages, and those here stay as they are."""
    stacklevel: int = 3
    """Where the user's code is."""


def load_state_dict(
    held: Held,
    saved: Mapping[str, Any],
    *,
    hyperparameters: Literal["saved", "current"],
    strict: bool,
    origin: Origin | None = None,
) -> LoadReport:
    """See `Optimizer.load_state_dict`; and `Origin`, if it does not come from there."""
    origin = origin or Origin()
    if hyperparameters not in ("saved", "current"):
        raise ValueError(f"hyperparameters must be 'saved' or 'current', got {hyperparameters!r}")
    check_form(saved)
    plan = Plan(held, saved, origin.params, others=hyperparameters == "saved")
    if plan.others:
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
        # Before anything is changed, because a warning can be an error.
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
