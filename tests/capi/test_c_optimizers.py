"""Optimizers of the C library: one digest with Rust and Python, files, groups, lent state."""

from __future__ import annotations

import ctypes as c
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from c_library import (
    DONE,
    INVALID,
    MISMATCH,
    NONFINITE,
    SKIPPED,
    Step,
    Tensor,
    call,
    last_error,
    library,
    options_of,
    step_of,
    tensor_of,
)

import thalweg
from test_embedded import EXPECTED, RUNS, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FULL, BFLOAT16, COMPACT = range(3)


class Optimizer:
    """A C optimizer."""

    def __init__(self, rule: str, state: int = FULL, **options: Any) -> None:
        self.handle = c.c_void_p()
        made = library().thalweg_optimizer_new(self.handle, options_of(rule, **options), state)
        assert made == DONE, last_error()

    def try_(self, name: str, *arguments: Any) -> int:
        return int(getattr(library(), f"thalweg_optimizer_{name}")(self.handle, *arguments))

    def do(self, name: str, *arguments: Any) -> None:
        assert self.try_(name, *arguments) == DONE, last_error()

    def with_tensors(
        self, name: str, tensors: list[Tensor], *arguments: Any, path: Path | None = None
    ) -> int:
        array = (Tensor * len(tensors))(*tensors)
        before = () if path is None else (str(path).encode(),)
        return self.try_(name, *before, array, len(tensors), *arguments)


@contextmanager
def optimizer(rule: str, state: int = FULL, **options: Any) -> Iterator[Optimizer]:
    made = Optimizer(rule, state, **options)
    yield made
    library().thalweg_optimizer_free(made.handle)


def group(opt: Optimizer, glob: str, rule: str, **options: Any) -> None:
    opt.do("group", glob.encode(), options_of(rule, **options))


def with_group(opt: Optimizer) -> None:
    group(opt, "b", "AdamW", weight_decay=0.0)


def nothing(_: Optimizer) -> None: ...


OURS: dict[str, tuple[Any, dict[str, Any], Callable[[Optimizer], None]]] = {
    "adam": (("Adam",), {"l2": 0.1}, nothing),
    "adamw": (("AdamW",), {}, with_group),
    "adabelief": (("AdaBelief",), {}, nothing),
    "adagrad": (("Adagrad",), {"initial_accumulator_value": 0.1}, nothing),
    "amsgrad": (("AdamW",), {"amsgrad": True}, nothing),
    "cautious": (("AdamW",), {"cautious": True, "update_rms": 1.0}, nothing),
    "compact": (("AdamW", COMPACT), {}, nothing),
    "free": (("ScheduleFreeAdamW",), {}, nothing),
    "lion": (("Lion", BFLOAT16), {}, nothing),
    "nadamw": (("NAdamW",), {}, nothing),
    "radamw": (("RAdamW",), {}, nothing),
    "rmsprop": (("RMSprop",), {"momentum": 0.9, "centered": True}, nothing),
    "sgd": (("SGD",), {"lr": 1e-3, "momentum": 0.9, "nesterov": True}, nothing),
    "sgdw": (("SGDW",), {"lr": 0.1, "independent": True, "weight_decay": 0.01}, nothing),
}


def params() -> dict[str, np.ndarray]:
    return {"w": numbers(1, 4160).reshape(64, 65), "b": numbers(2, 3)}


def train(opt: Optimizer, params: dict[str, np.ndarray], steps: range, **how: Any) -> None:
    for step in steps:
        grads = {"w": numbers(10 + step, 4160).reshape(64, 65), "b": numbers(20 + step, 3)}
        tensors = [tensor_of(p, grads[name], name=name) for name, p in params.items()]
        assert opt.with_tensors("step", tensors, step_of(max_norm=30.0, **how)) == DONE, (
            last_error()
        )


def named(params: dict[str, np.ndarray]) -> list[Tensor]:
    return [tensor_of(p, name=name) for name, p in params.items()]


@pytest.mark.parametrize("name", OURS)
def test_one_digest_with_rust_and_python(name: str, tmp_path: Path) -> None:
    path, (made, options, prepare) = tmp_path / "run.safetensors", OURS[name]
    skips = {"nonfinite": 1} if name == "radamw" else {}
    with optimizer(*made, **options) as opt:
        prepare(opt)
        ours = params()
        train(opt, ours, range(3), **skips)
        assert opt.with_tensors("save", named(ours), path=path) == DONE, last_error()
        assert path.read_bytes()[45:77].decode() == json.loads(EXPECTED.read_text())[name]
        train(opt, ours, range(3, 6), **skips)
    with optimizer(*made, **options) as again:
        prepare(again)
        other = {key: np.zeros_like(p) for key, p in ours.items()}
        assert again.with_tensors("load", named(other), path=path) == DONE, last_error()
        assert library().thalweg_optimizer_steps(again.handle) == 3
        train(again, other, range(3, 6), **skips)
        for key, p in ours.items():
            assert np.array_equal(p, other[key])


def test_every_run_is_tried() -> None:
    assert OURS.keys() == RUNS.keys()


def test_python_goes_on_from_a_file(tmp_path: Path) -> None:
    path, ours = tmp_path / "run.safetensors", params()
    with optimizer("AdamW", lr=0.1) as opt:
        train(opt, ours, range(3))
        assert opt.with_tensors("save", named(ours), path=path) == DONE
        train(opt, ours, range(3, 6))
    theirs = params()
    loaded = thalweg.AdamW(theirs, lr=0.1)
    loaded.load(path)
    for step in range(3, 6):
        grads = {"w": numbers(10 + step, 4160).reshape(64, 65), "b": numbers(20 + step, 3)}
        loaded.step(grads, max_norm=30.0)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_schedule_sets_options_before_each_step() -> None:
    ours, theirs = params(), params()
    python = thalweg.AdamW(
        theirs, lr=lambda step: 0.1 / step, groups=[{"match": "*b", "weight_decay": 0.0}]
    )
    with optimizer("AdamW", lr=0.1) as opt:
        group(opt, "*b", "AdamW", lr=0.1, weight_decay=0.0)
        for step in range(1, 4):
            opt.do("set", 0, options_of("AdamW", lr=0.1 / step))
            opt.do("set", 1, options_of("AdamW", lr=0.1 / step, weight_decay=0.0))
            train(opt, ours, range(step, step + 1))
            grads = {"w": numbers(10 + step, 4160).reshape(64, 65), "b": numbers(20 + step, 3)}
            python.step(grads, max_norm=30.0)
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("state", [FULL, COMPACT])
def test_lent_state_is_updated_by_the_program(state: int, tmp_path: Path) -> None:
    """A program that updates with threads of its own writes the files of the others."""
    files = []
    for lends in (False, True):
        with optimizer("AdamW", state) as opt:
            ours = params()
            if not lends:
                train(opt, ours, range(3))
            else:
                for step in range(3):
                    grads = {
                        "w": numbers(10 + step, 4160).reshape(64, 65),
                        "b": numbers(20 + step, 3),
                    }
                    given = [tensor_of(ours[name], grads[name], name=name) for name in ("b", "w")]
                    tensors = (Tensor * 2)(*given)
                    opt.do("lend", tensors, 2)
                    assert [tensor.step for tensor in tensors] == [step + 1] * 2
                    how = step_of(max_norm=30.0, threads=1)
                    assert call("update", list(tensors), options_of("AdamW"), 1, how) == DONE
                    opt.do("count", tensors, 2)
            path = tmp_path / f"{lends}.safetensors"
            # The order in the file is that of the first step.
            order = [tensor_of(ours[name], name=name) for name in ("b", "w")]
            assert opt.with_tensors("save", order, path=path) == DONE
            loaded = thalweg.AdamW(params(), state=("full", "bfloat16", "compact")[state])
            loaded.load(path)
            files.append({key: leaf["exp_avg_sq"].tobytes() for key, leaf in loaded.state.items()})
            files[-1] |= {key: p.tobytes() for key, p in loaded.params.items()}
    assert files[0] == files[1]


def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    path, ours = tmp_path / "run.safetensors", params()
    with optimizer("AdamW") as opt:
        train(opt, ours, range(2))
        assert opt.with_tensors("save", named(ours), path=path) == DONE
        whole = path.read_bytes()
        before = {name: p.tobytes() for name, p in ours.items()}
        grads = {"w": numbers(9, 4160).reshape(64, 65), "b": numbers(9, 3)}
        bad = grads["b"].copy()
        bad[1] = np.nan
        short, other = numbers(1, 2), numbers(1, 3)
        damaged = tmp_path / "damaged.safetensors"
        damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

        def tensor(name: str, g: Any = None, p: Any = None) -> Tensor:
            return tensor_of(ours[name] if p is None else p, g, name=name)

        state = tensor("b", grads["b"])
        state.state[0] = other.ctypes.data
        rows = tensor("b", grads["b"])
        rows.rows = 3
        nameless = tensor_of(ours["b"], grads["b"])
        shape = tensor("b", grads["b"])
        shape.shape, shape.dims = (c.c_size_t * 2)(2, 2), 2
        cases: list[tuple[str, list[Tensor], dict[str, Any], int, str]] = [
            ("step", [tensor("w", grads["w"]), tensor("b", bad)], {}, NONFINITE, "1 of 'b'"),
            (
                "step",
                [tensor("b", short, short.copy())],
                {},
                INVALID,
                "'b': the parameter must have",
            ),
            ("step", [state], {}, INVALID, "tensor 0 'b': state, state_dtype"),
            ("step", [rows], {}, INVALID, "tensor 0 'b': rows and group"),
            ("step", [nameless], {}, INVALID, "tensor 0: name must not be NULL"),
            ("step", [shape], {}, INVALID, "shape must have 3 elements as len says, got [2, 2]"),
            ("step", [tensor("b", grads["b"])] * 2, {}, INVALID, "overlaps p of tensor 0 'b'"),
            ("step", [tensor("b", ours["b"])], {}, INVALID, "tensor 0 'b': g overlaps p"),
            ("step", [tensor("b", None)], {}, INVALID, "g must not be NULL"),
            (
                "step",
                [tensor("b", grads["b"])],
                {"threads": -1},
                INVALID,
                "threads must be at least",
            ),
            ("step", [tensor("b", grads["b"])], {"nonfinite": 3}, INVALID, "THALWEG_IGNORE, got 3"),
            ("step", [tensor("b", grads["b"])], {"max_norm": -1.0}, INVALID, "max_norm must be"),
            ("step", [tensor("b", grads["b"])], {"scale": np.inf}, INVALID, "scale must be finite"),
            ("lend", [tensor("b", p=short)], {}, INVALID, "must have 3 elements"),
            ("count", [tensor("w"), tensor_of(other, name="x")], {}, INVALID, "does not have it"),
            ("save", [tensor("w")], {}, INVALID, "'b': the file needs the parameter too"),
            ("save", [tensor("w"), tensor_of(other, name="b"), state], {}, INVALID, "overlaps"),
            ("load", [tensor("w")], {}, INVALID, "'b': the file has it"),
            ("load", [tensor("w"), tensor("b", p=short)], {}, INVALID, "'b'"),
            ("load", named(ours), {"path": damaged}, -3, "checksum"),
            ("load", named(ours), {"path": tmp_path / "none"}, -3, "none"),
            ("save", named(ours), {"path": tmp_path / "no" / "dir"}, -3, "cannot open"),
        ]
        for name, tensors, given, code, text in cases:
            how: tuple[Any, ...] = ()
            at = given.get("path", path) if name in ("save", "load") else None
            if name == "step":
                how = (step_of(**given),)
            if name == "save" and "path" not in given and "overlaps" in text:
                tensors[2] = tensor_of(other, name="c")
            assert opt.with_tensors(name, tensors, *how, path=at) == code, (text, last_error())
            assert text in last_error(), last_error()
            assert library().thalweg_optimizer_steps(opt.handle) == 2
            assert {name: p.tobytes() for name, p in ours.items()} == before
        skip = step_of(nonfinite=1)
        assert opt.with_tensors("step", [tensor("b", bad)], skip) == SKIPPED
        assert skip.refused == 1
        assert path.read_bytes() == whole
        with optimizer("Lion") as lion:
            assert lion.with_tensors("load", named(ours), path=path) == MISMATCH
            assert last_error() == "the file is of 'AdamW', the optimizer is Lion"
        assert {name: p.tobytes() for name, p in ours.items()} == before


def test_options_of_optimizers_are_checked_when_they_are_given() -> None:
    handle = c.c_void_p()
    new = library().thalweg_optimizer_new
    for options, state, text in [
        (options_of("AdamW", lr=-1.0), FULL, "lr must be finite and at least 0, got -1.0"),
        (options_of("AdamW", beta2=1.0), FULL, "beta2 must be at least 0 and less than 1"),
        (options_of("AdamW", momentum=0.9), FULL, "AdamW has no momentum; it must be 0"),
        (options_of("SGD", amsgrad=1), FULL, "SGD has no amsgrad; it must be 0"),
        (options_of("AdamW", amsgrad=2), FULL, "amsgrad must be 0 or 1, got 2"),
        (options_of("AdamW"), 3, "state must be THALWEG_FULL"),
        (
            options_of("AdamW", amsgrad=1),
            COMPACT,
            "state must be THALWEG_FULL with amsgrad, got THALWEG_COMPACT",
        ),
        (options_of("SGD"), COMPACT, "state must be THALWEG_FULL or THALWEG_STATE_BFLOAT16"),
        (None, FULL, "thalweg_options must not be NULL"),
    ]:
        assert new(handle, options, state) == INVALID
        assert text in last_error()
        assert handle.value is None
    assert new(None, options_of("AdamW"), FULL) == INVALID
    with optimizer("AdamW") as opt:
        assert opt.try_("group", None, options_of("AdamW")) == INVALID
        assert opt.try_("group", b"\xff", options_of("AdamW")) == INVALID
        assert "UTF-8" in last_error()
        assert opt.try_("group", b"*", options_of("Adam")) == INVALID
        assert last_error() == "the rule must be that of the optimizer"
        assert opt.try_("set", 1, options_of("AdamW")) == INVALID
        assert "group must be at most 0, got 1" in last_error()
        assert opt.try_("set", 0, options_of("AdamW", maximize=1)) == INVALID
        assert last_error() == "maximize must be that of the optimizer"
        train(opt, params(), range(1))
        assert opt.try_("group", b"*", options_of("AdamW")) == INVALID
        assert "before the first parameters" in last_error()
    for name in ("step", "lend", "count"):
        function = getattr(library(), f"thalweg_optimizer_{name}")
        assert function(None, None, 0, *([None] if name == "step" else [])) == INVALID
        assert last_error() == "the optimizer must not be NULL"
    library().thalweg_optimizer_free(None)
    assert library().thalweg_optimizer_steps(None) == 0


def test_a_number_of_threads_is_at_least_one() -> None:
    for threads in (0, -3):
        assert library().thalweg_set_num_threads(threads) == INVALID
        assert last_error().endswith(f"got '{threads}'" if threads == 0 else f"got {threads}")
    assert library().thalweg_set_num_threads(2) == DONE


def test_sizes_of_structs_are_checked() -> None:
    p, g = numbers(1, 4), numbers(2, 4)

    def step(tensor: Tensor, options: Any, how: Any) -> int:
        return call("update", [tensor], options, 1, how)

    for field, size in [("tensor", 0), ("tensor", 184), ("options", 1), ("step", 5000)]:
        given: dict[str, Any] = {
            "tensor": tensor_of(p, g, step=1),
            "options": options_of("SGD"),
            "step": step_of(),
        }
        given[field].size = size
        assert step(given["tensor"], given["options"], given["step"]) == INVALID
        assert f"the size of thalweg_{field} must be sizeof(thalweg_{field})" in last_error()

    class Longer(c.Structure):
        """The struct of a later version."""

        _fields_ = (("known", Step), ("unknown", c.c_double))

    longer = Longer(step_of(), 0.0)
    longer.known.size = c.sizeof(Longer)
    pointer = c.cast(c.pointer(longer), c.POINTER(Step))
    assert step(tensor_of(p, g, step=1), options_of("SGD"), pointer) == DONE
    assert longer.known.clip == 1.0
    longer.unknown = 1.0
    assert step(tensor_of(p, g, step=1), options_of("SGD"), pointer) == INVALID
    assert "does not know" in last_error()
