"""Arrays that share an element are refused if one is written; other views of a buffer train."""

from __future__ import annotations

import gc
import mmap
import sys
from contextlib import nullcontext
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import thalweg
from conftest import unchanged
from specimens import Array, TakesFunctions, arena, grid, memory, numbers, picture, with_elements
from thalweg import SGD, SGDW, AdamW, functional
from thalweg.mapped.memmap import file_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Pair = tuple[Any, Any]

F4, F8 = np.float32, np.float64


def parts(whole: Array, *keys: Any) -> Any:
    """Views of one array, by index or callable."""
    return tuple(key(whole) if callable(key) else whole[key] for key in keys)


def diagonal(square: Array) -> Array:
    return as_strided(square, square.shape[:1], (sum(square.strides),))


def off_diagonal(square: Array) -> Array:
    n = len(square)
    return square.reshape(-1)[1:].reshape(n - 1, n + 1)[:, :-1]


def bytes_from(dtype: Any, *starts: int) -> Any:
    """Three elements at each of these byte offsets; any bytes of the buffer make finite numbers."""
    whole = (np.arange(256) * 7 % 4 + 0x3C).astype(np.uint8)
    size = 3 * np.dtype(dtype).itemsize
    return tuple(whole[start : start + size].view(dtype) for start in starts)


def single(view: Array) -> Array:
    return view.view(F4)


all_of = np.s_[:]
OVERLAPPING: dict[str, Callable[[], Pair]] = {
    "one array": lambda: (arena(F4),) * 2,
    "two views of all": lambda: parts(arena(F4), all_of, all_of),
    "reversed": lambda: parts(arena(F4), all_of, np.s_[::-1]),
    "transposed": lambda: parts(grid(F4), all_of, np.transpose),
    "another shape": lambda: parts(arena(F4), all_of, lambda w: w.reshape(8, 8)),
    "part of a whole": lambda: parts(arena(F4), all_of, np.s_[40:50]),
    "part of a part": lambda: parts(grid(F4), np.s_[1:7, 1:7], np.s_[3:5, 3:5]),
    "moved by one element": lambda: parts(arena(F4), np.s_[:-1], np.s_[1:]),
    "one element in common": lambda: parts(arena(F4), np.s_[:6], np.s_[5:11]),
    "one element in common, reversed": lambda: parts(arena(F8), np.s_[5::-1], np.s_[10:4:-1]),
    "one element in common, slices": lambda: parts(arena(F4), np.s_[:15:5], np.s_[4:15:3]),
    "columns": lambda: parts(grid(F4), np.s_[:, :5], np.s_[:, 3:]),
    "columns that share one": lambda: parts(grid(F4), np.s_[:, :5], np.s_[:, 4:]),
    "row and column": lambda: parts(grid(F4), 2, np.s_[:, 5]),
    "diagonal and row": lambda: parts(grid(F4), diagonal, 3),
    "off-diagonal and row": lambda: parts(grid(F4), off_diagonal, 3),
    "0-d and whole": lambda: parts(arena(F4), np.s_[7, ...], all_of),
    "0-d twice": lambda: parts(arena(F4), np.s_[7, ...], np.s_[7, ...]),
    "two types": lambda: parts(arena(F8), np.s_[:4], lambda w: single(w)[7:11]),
    "a complex number's half": lambda: parts(
        arena(F4).view("c8"), np.real, lambda w: single(w)[4:12]
    ),
}
DISJOINT: dict[str, Callable[[], Pair]] = {
    "halves": lambda: parts(arena(F4), np.s_[:32], np.s_[32:]),
    "left and right columns": lambda: parts(grid(F4), np.s_[:, :4], np.s_[:, 4:]),
    "even and odd": lambda: parts(arena(F4), np.s_[::2], np.s_[1::2]),
    "even and odd, reversed": lambda: parts(arena(F8), np.s_[::2], np.s_[::-2]),
    "slices that never meet": lambda: parts(arena(F4), np.s_[0:60:6], np.s_[1:61:6]),
    "slices of coprime strides": lambda: parts(arena(F4), np.s_[0:9:4], np.s_[1:12:5]),
    "rows": lambda: parts(grid(F4), 2, 3),
    "every other row, other columns": lambda: parts(grid(F4), np.s_[::2, ::2], np.s_[::2, 1::2]),
    "chequered": lambda: parts(grid(F4), np.s_[::2, ::2], np.s_[1::2, ::-2]),
    "diagonal and the rest": lambda: parts(grid(F4), diagonal, off_diagonal),
    "real and imaginary": lambda: parts(arena(F4).view("c8"), np.real, np.imag),
    "neighbours without axes": lambda: parts(arena(F4), np.s_[7, ...], np.s_[8, ...]),
    "0-d and the rest": lambda: parts(arena(F4), np.s_[0, ...], np.s_[1:]),
    "two types": lambda: parts(arena(F8), np.s_[:4], lambda w: single(w)[8:12]),
    "empty at one address": lambda: parts(arena(F4), np.s_[:0], np.s_[:0]),
    "empty inside": lambda: parts(arena(F4), all_of, np.s_[9:9]),
    "a subclass that takes over functions": lambda: parts(
        arena(F4), lambda w: w[::2].view(TakesFunctions), np.s_[1::2]
    ),
}
# Misaligned views, which thalweg reads but does not write.
ONE_BYTE_APART: dict[str, tuple[Callable[[], Pair], bool]] = {
    "last byte in common": (lambda: bytes_from(F4, 4, 15), True),
    "first byte in common": (lambda: bytes_from(F8, 24, 1), True),
    "next byte": (lambda: bytes_from(F4, 4, 17), False),
    "byte before": (lambda: bytes_from(F8, 32, 7), False),
}


class Scene(NamedTuple):
    act: Callable[[Any, Any], list[Any]]
    look: Callable[[], list[Any]]


class Role(NamedTuple):
    whats: tuple[str, str]
    writes: tuple[bool, bool]
    advice: str
    scene: Callable[[Any, Any], Scene]
    alike: bool = False
    """Both arrays must have the same shape and dtype."""


def gradients(a: Array, b: Array) -> dict[str, Array]:
    return {"a": numbers(a.shape, a.dtype, 1), "b": numbers(b.shape, b.dtype, 2)}


def constructed(a: Array, b: Array) -> Scene:
    grads = gradients(a, b)

    def act(a: Array, b: Array) -> list[Any]:
        opt = SGDW({"a": a, "b": b}, lr=0.1, momentum=0.9)
        return picture(opt.step(grads), opt)

    return Scene(act, list)


def rebound(a: Array, b: Array) -> Scene:
    grads = gradients(a, b)
    opt = AdamW({"a": np.array(a), "b": np.array(b)})
    opt.step(grads)

    def act(a: Array, b: Array) -> list[Any]:
        opt.rebind({"a": a, "b": b})
        return picture(opt.step(grads), opt)

    return Scene(act, lambda: picture(opt))


def parameter_and_gradient(a: Array, _: Array) -> Scene:
    opt = AdamW({"a": a, "b": numbers(2, F4)})

    def act(__: Array, b: Array) -> list[Any]:
        return picture(opt.step({"a": b, "b": numbers(2, F4, 1)}, max_norm=1.0), opt)

    return Scene(act, lambda: picture(opt))


def two_gradients(a: Array, b: Array) -> Scene:
    params = {name: np.array(g) for name, g in gradients(a, b).items()}
    opt = AdamW(params)

    def act(a: Array, b: Array) -> list[Any]:
        return picture(opt.step({"a": a, "b": b}, max_norm=1.0), opt)

    return Scene(act, lambda: picture(opt))


def walked(call: Callable[[Any], Any]) -> Callable[[Any, Any], Scene]:
    return lambda *_: Scene(lambda a, b: picture(call({"a": a, "b": b}), a, b), list)


def updated(update: Any, names: str, one: str, other: str, **options: Any) -> Any:
    def scene(a: Array, _: Array) -> Scene:
        arrays = {name: numbers(a.shape, a.dtype, i) for i, name in enumerate(names.split())}

        def act(a: Array, b: Array) -> list[Any]:
            given = arrays | {one: a, other: b}
            return picture(update(**given, step=2, lr=0.1, **options), *given.values())

        return Scene(act, lambda: picture(*arrays.values()))

    return scene


def updated_in_a_row(column: str) -> Callable[[Any, Any], Scene]:
    def scene(a: Array, b: Array) -> Scene:
        first = {"p": [np.array(a), np.array(b)], "g": [*gradients(a, b).values()]}

        def act(a: Array, b: Array) -> list[Any]:
            given = {**first, column: [a, b]}
            done = functional.sgdw(**given, momentum_buffer=None, step=1, lr=0.1)
            return picture(done, given["p"])

        return Scene(act, lambda: picture(*first.values()))

    return scene


ADAM, SGD_ = "p g exp_avg exp_avg_sq max_exp_avg_sq", "p g momentum_buffer"
TIED, APART, ONCE = "pass tied weights once and add up their gradients", "copy()", "once"
ROLES = {
    "parameters": Role(("parameter 'a'", "parameter 'b'"), (True, True), TIED, constructed),
    "rebound": Role(("parameter 'a'", "parameter 'b'"), (True, True), TIED, rebound),
    "parameter and gradient": Role(
        ("parameter 'a'", "the gradient of 'a'"),
        (True, False),
        "gradient.copy()",
        parameter_and_gradient,
        alike=True,
    ),
    "gradients": Role(("", ""), (False, False), "", two_gradients),
    "decay": Role(
        ("parameter 'a'", "parameter 'b'"),
        (True, True),
        ONCE,
        walked(lambda tree: functional.decay(tree, 0.25)),
    ),
    "clip_by_global_norm": Role(
        ("gradient 'a'", "gradient 'b'"),
        (True, True),
        ONCE,
        walked(lambda tree: functional.clip_by_global_norm(tree, 0.1)),
    ),
    "global_norm": Role(("", ""), (False, False), "", walked(functional.global_norm)),
    "p[0] and p[1]": Role(("p[0]", "p[1]"), (True, True), APART, updated_in_a_row("p")),
    "g[0] and g[1]": Role(("g[0]", "g[1]"), (False, False), "", updated_in_a_row("g")),
    **{
        f"{update.__name__} {one} and {other}": Role(
            (one, other),
            (one != "g", other != "g"),
            APART,
            updated(update, names, one, other, **options),
            alike=True,
        )
        for update, names, options in [
            (functional.adamw, ADAM, {}),
            (functional.sgdw, SGD_, {"momentum": 0.9}),
        ]
        for one in names.split()
        for other in names.split()
        if one not in (other, "g") and (other == "g" or one < other)
    },
}


def table() -> list[Any]:
    rows = [
        *((name, make, True, False) for name, make in OVERLAPPING.items()),
        *((name, make, False, False) for name, make in DISJOINT.items()),
        *((name, make, overlap, True) for name, (make, overlap) in ONE_BYTE_APART.items()),
    ]
    found = []
    for name, make, overlap, read in rows:
        a, b = make()
        fit = a.shape == b.shape and a.dtype == b.dtype
        found += [
            pytest.param(make, role, overlap and any(role.writes), id=f"{name}-{where}")
            for where, role in ROLES.items()
            if (fit or not role.alike) and not (read and role.writes[1])
        ]
    return found


@pytest.mark.parametrize(("make", "role", "refused"), table())
def test_arrays_are_refused_only_if_they_share_an_element(
    make: Callable[[], Pair], role: Role, refused: bool
) -> None:
    a, b = make()
    apart = np.array(a), np.array(b)
    before = memory(a).copy()
    scene, twin = role.scene(a, b), role.scene(*apart)
    if refused:
        seen = scene.look()
        with pytest.raises(ValueError, match="share memory") as told:
            scene.act(a, b)
        assert all(part in str(told.value) for part in (*role.whats, role.advice))
        assert scene.look() == seen
        assert np.array_equal(memory(a), before)
        assert scene.act(a if role.alike else a.copy(), b.copy()) == twin.act(*apart)
        return
    assert scene.act(a, b) == twin.act(*apart)
    for view, alone, written in zip((a, b), apart, role.writes, strict=True):
        if written:
            before = with_elements(before, view, alone)
    assert np.array_equal(memory(a), before)


@pytest.mark.parametrize(
    "make", [lambda p: AdamW(p, amsgrad=True), lambda p: SGD(p, 0.1, momentum=0.9)]
)
def test_a_gradient_may_not_overlap_a_parameter_or_state(make: Any) -> None:
    opt = make({"w": numbers((4, 4), F4), "v": numbers(4, F4), "s": numbers((), F4)})
    grads = {name: numbers(p.shape, F8, 1) for name, p in opt.params.items()}
    opt.step(grads)
    written = {f"{key} of 'w'": state for key, state in opt.state["w"].items() if key != "step"}
    for what, array in {**written, "parameter 'w'": opt.params["w"]}.items():
        for name, view in [
            ("w", array),
            ("w", array.T),
            ("w", array[::-1, ::-1]),
            ("v", array[:, 2]),
            ("v", as_strided(array, (4,), (0,))),
            ("s", array[3, 3, ...]),
        ]:
            with unchanged(opt), pytest.raises(ValueError, match="share memory") as told:
                opt.step({**grads, name: view})
            for part in (what, f"the gradient of '{name}'", "gradient.copy()"):
                assert part in str(told.value)
    assert opt.step(grads).step == 2


def test_the_two_overlapping_parameters_are_named_among_many() -> None:
    w = arena(F4)
    params = {"a": w[:9], "b": [w[9:20], w[30:]], "c": w[20:31]}
    with pytest.raises(ValueError, match=r"'b\.1' and parameter 'c' share memory"):
        AdamW(params)
    assert np.array_equal(w, arena(F4))


N = 3000
"""Elements in each mapping: more than a page of memory."""

# Each row: the modes of two mappings of one file, the first element of the second mapping, and
# whether a write through one can show in the other. A private mapping (mode "c") shows writes to
# the file until its own page is written.
MAPS = {
    "same region": ("r+", "r+", 0, True),
    "moved by part": ("r+", "r+", 1000, True),
    "one element in common": ("r+", "r+", N - 1, True),
    "neighbours": ("r+", "r+", N, False),
    "far apart": ("r+", "r+", 2 * N, False),
    "one private": ("r+", "c", 0, True),
    "one private, moved": ("r+", "c", 1000, True),
    "one private, neighbours": ("r+", "c", N, False),
    "both private": ("c", "c", 0, False),
    "one read-only": ("r+", "r", 0, True),
    "one read-only, moved": ("r+", "r", N - 1, True),
    "one read-only, neighbours": ("r+", "r", N, False),
    "private and read-only": ("c", "r", 0, False),
}


@pytest.mark.parametrize(
    ("row", "role"),
    [
        pytest.param(row, ROLES[where], id=f"{name}-{where}")
        for name, row in MAPS.items()
        for where in (
            "parameters",
            "rebound",
            "parameter and gradient",
            "decay",
            "clip_by_global_norm",
            "p[0] and p[1]",
            "sgdw p and g",
            "gradients",
        )
        if row[1] != "r" or not ROLES[where].writes[1]
    ],
)
def test_mappings_of_one_file_overlap_by_their_bytes_in_the_file(
    row: tuple[Any, Any, int, bool], role: Role, tmp_path: Path
) -> None:
    one, other, start, shared = row
    path = tmp_path / "weights"
    numbers(3 * N, F4).tofile(path)
    size = np.dtype(F4).itemsize
    a = np.memmap(path, F4, one, shape=(N,))
    b = np.memmap(path, F4, other, offset=start * size, shape=(N,))
    apart, before = (np.array(a), np.array(b)), np.fromfile(path, F4)
    scene, twin = role.scene(a, b), role.scene(*apart)
    if shared and any(role.writes):
        seen = scene.look()
        with pytest.raises(ValueError, match="share memory") as told:
            scene.act(a, b)
        assert all(part in str(told.value) for part in (*role.whats, role.advice))
        assert scene.look() == seen
        assert np.array_equal(np.fromfile(path, F4), before)
        assert scene.act(a if role.alike else np.array(a), np.array(b)) == twin.act(*apart)
        return
    assert scene.act(a, b) == twin.act(*apart)
    for mode, at, alone, written in zip((one, other), (0, start), apart, role.writes, strict=True):
        if written and mode == "r+":
            before[at : at + N] = alone
    assert np.array_equal(np.fromfile(path, F4), before)


@pytest.mark.parametrize("view", [all_of, np.s_[::-1], np.s_[2:3], np.s_[1, ...]], ids=str)
def test_a_frozen_leaf_may_share_until_it_is_thawed(view: Any) -> None:
    w = numbers(5, F4)
    opt = AdamW({"w": w, "ice": w[view]}, groups=[{"match": "ice", "frozen": True}])
    alone = AdamW({"w": w.copy()})
    for _ in range(2):
        opt.step({"w": numbers(5, F4, 1)}, partial=True)
        alone.step({"w": numbers(5, F4, 1)})
        assert picture(w) == picture(alone.params["w"])
        with unchanged(opt), pytest.raises(ValueError, match=r"'w'.*'ice' share memory.*once"):
            opt.groups[1].frozen = False


def taking_turns() -> tuple[Array, AdamW]:
    w = numbers(5, F4)
    groups = [{"match": "one"}, {"match": "other", "frozen": True}]
    opt = AdamW({"one": w, "other": w[::-1]}, groups=groups)
    opt.step({"one": numbers(5, F4, 1)}, partial=True)
    opt.groups[1].frozen = True
    return w, opt


def test_leaves_that_share_may_train_in_turn() -> None:
    w, opt = taking_turns()
    opt.groups[2].frozen = False
    before = w.copy()
    opt.step({"other": numbers(5, F4, 2)}, partial=True)
    assert (w < before).all()
    with unchanged(opt), pytest.raises(ValueError, match=r"'one'.*'other' share memory.*once"):
        opt.groups[1].frozen = False


def test_a_gradient_may_be_a_frozen_parameter() -> None:
    params = {"w": numbers(5, F4), "ice": numbers(5, F4, 1)}
    opt = SGD(params, lr=0.5, groups=[{"match": "ice"}])
    opt.groups[1].frozen = True
    expected = params["w"] - np.float32(0.5) * params["ice"]
    opt.step({"w": params["ice"]})
    assert np.array_equal(params["w"], expected)


def exchange_leaves(state: dict[str, Any]) -> None:
    state["a"], state["b"] = state["b"], state["a"]


def exchange_moments(state: dict[str, Any]) -> None:
    leaf = state["a"]
    leaf["exp_avg"], leaf["exp_avg_sq"] = leaf["exp_avg_sq"], leaf["exp_avg"]


def reverse(state: dict[str, Any]) -> None:
    state["a"]["exp_avg"] = state["a"]["exp_avg"][::-1]


@pytest.mark.parametrize("rearrange", [exchange_leaves, exchange_moments, reverse])
def test_state_may_be_loaded_from_views_of_itself(rearrange: Callable[[Any], None]) -> None:
    opt, other = (AdamW({"a": numbers(5, F4), "b": numbers(5, F4, 1)}) for _ in range(2))
    for one in (opt, other):
        one.step({"a": numbers(5, F4, 2), "b": numbers(5, F4, 3)})
    live, copied = opt.state_dict(copy=False), other.state_dict()
    rearrange(live["state"])
    rearrange(copied["state"])
    opt.load_state_dict(live)
    other.load_state_dict(copied)
    assert picture(opt) == picture(other)


needs_table = pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="the system has no table of mappings"
)


def mapped_twice(path: Path) -> Iterator[tuple[Array, Array]]:
    """Two mappings of the same bytes, in two ways that `np.shares_memory` cannot see."""
    with path.open("r+b") as file:
        one, other = (mmap.mmap(file.fileno(), 0) for _ in range(2))
        yield np.frombuffer(one, F4), np.frombuffer(other, F4)
    one, other = (np.memmap(path, F4, "r+") for _ in range(2))
    path.unlink()
    yield one, other


@needs_table
def test_mappings_that_numpy_cannot_compare_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    numbers(6, F4).tofile(path)
    for a, b in mapped_twice(path):
        with pytest.raises(ValueError, match=r"'a'.*'b' share memory"):
            AdamW({"a": a, "b": b})
        opt = AdamW({"a": a[:3], "b": b[3:]})
        with unchanged(opt), pytest.raises(ValueError, match=r"'b'.*gradient of 'a' share memory"):
            opt.step({"a": b[3:], "b": np.ones(3)})
        assert opt.step({"a": np.ones(3), "b": np.ones(3)}).step == 1


@needs_table
def test_two_attachments_of_shared_memory_are_compared() -> None:
    owner = SharedMemory(create=True, size=64)
    other = SharedMemory(owner.name)
    try:
        a, b = (np.frombuffer(memory.buf, F4, 16) for memory in (owner, other))
        with pytest.raises(ValueError, match=r"'a'.*'b' share memory"):
            AdamW({"a": a, "b": b})
        SGD({"a": a[:8], "b": b[8:]}, lr=1.0).step({"a": np.ones(8), "b": np.full(8, 2.0)})
        assert b.tolist() == [-1.0] * 8 + [-2.0] * 8
    finally:
        del a, b
        gc.collect()  # optimizers and their groups form a reference cycle
        other.close()
        owner.close()
        owner.unlink()


def test_the_file_offset_of_a_memmap_is_known_without_the_table_of_mappings(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    numbers(3 * N, F4).tofile(path)
    for mode, start in (("r+", 0), ("r+", 3), ("c", N), ("r", 2 * N)):
        whole = np.memmap(path, F4, mode, offset=4 * start, shape=(N,))
        for view in (whole, whole[5:][::-1], np.asarray(whole)[7:]):
            place = file_place(view)
            assert place is not None
            device, inode, shift, shared = place
            assert (device, inode) == (path.stat().st_dev, path.stat().st_ino)
            first = view.__array_interface__["data"][0] + shift
            assert np.fromfile(path, F4, 1, offset=first) == view[0]
            assert shared == (mode != "c")
    for array in (np.ones(3), np.ones(3)[1:], np.frombuffer(bytearray(8), F4)):
        assert file_place(array) is None


def test_overlap_is_checked_against_the_right_arrays_after_rebinding_in_another_order() -> None:
    opt = SGD(
        {"w": numbers(5, F4), "ice": numbers(5, F4)},
        lr=0.5,
        groups=[{"match": "ice", "frozen": True}],
    )
    params = {"ice": numbers(5, F4, 1), "w": numbers(5, F4, 2)}
    opt.rebind(params)
    with unchanged(opt), pytest.raises(ValueError, match=r"'w'.*gradient of 'w' share memory"):
        opt.step({"w": params["w"][::-1]})
    expected = params["w"] - np.float32(0.5) * params["ice"]
    opt.step({"w": params["ice"]})
    assert np.array_equal(params["w"], expected)
    assert np.array_equal(params["ice"], numbers(5, F4, 1))


def interleaved() -> tuple[Any, Any]:
    """Disjoint views of overlapping extents; only exact arithmetic on strides shows it."""
    buffer = np.zeros(60)
    return buffer[0:12:6], buffer[3:13:5]


def ways_in() -> dict[str, Callable[[], Any]]:
    p, g = interleaved()
    q, h = interleaved()
    opt = SGD({"first": np.zeros(4), "p": p}, lr=1.0)
    ema = thalweg.EMA(opt, 0.5)
    ones = np.ones(4)
    return {
        "step": lambda: opt.step({"first": ones, "p": g}),
        "stats": lambda: opt.step({"first": ones, "p": g}, max_norm=1.0, stats=True),
        "open step": lambda: opt.open_step().__enter__()({"p": g}),
        "average": ema.update,
        "exchange": lambda: ema.swapped().__enter__(),
        "function": lambda: functional.sgd([q, p], [h, g], None, 1, lr=0.1),
        "decay": lambda: functional.decay({"q": q, "h": h}, 0.1),
        "norm": lambda: functional.global_norm({"q": q, "h": h}),
    }


@pytest.mark.parametrize("way", ways_in())
def test_no_python_code_runs_between_check_and_write(way: str) -> None:
    """Code that runs there (profile hook, signal handler, thread) could resize an array."""
    act = ways_in()[way]
    called = []

    def hook(frame: Any, event: str, _: Any) -> None:
        if event == "call" and "thalweg" not in frame.f_code.co_filename:
            called.append(frame.f_code.co_name)

    act()  # lazy imports run before the hook is set
    act = ways_in()[way]
    sys.setprofile(hook)
    try:
        act()
    finally:
        sys.setprofile(None)
    assert called in ([], ["<lambda>"])


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_overlap_agrees_with_numpy_shares_memory(data: st.DataObject) -> None:
    buffer = np.zeros(1000, np.uint8)

    def view() -> Any:
        dtype = np.dtype(data.draw(st.sampled_from([np.float32, np.float64])))
        shape = data.draw(st.lists(st.integers(0, 4), max_size=3))
        strides = [4 * data.draw(st.integers(-8, 8)) for _ in shape]
        low = sum(min(0, (n - 1) * s) for n, s in zip(shape, strides, strict=True) if n)
        start = -low + 4 * data.draw(st.integers(0, 12))
        first = buffer[start : start + dtype.itemsize].view(dtype)
        return as_strided(first, shape, strides)

    p, g = view(), view()
    try:
        opt = SGD({"p": p, "q": np.zeros(g.shape, g.dtype)}, 0.5)
    except ValueError:
        assume(False)  # the parameter overlaps itself
    shares = np.shares_memory(p, g)
    refused = pytest.raises(ValueError, match="share memory") if shares else nullcontext()
    with refused:
        opt.step({"p": np.zeros(p.shape), "q": g})
