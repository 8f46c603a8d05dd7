"""The check of an opened directory: whether its arrays are in the state between two steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg._core import Word
from thalweg.mapped.progress import FORMAT, MAGIC, is_of_this_run, model_number, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["Found", "fresh", "judge"]


@dataclass
class Found:
    """Progress of the optimizer that used the directory before."""

    counts: tuple[int, int, int, float]
    steps: dict[str, int]
    number: int
    """Number of the last write."""
    flushed: int
    torn: bool
    """The arrays may be part old and part new; the user has removed the record of a torn step."""


def fresh(*, torn: bool) -> Found:
    """Progress of an optimizer that has not trained yet."""
    return Found((0, 0, 0, 0.0), {}, 0, Word.NOTHING, torn=torn)


def judge(
    directory: Path, told: Mapping[str, Any], model: Mapping[str, Any], leaves: Iterable[str]
) -> Found:
    """The progress in the record, if the arrays are in the state between two steps.

    Raises
    ------
    ValueError
        If they are not or may not be; the message says how to continue.
    """
    path = directory / "progress"
    words = read(path)
    names = sorted(leaves)
    whole = (
        len(words) == Word.STEPS + len(names)
        and words[Word.MAGIC] == MAGIC
        and words[Word.FORMAT] == FORMAT
        and words[Word.MODEL] == model_number(model, names)
    )
    if not whole:
        raise ValueError(
            f"{path} is not a progress record of this optimizer, or is truncated; "
            f"{_way_on(directory, told)}"
        )
    begun, finished, flushed = (int(words[at]) for at in (Word.BEGUN, Word.FINISHED, Word.FLUSHED))
    count = int(words[Word.COUNTERS])
    if begun != finished:
        raise ValueError(
            f"a step in {directory} was interrupted (writing number {begun}; step_count is "
            f"{count}): parameters and state are partly old and partly new; "
            f"{_way_on(directory, told)}"
        )
    if not is_of_this_run(words) and flushed != finished:
        raise ValueError(
            f"the machine was restarted after {directory} was written, and the last write (number "
            f"{finished}; step_count is {count}) may not have reached the disk: parameters and "
            "state may be partly old and partly new (opt.flush() prevents this); "
            f"{_way_on(directory, told)}"
        )
    skips, consecutive = (int(words[Word.COUNTERS + at]) for at in (1, 2))
    weight = float(words[Word.WEIGHT : Word.WEIGHT + 1].view("<f8")[0])
    steps = dict(zip(names, map(int, words[Word.STEPS :]), strict=True))
    return Found((count, skips, consecutive, weight), steps, finished, flushed, torn=False)


def _way_on(directory: Path, told: Mapping[str, Any]) -> str:
    checkpoint = told.get("checkpoint")
    if checkpoint is None:
        return (
            "this optimizer saved or loaded no checkpoint, so remove the contents of the "
            "directory and start again"
        )
    return (
        f"to continue from the last checkpoint, remove {directory / 'progress'}, make the "
        f"optimizer again with the same arguments, and call opt.load({checkpoint!r}), which "
        "overwrites all arrays"
    )
