"""The options that are not hyperparameters, checked before the user's functions are called."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from thalweg.errors import check_flag, typed
from thalweg.groups.values import DECAYS, GROUP_KEYS, other_decay
from thalweg.rules.adam import Adam
from thalweg.rules.adamw import AdamW
from thalweg.rules.sgd import SGD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thalweg.groups.rule import Rule
    from thalweg.numbers import Real

MAXITER = 15_000
GTOL = 1e-5
FTOL = 2.220446049250313e-09
"""The defaults of SciPy's L-BFGS-B, as `MAXITER` and `GTOL`."""

OURS = {
    *(key for kind in (AdamW, Adam, SGD) for key in (*kind.rule.keys, *kind.rule.options)),
    *GROUP_KEYS,
    "groups",
} - {"eps"}
"""Names that thalweg has and SciPy has not: as unknown options they are errors, not warnings.

`eps` is an option of SciPy too.
"""


class Options(TypedDict, total=False):
    """The options that all methods have; `thalweg.scipy.adamw` documents them."""

    tol: Real | None
    maxiter: Real | None
    gtol: Real | None
    ftol: Real | None
    n_iter_no_change: Real
    stochastic: bool
    nonfinite: str
    max_norm: Real | None
    max_value: Real | None
    finite_diff_method: str | None
    finite_diff_rel_step: Any
    disp: Real


@dataclass(frozen=True)
class Settings:
    """The values of the options of a run."""

    maxiter: float = MAXITER
    gtol: float | None = GTOL
    ftol: float | None = FTOL
    n_iter_no_change: float = 500
    stochastic: bool = False
    nonfinite: str = "stop"
    max_norm: Real | None = None
    max_value: Real | None = None
    finite_diff_method: str | None = None
    finite_diff_rel_step: Any = None
    disp: float = False

    @property
    def limits(self) -> dict[str, Any]:
        """Arguments of a step that clip the gradient."""
        return {"max_norm": self.max_norm, "max_value": self.max_value}


KNOWN = ("tol", *(field.name for field in fields(Settings)))


def unknown_options(
    rule: Rule, hyperparameters: Iterable[str], options: Mapping[str, Any]
) -> str | None:
    """Text of the warning about unknown options, in SciPy's words; None without any.

    Raises
    ------
    TypeError
        For a name in `OURS`, which belongs to another method of thalweg.
    """
    every = [*hyperparameters, *KNOWN]
    unknown = [key for key in options if key not in KNOWN]
    for key in unknown:
        if key in OURS:
            raise TypeError(
                f"{rule.name.lower()} has no option {key!r}{_hint(rule, key, every)}; it has "
                f"{', '.join(every)}"
            )
    named = ", ".join(f"{key}{_hint(rule, key, every)}" for key in unknown)
    return f"Unknown solver options: {named}" if named else None


def make_settings(options: Mapping[str, Any]) -> Settings:
    """The settings from `options`; unknown options are ignored.

    Raises
    ------
    TypeError, ValueError
        For a value of the wrong type or out of range.
    """
    given = {key: value for key, value in options.items() if key in KNOWN}
    tol = given.pop("tol", None)
    if given.get("maxiter", MAXITER) is None:  # the default, as in BFGS
        del given["maxiter"]
    settings = Settings(**_with_tolerance(given, tol))
    for key, least in (("maxiter", 0), ("n_iter_no_change", 1)):
        _check_count(key, getattr(settings, key), least)
    for key in ("gtol", "ftol"):
        _check_tolerance(key, getattr(settings, key))
    check_flag("stochastic", settings.stochastic, bool | np.bool_)
    if not _is_number(settings.disp):  # a level, in some of SciPy's methods
        raise TypeError(f"disp must be True or False, or a number, got {settings.disp!r}")
    _check_nonfinite(settings)
    # The core checks limits in a step; this dummy step checks them before `fun` is called.
    SGD(np.zeros(1), lr=0.0).step(np.zeros(1), **settings.limits)
    return settings


def _with_tolerance(given: dict[str, Any], tol: Any) -> dict[str, Any]:
    _check_tolerance("tol", tol)
    if not given.get("stochastic", False):
        return given if tol is None else {"gtol": tol, "ftol": tol, **given}
    for key, value in (("tol", tol), ("gtol", given.get("gtol")), ("ftol", given.get("ftol"))):
        if value is not None:
            raise ValueError(
                f"{key} cannot be combined with stochastic=True, because it compares values, which "
                "are then samples; end the run by maxiter or the callback"
            )
    return {**given, "gtol": None, "ftol": None}


def _hint(rule: Rule, key: str, known: Sequence[str]) -> str:
    if key in DECAYS:
        return f" ({other_decay(rule, key)})"
    near = get_close_matches(key, known, n=1, cutoff=0.8)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real | np.bool_)


def _check_count(key: str, value: Any, least: int) -> None:
    if not _is_number(value):
        raise TypeError(f"{key} must be a number, got {typed(value)}")
    if not value >= least:  # `not >=` refuses NaN too
        raise ValueError(f"{key} must be at least {least}, got {value!r}")


def _check_tolerance(key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool | np.bool_) or np.asarray(value).dtype.kind not in "iuf":
        raise TypeError(f"{key} must be a number, or None for no test, got {typed(value)}")
    if np.ndim(value) or not 0 <= value < np.inf:
        raise ValueError(f"{key} must be one number, finite and at least 0, got {value!r}")


def _check_nonfinite(settings: Settings) -> None:
    if settings.nonfinite not in ("stop", "skip"):
        raise ValueError(f"nonfinite must be 'stop' or 'skip', got {settings.nonfinite!r}")
    if settings.nonfinite == "skip" and not settings.stochastic:
        raise ValueError(
            "nonfinite='skip' needs stochastic=True, because it takes another sample of the "
            "objective"
        )
