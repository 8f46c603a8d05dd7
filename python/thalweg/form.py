"""What has the form of a state dict; what is in it is judged when it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

FORMAT = 1
STEP_LIMIT = 2**63


def is_step(value: Any) -> bool:
    """Whether it is a number of updates."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and 0 <= value < STEP_LIMIT


def _is_group(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    names, betas = value.get("match"), value.get("betas", (None, None))
    return (
        all(isinstance(key, str) for key in value)
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and isinstance(betas, list | tuple)
        and len(betas) == 2
    )


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(leaf, Mapping) for leaf in value.values())


def _are_skips(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        is_step(value.get(key)) for key in ("total", "consecutive")
    )


def is_mirror(value: Any) -> bool:
    """Whether it has the form of the state of an accumulator or average."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("kind"), str)
        and is_step(value.get("step_count"))
        and _is_state(value.get("state"))
    )


def check_form(saved: Mapping[str, Any]) -> None:
    """Refuse what is no state dict of ours."""
    checks: dict[str, Callable[[Any], object]] = {
        "format": lambda value: isinstance(value, int),
        "rule": lambda value: isinstance(value, str),
        "options": lambda value: isinstance(value, Mapping),
        "step_count": is_step,
        "groups": lambda value: isinstance(value, list) and value and all(map(_is_group, value)),
        "state": _is_state,
        "skips": _are_skips,
        "attached": lambda value: (
            isinstance(value, Mapping) and all(map(is_mirror, value.values()))
        ),
    }
    if not isinstance(saved, Mapping):
        raise ValueError(f"not a state dict of thalweg: it is {type(saved).__name__}")  # noqa: TRY004 - as the other differences
    wrong = [key for key, fits in checks.items() if key not in saved or not fits(saved[key])]
    if wrong:
        raise ValueError(f"not a state dict of thalweg: {', '.join(wrong)} missing or malformed")
    if saved["format"] != FORMAT:
        raise ValueError(f"state dict of format {saved['format']}, this version reads {FORMAT}")
