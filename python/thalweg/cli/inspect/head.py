"""The head of the output: facts about the whole checkpoint."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from thalweg.cli.inspect.contents import Tensor
from thalweg.cli.inspect.table import clean
from thalweg.cli.inspect.tensors import arrays_of, names_of
from thalweg.schedule import from_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thalweg.cli.inspect.contents import Contents

KEYS = 20
"""Keys of `extra` that are shown."""
ATTACHED = {"ema": ("average", "updates"), "accumulator": ("sum", "additions")}
"""Nouns for an attached object and for its steps, by kind."""


def head(contents: Contents) -> list[list[str]]:
    """Rows of a name and a text."""
    saved = contents.saved
    base, *groups = saved["groups"]
    options = {key: value for key, value in saved["options"].items() if value is True}
    if saved["options"].get("nonfinite", "raise") != "raise":
        options["nonfinite"] = saved["options"]["nonfinite"]
    rows = [
        ["file", clean(contents.path)],
        ["size", _size(contents.size)],
        ["format", contents.format],
        ["verified", _verified(contents)],
        ["rule", f"{clean(saved['rule'])}({_values({**base, **options})})"],
        ["step", f"{saved['step_count']:,}"],
        ["skipped", _skipped(saved["skips"])],
        ["parameters", _parameters(contents)],
    ]
    rows += [[f"group {i}", _group(group)] for i, group in enumerate(groups, 1)]
    rows += [[clean(name), _attached(mirror)] for name, mirror in saved["attached"].items()]
    return [*rows, ["extra", _extra(contents.extra)]]


def _size(size: int) -> str:
    exact = _count(size, "byte")
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name} ({exact})"
    return exact


def _verified(contents: Contents) -> str:
    if contents.verified:
        return "yes, the checksum of the whole file is correct"
    return "no, only the header was checked; --verify checks the whole file"


def _skipped(skips: Mapping[str, int]) -> str:
    last = f", the last {skips['consecutive']:,} in a row" if skips["consecutive"] else ""
    return _count(skips["total"], "step") + last


def _parameters(contents: Contents) -> str:
    names = names_of(contents)
    elements = [math.prod(arrays[0].shape) for n in names if (arrays := arrays_of(contents, n))]
    size = f"{sum(elements):,} in " if len(elements) == len(names) else ""
    inside = "not in the file" if contents.params is None else "in the file"
    frozen = len(set(contents.saved["groups"][0]["match"]).difference(names))
    rest = f"; {frozen:,} more that never trained, not in the file" if frozen else ""
    return f"{size}{_count(len(names), 'array')}, {inside}{rest}"


def _group(group: dict[str, Any]) -> str:
    matched = _count(len(group["match"]), "array")
    return f"{matched}: {_values(group)}"


def _attached(mirror: dict[str, Any]) -> str:
    what, steps = ATTACHED.get(mirror["kind"], (clean(mirror["kind"]), "steps"))
    values = {k: v for k, v in mirror.items() if k not in ("kind", "step_count", "state")}
    count = _count(mirror["step_count"], steps.removesuffix("s"))
    return f"{what} of {_count(len(mirror['state']), 'array')}, {count}: {_values(values)}"


def _values(values: Mapping[str, Any]) -> str:
    shown = (f"{clean(key)}={_value(value)}" for key, value in values.items() if key != "match")
    return ", ".join(shown)


def _value(value: Any) -> str:
    """A hyperparameter as Python source, or the name of a callable."""
    if isinstance(value, list):
        return f"({', '.join(map(_value, value))})"
    if isinstance(value, dict) and "schedule" in value:
        try:
            return repr(from_json(value["schedule"]))
        except TypeError as error:
            raise ValueError(f"a schedule of the checkpoint is malformed: {error}") from error
    if isinstance(value, dict) and "callable" in value:
        return f"<{clean(str(value['callable']))}>"
    return clean(repr(value))


def _extra(extra: Any) -> str:
    if not isinstance(extra, dict):
        return "nothing" if extra is None else _kind(extra)
    shown = [f"{clean(key)} ({_kind(value)})" for key, value in list(extra.items())[:KEYS]]
    more = [f"{len(extra) - KEYS:,} more"] if len(extra) > KEYS else []
    return ", ".join(shown + more) or "an empty dict"


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "array"
    name = type(value).__name__
    return f"{name} of {len(value):,}" if isinstance(value, list | tuple | dict) else name


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
