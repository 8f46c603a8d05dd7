"""State of a sharded optimizer in one place: files and state dicts, written and read by rank 0.

A save asks the ranks for pieces of their state, in the order of the file. A load sends each rank
the pieces of its share. No rank but the first needs the file.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from thalweg import _core
from thalweg.checkpoint import files
from thalweg.checkpoint.encoding import Encoder, decode
from thalweg.compact.decoding import HISTORY
from thalweg.mpi.delivery import Delivery
from thalweg.mpi.lending import PIECE, Lent, ends_of
from thalweg.mpi.meeting import Meeting
from thalweg.state.form import check_form, readable
from thalweg.state.loading import Origin, load_state_dict
from thalweg.state.spread import Spread
from thalweg.state.state_dict import together

if TYPE_CHECKING:
    from collections.abc import Callable

    from thalweg.mpi.held import ShardedHeld
    from thalweg.mpi.steps import Steps
    from thalweg.state.report import LoadReport

__all__ = ["load", "load_state", "save", "state_dict"]

State = dict[str, dict[str, Any]]


def save(steps: Steps, path: files.Path, extra: Any, *, params: bool) -> None:
    """See `Sharded.save`."""

    def write(saved: dict[str, Any]) -> None:
        files.Snapshot(extra).take(steps.held, saved, params=params).write(path)

    _collected(steps, "save", write)


def state_dict(steps: Steps, *, copy: bool) -> dict[str, Any] | None:
    """See `Sharded.state_dict`."""

    def use(saved: dict[str, Any]) -> dict[str, Any]:
        if not copy:
            raise ValueError("copy must be True: no process has all of the live state")
        made: dict[str, Any] = _copied(saved)
        return made

    found: dict[str, Any] | None = _collected(steps, "state_dict", use)
    return found


def _copied(saved: Any) -> Any:
    """The same tree with new arrays."""
    if isinstance(saved, dict):
        return {key: _copied(value) for key, value in saved.items()}
    if isinstance(saved, Spread):
        array = np.empty(saved.shape, saved.dtype)
        line = array.reshape(-1).view(np.uint8)
        for start in range(0, saved.nbytes, PIECE):
            stop = min(start + PIECE, saved.nbytes)
            line[start:stop] = np.frombuffer(saved.read(start, stop), np.uint8)
        return array
    return np.array(saved) if isinstance(saved, np.ndarray) else saved


def _collected(steps: Steps, call: str, use: Callable[[dict[str, Any]], Any]) -> Any:
    """The result of `use` on the whole state dict, on rank 0; None on other ranks.

    Live arrays cannot change until it returns.
    """
    held = steps.held
    with Meeting(held.transport, call) as meeting:
        steps.check_whole()
        held.check_current()

        def work(saved: dict[str, Any]) -> Any:
            lent = Lent(held, saved, meeting)
            counts = [held.updater.step_count, zlib.crc32(repr(lent.keys).encode())]
            meeting.same(counts, "other numbers of steps, or other parameters with state,")
            if held.transport.rank > 0:
                with meeting.apart():
                    lent.serve()
                return None
            try:
                return use(lent.whole(saved))
            finally:
                if not meeting.is_over:
                    lent.finish()

        found = together(held, work, current=True)
        meeting.agree()
        meeting.end()
    return found


def load(
    steps: Steps,
    path: files.Path,
    *,
    hyperparameters: Literal["saved", "current"],
    strict: bool,
    params: bool,
    convert: bool,
) -> LoadReport:
    """See `Sharded.load`."""

    def read() -> tuple[Any, Any, Any]:
        check_not(convert)
        return files.parsed(files.Opened(path), params=params)

    what = repr(os.fspath(path))
    loading = _Loading(steps, "load", what, hyperparameters=hyperparameters, strict=strict)
    return loading.run(read)


def load_state(
    steps: Steps,
    saved: Mapping[str, Any] | None,
    *,
    hyperparameters: Literal["saved", "current"],
    strict: bool,
    convert: bool,
) -> LoadReport:
    """See `Sharded.load_state_dict`."""

    def read() -> tuple[Any, Any, Any]:
        check_not(convert)
        if saved is None:
            raise TypeError("rank 0 must pass the state dict; other ranks may pass None")
        check_form(saved)
        return saved, None, None

    loading = _Loading(
        steps,
        "load_state_dict",
        "the state dict",
        hyperparameters=hyperparameters,
        strict=strict,
    )
    return loading.run(read)


def check_not(convert: bool) -> None:
    """Refuse conversion of state, which needs whole arrays."""
    if convert is not False:
        raise ValueError(
            "convert is not possible on many ranks; load with convert=True in one process "
            f"(thalweg.AdamW(...).load(path, convert=True)), and save there; got {convert!r}"
        )


class _Loading:
    """One load, from what rank 0 reads."""

    def __init__(
        self,
        steps: Steps,
        call: str,
        what: str,
        *,
        hyperparameters: Literal["saved", "current"],
        strict: bool,
    ) -> None:
        self.steps = steps
        self.held: ShardedHeld = steps.held
        self.what = what
        self.hyperparameters = hyperparameters
        self.strict = strict
        self.meeting = Meeting(self.held.transport, call, "; nothing was loaded")
        self.delivery = Delivery(self.meeting, ())

    def run(self, read: Callable[[], tuple[Any, Any, Any]]) -> LoadReport:
        """Load what `read` gives on rank 0: state dict, parameters or None, the user's data."""
        held, steps, transport = self.held, self.steps, self.held.transport
        with self.meeting as meeting:
            sources: list[Any] = []
            form = _form(read(), sources) if transport.rank == 0 else None
            text, kinds = meeting.agree(form)[0]
            spreads = {
                name: Spread(np.dtype(dtype), tuple(shape), _unread, number)
                for name, dtype, shape, number in kinds
            }
            saved, params, extra = decode(text, spreads.__getitem__)
            self.delivery = Delivery(meeting, sources)
            state = saved.pop("state")
            saved, extra = self.delivery.whole([saved, extra])
            meeting.agree()
            held.receive = self.receive
            try:
                report = load_state_dict(
                    held,
                    {**saved, "state": state},
                    hyperparameters=self.hyperparameters,
                    strict=self.strict,
                    origin=Origin(self.what, params, extra, stacklevel=6),
                )
            finally:
                held.receive = None
            meeting.agree()
            meeting.end()
            if params is not None:
                steps.distribute(all_from_first=False)
            steps.torn = ""
        return report

    def receive(self, states: State) -> State:
        """The state with this rank's share of the arrays."""
        self.meeting.agree(zlib.crc32("\n".join(states).encode()))
        asked = []
        for name, leaf in states.items():
            for key, value in leaf.items():
                if isinstance(value, Spread):
                    ends = ends_of(self.held.bounds[name], key, value.dtype.itemsize)
                    asked.append((name, key, value, ends))
        parts = self.delivery.parts([(spread, ends) for _, _, spread, ends in asked])
        made = {name: dict(leaf) for name, leaf in states.items()}
        for (name, key, spread, _), part in zip(asked, parts, strict=True):
            made[name][key] = part.view(spread.dtype)
        made = {name: self._fitting(name, leaf) for name, leaf in made.items()}
        self.meeting.agree()
        self.steps.torn = "a load"
        return made

    def _fitting(self, name: str, leaf: dict[str, Any]) -> dict[str, Any]:
        """Flat arrays in the form of this rank's share."""
        piece = self.held.pieces[name]
        made = dict(leaf)
        if "param" in made:
            made["param"] = made["param"].view(piece.dtype).reshape(piece.shape)
        if "step" not in made:
            return made
        # An empty share of a parameter has arrays of another form than the whole.
        for key in [key for key in made if key not in ("param", "step")]:
            if not piece.size and key != HISTORY:
                del made[key]
        for key, (dtype, shape) in self.held.piece_kinds(name).items():
            made[key] = made[key].reshape(shape) if key in made else np.zeros(shape, dtype)
        return made


def _form(content: Any, sources: list[Any]) -> Any:
    """The text of a tree, and name, dtype, shape and number of its arrays, put into `sources`."""

    def stand_in(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: stand_in(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(stand_in(item) for item in value)
        array = readable(value)
        if not isinstance(array, np.ndarray | _core.Stored):
            return array
        sources.append(array)
        return Spread(array.dtype, array.shape, _unread, len(sources) - 1)

    encoder = Encoder()
    text = encoder.text(stand_in(content), "the state dict")
    tensors = ((name, cast("Spread", spread)) for name, (_, spread) in encoder.tensors.items())
    return text, [(name, s.dtype.str, s.shape, s.number) for name, s in tensors]


def _unread(_start: int, _stop: int) -> bytes:
    raise ValueError("the array is with rank 0")
