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
        held.check_current(held.cascade.trains())

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
    return _loaded(steps, "load", what, read, hyperparameters=hyperparameters, strict=strict)


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

    call, what = "load_state_dict", "the state dict"
    return _loaded(steps, call, what, read, hyperparameters=hyperparameters, strict=strict)


def check_not(convert: bool) -> None:
    """Refuse conversion of state, which needs whole arrays."""
    if convert is not False:
        raise ValueError(
            "convert is not possible on many ranks; load with convert=True in one process "
            f"(thalweg.AdamW(...).load(path, convert=True)), and save there; got {convert!r}"
        )


def _loaded(
    steps: Steps,
    call: str,
    what: str,
    read: Callable[[], tuple[Any, Any, Any]],
    *,
    hyperparameters: Literal["saved", "current"],
    strict: bool,
) -> LoadReport:
    """Load what `read` gives on rank 0: state dict, parameters or None, the user's data."""
    held, transport = steps.held, steps.transport
    with Meeting(transport, call, "; nothing was loaded") as meeting:
        sources: list[Any] = []
        form = _form(read(), sources) if transport.rank == 0 else None
        text, kinds = meeting.agree(form)[0]
        spreads = {
            name: Spread(np.dtype(dtype), tuple(shape), _unread, number)
            for name, dtype, shape, number in kinds
        }
        saved, params, extra = decode(text, spreads.__getitem__)
        delivery = Delivery(meeting, sources)
        state = saved.pop("state")
        saved, extra = delivery.whole([saved, extra])
        meeting.agree()
        loaded: list[str] = []

        def receive(states: State) -> State:
            loaded.extend(name for name, leaf in states.items() if "param" in leaf)
            held.check_current(loaded)
            meeting.agree(zlib.crc32("\n".join(states).encode()))
            made = _received(held, delivery, states)
            meeting.agree()
            steps.torn = "a load"
            return made

        held.receive = receive
        try:
            report = load_state_dict(
                held,
                {**saved, "state": state},
                hyperparameters=hyperparameters,
                strict=strict,
                origin=Origin(what, params, extra, stacklevel=5),
            )
        finally:
            held.receive = None
        meeting.agree()
        meeting.end()
        steps.distribute(loaded, all_from_first=False)
        steps.torn = ""
    return report


def _received(held: ShardedHeld, delivery: Delivery, states: State) -> State:
    """The state with this rank's share of the arrays, in its form."""
    places = [
        (name, key)
        for name, leaf in states.items()
        for key, value in leaf.items()
        if isinstance(value, Spread)
    ]
    spreads = [states[name][key] for name, key in places]
    ends = [
        ends_of(held.bounds[name], key, spread.dtype.itemsize)
        for (name, key), spread in zip(places, spreads, strict=True)
    ]
    made = {name: dict(leaf) for name, leaf in states.items()}
    parts = delivery.parts(list(zip(spreads, ends, strict=True)))
    for (name, key), spread, part in zip(places, spreads, parts, strict=True):
        made[name][key] = part.view(spread.dtype)
    return {name: _fitting(held, name, leaf) for name, leaf in made.items()}


def _fitting(held: ShardedHeld, name: str, leaf: dict[str, Any]) -> dict[str, Any]:
    """Flat arrays in the form of this rank's share."""
    piece = held.pieces[name]
    made = {key: value for key, value in leaf.items() if key == "step"}
    if "param" in leaf:
        made["param"] = leaf["param"].view(piece.dtype).reshape(piece.shape)
    if "step" in leaf:
        for key, (dtype, shape) in held.piece_kinds(name).items():
            # An empty share of a parameter has arrays of another form than the whole.
            is_here = piece.size or key == HISTORY
            made[key] = leaf[key].reshape(shape) if is_here else np.zeros(shape, dtype)
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
