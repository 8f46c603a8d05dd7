"""The steps of a sharded optimizer: sums, agreement, gradients, update, parameters."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg import _core
from thalweg.averages.leaves import spans
from thalweg.averages.tree_sum import Buffers, TreeSum, summed
from thalweg.mpi.exchange import Gradients, Staging, hand_round, scatter
from thalweg.mpi.layout import Bytes, Layout
from thalweg.mpi.meeting import Meeting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thalweg.mpi.held import ShardedHeld

__all__ = ["Steps"]

UNCHANGED = "; nothing was changed on any rank"


class Trained:
    """What a step needs for the parameters that train now."""

    def __init__(self, held: ShardedHeld, staging: Staging, spans: Sequence[Any]) -> None:
        self.revision = held.revision
        trained = held.trained()
        # One type after the other, so that a message has few runs of one type.
        self.names = sorted(trained, key=lambda name: summed(trained[name].dtype).itemsize)
        arrays = [trained[name] for name in self.names]
        dtypes = [summed(array.dtype) for array in arrays]
        self.digest = zlib.crc32("\n".join(self.names).encode())
        bounds = [held.bounds[name] for name in self.names]
        self.params = [Bytes(array) for array in arrays]
        self.layout = _layout(bounds, [array.dtype for array in arrays], staging.chunk)
        gradients = _layout(bounds, dtypes, staging.chunk)
        self.gradients = Gradients(staging, spans, gradients, dtypes)
        shapes = [held.pieces[name].shape for name in self.names]
        self.summed = [self.gradients.of(i).reshape(shape) for i, shape in enumerate(shapes)]
        self.frozen = [name for name in held.params if name not in trained]
        self.buffers = Buffers(held.tree, trained, held.bits)
        self.has_halves = any(array.dtype == np.float16 for array in arrays)


class Steps:
    """Takes the steps of a sharded optimizer."""

    def __init__(self, held: ShardedHeld, leaves: int) -> None:
        self.held = held
        self.transport = held.transport
        rank, size = self.transport.rank, self.transport.size
        ranges = [range(leaves * r // size, leaves * (r + 1) // size) for r in range(size)]
        self.count = leaves
        self.leaves = ranges[rank]
        self._spans = [spans(own) for own in ranges]
        self.staging = Staging(self.transport, self._spans)
        self._trained: Trained | None = None
        self.torn = ""
        """What stopped while parameters or state were being written, if anything did."""

    def now(self) -> Trained:
        """What the parameters that train now need."""
        if self._trained is None or self._trained.revision != self.held.revision:
            self._trained = None  # its memory is free before the next is made
            self._trained = Trained(self.held, self.staging, self._spans)
        return self._trained

    def sums(self) -> TreeSum:
        """An empty sum for this rank's leaves."""
        return TreeSum(self.now().buffers, self.leaves)

    def check_whole(self) -> None:
        """Refuse parameters that a failed step or load left part old and part new."""
        if self.torn:
            raise RuntimeError(
                f"{self.torn} stopped while parameters or state were being written, so they are "
                "part old and part new; load a checkpoint"
            )

    def distribute(self, names: Sequence[str], *, all_from_first: bool) -> None:
        """Give all ranks these parameters: those of rank 0, or each rank's share of them."""
        arrays = [self.held.params[name] for name in names]
        bounds = [self.held.bounds[name] for name in names]
        layout = _layout(bounds, [array.dtype for array in arrays], self.staging.chunk)
        views = [Bytes(array) for array in arrays]
        if all_from_first:
            scatter(self.staging, layout, views)
        hand_round(self.staging, layout, views)

    def step(self, grads: Any, arguments: dict[str, Any]) -> _core.StepReport:
        """See `Sharded.step`."""
        held = self.held
        with Meeting(self.transport, "step", UNCHANGED) as meeting:
            self.check_whole()
            held.updater.check_ready()
            held.check_current(held.cascade.trains())
            trained = self.now()
            parts = self._parts(trained, grads)
            present = self._agree(meeting, trained, parts, arguments)
            with meeting.apart():
                trained.gradients.reduce(parts, present)
            given = np.logical_or.reduce(present) if present else np.zeros(0, bool)
            pairs = zip(trained.names, trained.summed, given, strict=True)
            summed = {name: gradient if has else None for name, gradient, has in pairs}
            summed |= dict.fromkeys(trained.frozen)
            met, taken = meeting.count, held.updater.step_count
            try:
                report = held.updater.step(summed, **arguments, peers=meeting.gather)
            except BaseException:
                if meeting.count > met:  # the others have the same error, or go on
                    meeting.end()
                if held.updater.step_count > taken:
                    self.torn = "a step"
                raise
            meeting.end()
            if not report.skipped:
                self.torn = "a step"
                hand_round(self.staging, trained.layout, trained.params)
                self.torn = ""
        if isinstance(grads, TreeSum):
            grads.clear()
        return self._common(report) if trained.has_halves else report

    def _parts(self, trained: Trained, grads: Any) -> list[list[Bytes | None]]:
        """Own parts of the sum: for each parameter that trains, its bytes or None."""
        if not isinstance(grads, TreeSum):
            arrays = self._taken(trained, grads)
            return [[None if array is None else Bytes(array) for array in arrays]]
        grads.check(trained.buffers, self.leaves)
        places = {name: i for i, name in enumerate(trained.buffers.names)}
        order = [places[name] for name in trained.names]
        parts = []
        for part in grads.parts():
            arrays = [part[i] for i in order]
            parts.append([None if array is None else Bytes(array) for array in arrays])
        return parts

    def _taken(self, trained: Trained, grads: Any) -> list[Any]:
        """Gradients that are a whole leaf, as they are if they can be sent as they are."""
        if len(self.leaves) != 1:
            raise ValueError(
                f"a rank has {len(self.leaves)} of the {self.count} leaves; add their gradients to "
                "opt.sums(), and pass it to the step. Gradients are passed directly if each rank "
                "has one leaf"
            )
        buffer = trained.buffers.take()
        try:
            try:
                found = buffer.updater.slices(grads)
            except ValueError:  # raised again by `add`, except for a tree of None
                found = None
            if found is None:
                buffer.add(grads, 1.0)
                found = buffer.present()
        finally:
            trained.buffers.give_back(buffer)
        named = dict(zip(trained.buffers.names, found, strict=True))
        return [named[name] for name in trained.names]

    def _agree(
        self,
        meeting: Meeting,
        trained: Trained,
        parts: Sequence[Sequence[Bytes | None]],
        arguments: dict[str, Any],
    ) -> list[Any]:
        """For each part of any rank, which of the parameters it has; refuses other calls."""
        mine = ["".join("01"[array is not None] for array in part) for part in parts]
        values = {key: _plain(value) for key, value in arguments.items()}
        told = meeting.agree([trained.digest, values, mine])
        first = told[0]
        for rank, (digest, theirs, _) in enumerate(told):
            if digest != first[0]:
                meeting.end()
                raise ValueError(
                    f"rank {rank} trains other parameters than rank 0{UNCHANGED}; freeze and thaw "
                    "on every rank alike"
                )
            if theirs != first[1]:
                key = next(key for key, value in theirs.items() if value != first[1][key])
                meeting.end()
                raise ValueError(
                    f"rank {rank} calls step with {key}={theirs[key]}, rank 0 with "
                    f"{key}={first[1][key]}{UNCHANGED}"
                )
        texts = [text for _, _, theirs in told for text in theirs]
        return [np.frombuffer(text.encode(), np.uint8) == ord("1") for text in texts]

    def _common(self, report: _core.StepReport) -> _core.StepReport:
        """The report with the overflows of all ranks."""
        with Meeting(self.transport, "step") as meeting:
            told = meeting.agree(list(report.overflowed))
            meeting.end()
        found = {name for names in told for name in names}
        return _core.StepReport(
            report.step,
            report.lr,
            report.grad_norm,
            report.clip,
            report.skipped,
            dict(report.nonfinite),
            report.stats,
            tuple(name for name in self.held.params if name in found),
        )


def _layout(bounds: Sequence[Sequence[int]], dtypes: Sequence[np.dtype[Any]], chunk: int) -> Layout:
    pairs = zip(bounds, dtypes, strict=True)
    return Layout([[end * dtype.itemsize for end in ends] for ends, dtype in pairs], chunk)


def _plain(value: Any) -> Any:
    """An argument in the form in which ranks compare it."""
    if value is None or isinstance(value, bool):
        return value
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return repr(value)
