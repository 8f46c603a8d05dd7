"""What `options` may say beside hyperparameters, checked before anything is called."""

from __future__ import annotations

from dataclasses import dataclass, fields
from difflib import get_close_matches
from operator import index
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from thalweg.groups import DECAYS
from thalweg.optimizers import SGD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from thalweg.groups import Real, Rule

MAXITER = 15_000
GTOL = 1e-5
FTOL = 2.220446049250313e-09
"""All three are those of SciPy's L-BFGS-B."""


class Options(TypedDict, total=False):
    """The options that all methods have; `thalweg.scipy.adamw` says what they mean."""

    tol: Real | None
    maxiter: int
    gtol: Real | None
    ftol: Real | None
    n_iter_no_change: int
    stochastic: bool
    max_norm: Real | None
    max_value: Real | None
    finite_diff_method: str | None
    finite_diff_rel_step: Any
    disp: bool


@dataclass(frozen=True)
class Settings:
    """The options of a run, each with its value."""

    maxiter: int = MAXITER
    gtol: float | None = GTOL
    ftol: float | None = FTOL
    n_iter_no_change: int = 500
    stochastic: bool = False
    max_norm: Real | None = None
    max_value: Real | None = None
    finite_diff_method: str | None = None
    finite_diff_rel_step: Any = None
    disp: bool = False

    @property
    def limits(self) -> dict[str, Any]:
        """What a step clips by."""
        return {"max_norm": self.max_norm, "max_value": self.max_value}


def make_settings(
    rule: Rule, hyperparameters: Iterable[str], options: Mapping[str, Any]
) -> Settings:
    """The settings that `options` ask for.

    Raises
    ------
    TypeError, ValueError
        For an option there is not, or a value that does not fit.
    """
    known = ["tol", *(field.name for field in fields(Settings))]
    for key in options:
        if key not in known:
            every = [*hyperparameters, *known]
            raise TypeError(
                f"{rule.name.lower()} has no option {key!r}{_hint(rule, key, every)}; it has "
                f"{', '.join(every)}"
            )
    given = dict(options)
    tol = given.pop("tol", None)
    settings = Settings(**_with_tolerance(given, tol))
    for key, least in (("maxiter", 0), ("n_iter_no_change", 1)):
        _check_count(key, getattr(settings, key), least)
    for key in ("gtol", "ftol"):
        _check_tolerance(key, getattr(settings, key))
    for key in ("stochastic", "disp"):
        _check_flag(key, getattr(settings, key))
    # The core checks limits when it steps: here it does before any function was called.
    SGD(np.zeros(1), lr=0.0).step(np.zeros(1), **settings.limits)
    return settings


def _with_tolerance(given: dict[str, Any], tol: Any) -> dict[str, Any]:
    _check_tolerance("tol", tol)
    if not given.get("stochastic", False):
        return given if tol is None else {"gtol": tol, "ftol": tol, **given}
    for key, value in (("tol", tol), ("gtol", given.get("gtol")), ("ftol", given.get("ftol"))):
        if value is not None:
            raise ValueError(
                f"{key} compares values that stochastic=True says are samples; leave one out and "
                "end the run by maxiter or the callback"
            )
    return {**given, "gtol": None, "ftol": None}


def _hint(rule: Rule, key: str, known: list[str]) -> str:
    if key in DECAYS:
        return f" (its decay is {rule.decay!r}; {key!r} is for {DECAYS[key]})"
    near = get_close_matches(key, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _check_count(key: str, value: Any, least: int) -> None:
    try:
        count = index(value)
    except TypeError as error:
        raise TypeError(f"{key} must be a whole number, got {value!r}") from error
    if count < least:
        raise ValueError(f"{key} must be at least {least}, got {value!r}")


def _check_tolerance(key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool | np.bool_) or np.asarray(value).dtype.kind not in "iuf":
        raise TypeError(f"{key} must be a number, or None for no such test, got {value!r}")
    if np.ndim(value) or not 0 <= value < np.inf:
        raise ValueError(f"{key} must be one number, finite and at least 0, got {value!r}")


def _check_flag(key: str, value: Any) -> None:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{key} must be True or False, got {value!r}")
