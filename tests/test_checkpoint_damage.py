"""A damaged file is refused, before or while it is read."""

from __future__ import annotations

import pickle
import random
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import crash
import thalweg
from conftest import snapshot, unchanged
from thalweg import BusyError, _core, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


@pytest.fixture
def opt() -> thalweg.AdamW:
    return crash.made()


@pytest.fixture
def saved(path: Path) -> bytes:
    other = crash.made(value=2.0)
    crash.stepped(other)
    other.save(path, extra={"text": "é\n", "array": np.arange(3, dtype=np.int16)})
    return path.read_bytes()


def refused(path: Path, opt: thalweg.Optimizer) -> None:
    with unchanged(opt), pytest.raises(ValueError, match=path.name):
        opt.load(path)
    with pytest.raises(ValueError, match=path.name):
        read_checkpoint(path)


def header_of(raw: bytes) -> int:
    return 8 + int.from_bytes(raw[:8], "little")


def test_any_flipped_bit_of_the_header_is_refused(
    path: Path, opt: thalweg.AdamW, saved: bytes
) -> None:
    with path.open("r+b", buffering=0) as file:
        for at in range(header_of(saved)):
            for bit in range(8):
                file.seek(at)
                file.write(bytes([saved[at] ^ 1 << bit]))
                refused(path, opt)
            file.seek(at)
            file.write(saved[at : at + 1])
    opt.load(path)


def test_a_flipped_bit_in_any_byte_of_the_body_is_refused(
    path: Path, opt: thalweg.AdamW, saved: bytes
) -> None:
    with path.open("r+b", buffering=0) as file:
        for at in range(header_of(saved), len(saved)):
            file.seek(at)
            file.write(bytes([saved[at] ^ 1 << at % 8]))
            refused(path, opt)
            file.seek(at)
            file.write(saved[at : at + 1])
    opt.load(path)


def test_a_file_of_any_other_length_is_refused(
    path: Path, opt: thalweg.AdamW, saved: bytes
) -> None:
    path.write_bytes(saved)
    with path.open("r+b", buffering=0) as file:
        for length in reversed(range(len(saved))):
            file.truncate(length)
            refused(path, opt)
    for more in (b"\0", b" ", b"\0" * 63, b"\0" * 64, b"\0" * 4096, saved, saved[-12:]):
        path.write_bytes(saved + more)
        refused(path, opt)
        path.write_bytes(more + saved)
        refused(path, opt)
    path.write_bytes(saved)
    opt.load(path)


def zeroed(raw: bytearray, start: int, end: int) -> None:
    raw[start:end] = bytes(end - start)


def swapped(raw: bytearray, start: int, end: int) -> None:
    raw[start], raw[end] = raw[end], raw[start]


def moved(raw: bytearray, start: int, end: int) -> None:
    raw[start:end] = raw[start + 1 : end] + raw[start : start + 1]


def erased(raw: bytearray, start: int, end: int) -> None:
    raw[start:end] = b"\xff" * (end - start)


@pytest.mark.parametrize("damage", [zeroed, swapped, moved, erased])
def test_damage_by_disks_is_refused(
    damage: Callable[[bytearray, int, int], None], path: Path, opt: thalweg.AdamW, saved: bytes
) -> None:
    chance = random.Random(0)  # noqa: S311
    tried = 0
    while tried < 500:
        raw = bytearray(saved)
        start, end = sorted(chance.sample(range(len(saved)), 2))
        damage(raw, start, min(end, start + chance.choice([1, 8, 512, 4096])))
        if raw != saved:
            path.write_bytes(raw)
            refused(path, opt)
            tried += 1
    with path.open("wb") as file:  # after a power failure: the right length, and only zeros
        file.truncate(len(saved))
    refused(path, opt)


def test_exchanged_tensors_of_the_same_shape_are_refused(
    path: Path, opt: thalweg.AdamW, saved: bytes
) -> None:
    entries, body = crash.parts(saved)
    one, other = (entries[f"state/w/{key}"]["data_offsets"] for key in ("exp_avg", "exp_avg_sq"))
    raw = bytearray(body)
    raw[slice(*one)], raw[slice(*other)] = body[slice(*other)], body[slice(*one)]
    assert raw != body
    path.write_bytes(saved[: -len(body)] + raw)
    refused(path, opt)


def test_nothing_is_unpickled(path: Path, opt: thalweg.AdamW) -> None:
    class Weapon:
        def __reduce__(self) -> Any:
            return pytest.fail, ("it was unpickled",)

    payload = pickle.dumps(Weapon())
    array = np.empty(1, object)
    array[0] = Weapon()
    with path.open("wb") as file:
        np.save(file, array)
    refused(path, opt)
    for raw in (payload, crash.framed(crash.header({"thalweg.extra": "null"}, []), b"") + payload):
        path.write_bytes(raw)
        refused(path, opt)
    with pytest.raises(TypeError, match="object"):
        opt.save(path, extra=array)


# Files that change while they are read.


def test_a_tensor_that_changes_after_opening_is_refused(path: Path, saved: bytes) -> None:
    entries, _ = crash.parts(saved)
    start, end = (header_of(saved) + at for at in entries["state/w/exp_avg"]["data_offsets"])
    file = _core.Checkpoint(str(path))
    for at in (start, end - 1):
        raw = bytearray(saved)
        raw[at] ^= 1
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="was changed while it was read"):
            file.tensors["state/w/exp_avg"].read()
        file.tensors["params/w"].read()  # unchanged
    for length in (end - 1, start, 0):
        with path.open("r+b") as overwritten:
            overwritten.truncate(length)
        with pytest.raises(ValueError, match="was changed while it was read"):
            file.tensors["state/w/exp_avg"].read()
    path.write_bytes(saved)
    assert (file.tensors["state/w/exp_avg"].read() != 0).all()


def test_an_open_file_that_is_replaced_is_read_to_the_end(
    path: Path, opt: thalweg.AdamW, saved: bytes
) -> None:
    file = _core.Checkpoint(str(path))
    opt.save(path)
    assert (file.tensors["state/w/exp_avg"].read() != 0).all()
    assert len(saved) != path.stat().st_size


def loads(opt: thalweg.Optimizer, path: Path, between: Callable[[], Any]) -> None:
    """Load, and call `between` after the file was checked and before it is read."""
    opt.lr = 0.25  # for a warning, which is given at that moment
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *_args, **_options: between()
        opt.load(path)


def flipped(path: Path, at: int) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def places(raw: bytes) -> Iterator[tuple[str, int]]:
    """Name and first byte of each tensor."""
    for name, entry in crash.parts(raw)[0].items():
        if name != "__metadata__":
            yield name, header_of(raw) + entry["data_offsets"][0]


def attached(value: float = 1.0) -> tuple[thalweg.AdamW, thalweg.EMA, thalweg.Accumulator]:
    opt = crash.made(value=value)
    return opt, thalweg.EMA(opt, 0.5), thalweg.Accumulator(opt)


def look(opt: thalweg.AdamW, ema: thalweg.EMA, acc: thalweg.Accumulator) -> Any:
    """Everything that the objects hold, without the identity of arrays."""
    steps, counts, arrays, groups = snapshot(opt)
    others = {
        (kind, name): leaf[key].tobytes()
        for kind, mirror, key in (("ema", ema, "average"), ("acc", acc, "sum"))
        for name, leaf in mirror.state_dict()["state"].items()
    }
    numbers = ema.count, acc.count, acc.weight
    return steps, counts, {name: raw for name, (_, raw) in arrays.items()}, groups, others, numbers


def full_file(path: Path) -> tuple[bytes, Any]:
    whole = attached(2.0)
    opt, ema, acc = whole
    for _ in range(2):
        crash.stepped(opt)
        ema.update()
        acc.add({"w": np.ones(10), "b": np.ones(3)}, weight=2)
    opt.save(path)
    return path.read_bytes(), look(*whole)


NAMES = [
    *(f"params/{name}" for name in "bw"),
    *(f"state/{name}/{key}" for name in "bw" for key in ("exp_avg", "exp_avg_sq")),
    *(f"attached/ema/state/{name}/average" for name in "bw"),
    *(f"attached/accumulator/state/{name}/sum" for name in "bw"),
]


@pytest.mark.parametrize("how", ["flipped", "cut"])
@pytest.mark.parametrize("name", NAMES)
def test_after_an_incomplete_load_only_another_load_is_accepted(
    name: str, how: str, path: Path
) -> None:
    raw, expected = full_file(path)
    found = dict(places(raw))
    assert found.keys() == set(NAMES)
    whole = attached(5.0)
    opt, ema, acc = whole
    crash.stepped(opt)

    def between() -> None:
        if how == "flipped":
            flipped(path, found[name])
        else:
            with path.open("r+b") as file:
                file.truncate(found[name])

    with pytest.raises(ValueError, match=r"run\.safetensors' was changed while it was read"):
        loads(opt, path, between)
    # Only a part was loaded, so every use is refused.
    for use in (
        lambda: crash.stepped(opt),
        lambda: opt.save(path),
        opt.state_dict,
        lambda: setattr(opt.groups[0], "weight_decay", 0.5),
        ema.update,
        lambda: acc.add({"w": np.ones(10), "b": np.ones(3)}),
    ):
        with pytest.raises((ValueError, BusyError), match="loading was interrupted"):
            use()
    with pytest.raises(ValueError, match=r"was changed|is damaged"):
        opt.load(path)
    path.write_bytes(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opt.load(path)
    assert look(*whole) == expected
    crash.stepped(opt)
    ema.update()


def test_after_an_incomplete_load_hyperparameters_keep_their_values(path: Path) -> None:
    raw, _ = full_file(path)
    at = dict(places(raw))["state/b/exp_avg"]
    one, other = attached(5.0), attached(5.0)
    with pytest.raises(ValueError, match="was changed"):
        loads(one[0], path, lambda: flipped(path, at))
    path.write_bytes(raw)
    other[0].lr = 0.25
    for whole in (one, other):
        whole[0].load(path, hyperparameters="current")
        assert whole[0].lr == 0.25
        crash.stepped(whole[0])
    assert look(*one) == look(*other)


def test_a_warning_that_is_an_error_loads_nothing(path: Path, saved: bytes) -> None:
    opt = crash.made()
    opt.lr = 0.5
    with unchanged(opt), pytest.raises(UserWarning, match="loading changes"):
        opt.load(path)
    assert path.read_bytes() == saved
