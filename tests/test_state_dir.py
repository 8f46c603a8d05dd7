"""Parameters and state in memory-mapped files: the same bits as in memory, in any process."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from conftest import unchanged
from mapping import bits, gradients, opened, start, undisturbed
from processes import in_fork, needs_fork
from rules import RULES
from thalweg._core import Word
from thalweg.disk.names import quoted, unquoted
from thalweg.mapped import params as parameters
from thalweg.mapped import progress

if TYPE_CHECKING:
    from collections.abc import Callable

every_rule = pytest.mark.parametrize(
    "rule", ["AdamW", "AMSGrad", "ScheduleFreeAdamW", "SGD", "SGDW, Nesterov"]
)


def mapped(path: Path, array: np.ndarray, mode: Any = "r+") -> np.ndarray:
    np.save(path, array)
    return np.lib.format.open_memmap(path, mode=mode)


def words(directory: Path) -> np.ndarray:
    return np.fromfile(directory / "progress", "<u8")


def put(directory: Path, **values: int) -> None:
    """Change words of the record."""
    found = words(directory)
    for name, value in values.items():
        found[getattr(Word, name.upper())] = value
    found.tofile(directory / "progress")


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".state.lock"
    }


# Mapped arrays without a state_dir


@every_rule
@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_parameters_and_gradients_can_be_maps(tmp_path: Path, rule: str, mode: str) -> None:
    w, g = np.linspace(-1, 1, 10_000, dtype=np.float32), np.linspace(3, -2, 10_000)
    params = {"w": mapped(tmp_path / "w.npy", w)}
    grads = {"w": mapped(tmp_path / "g.npy", g, mode)}
    opt, usual = RULES[rule].make(params), RULES[rule].make({"w": w})
    for _ in range(3):
        opt.step(grads)
        usual.step({"w": g})
    assert bits(opt) == bits(usual)
    params["w"].flush()
    assert np.array_equal(np.load(tmp_path / "w.npy"), w)
    assert np.array_equal(np.load(tmp_path / "g.npy"), g)


def test_functions_accept_maps(tmp_path: Path) -> None:
    arrays = [np.linspace(k, 1, 1000, dtype=np.float32) for k in range(4)]
    maps = [mapped(tmp_path / f"{k}.npy", a, "r" if k == 1 else "r+") for k, a in enumerate(arrays)]
    thalweg.functional.adamw(*arrays, 3, lr=0.1)
    thalweg.functional.adamw(*maps, 3, lr=0.1)
    assert [m.tobytes() for m in maps] == [a.tobytes() for a in arrays]


# Training with a state_dir


@every_rule
def test_results_have_the_bits_of_an_optimizer_in_memory(tmp_path: Path, rule: str) -> None:
    opt = opened(tmp_path, rule)
    for step in range(1, 5):
        opt.step(gradients(step), max_norm=1e3)
    assert bits(opt) == bits(undisturbed(rule, 4))
    for name, leaf in opt.state.items():
        for key, array in leaf.items():
            if key != "step":
                path = tmp_path / "state" / f"{quoted(name)}.{key}.npy"
                assert np.load(path, mmap_mode="r").tobytes() == array.tobytes()
                assert isinstance(array, np.memmap)


@every_rule
def test_a_reopened_run_continues_with_the_same_bits(tmp_path: Path, rule: str) -> None:
    for step in range(1, 7):
        opt = opened(tmp_path, rule)
        assert opt.step_count == step - 1
        if step % 2:
            opt.step(gradients(step))
        else:
            with opt.open_step() as part:
                for name, gradient in gradients(step).items():
                    part({name: gradient})
            del part
        before = bits(opt)
        if step % 3:
            opt.close()
        del opt
        again = opened(tmp_path, rule)
        assert bits(again) == before
        del again
    assert before == bits(undisturbed(rule, 6))


def test_another_process_continues_the_run(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mapping import *\n"
        "opt = opened(Path(sys.argv[1]))\n"
        "opt.step(gradients(opt.step_count + 1))\n"
    )
    for _ in range(3):
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", program, tmp_path],
            check=True,
            cwd=Path(__file__).parent,
            timeout=60,
        )
        found = words(tmp_path)
        assert found[Word.FLUSHED] == found[Word.FINISHED] == found[Word.BEGUN]
    assert bits(opened(tmp_path)) == bits(undisturbed("AdamW", 3))


def test_counts_of_skips_survive_reopening(tmp_path: Path) -> None:
    opt = opened(tmp_path, nonfinite="skip")
    opt.step(gradients(1))
    for _ in range(2):
        opt.step({name: np.full(g.shape, np.nan) for name, g in gradients(2).items()})
    before = bits(opt)
    opt.close()
    assert bits(opened(tmp_path, nonfinite="skip")) == before
    assert before["counts"] == (1, 2, 2)


def test_reset_and_loading_work_as_in_memory(tmp_path: Path) -> None:
    opt, usual = opened(tmp_path), undisturbed("AdamW", 2)
    saved = usual.state_dict()
    for step in range(1, 4):
        opt.step(gradients(step))
    opt.reset("body*")
    assert opt.state["body.0"]["step"] == 0
    assert not opt.state["body.0"]["exp_avg"].any()
    opt.load_state_dict(saved)
    for name, array in usual.params.items():
        opt.params[name][...] = array
    before = bits(opt)
    assert before == bits(usual)
    opt.close()
    assert bits(opened(tmp_path)) == before


def test_frozen_and_thawed_parameters_keep_their_state_in_files(tmp_path: Path) -> None:
    frozen = [{"match": "Body", "frozen": True}]
    opt = opened(tmp_path, groups=frozen)
    opt.step(gradients(1))
    assert "Body" not in opt.state
    opt.groups[1].frozen = False
    opt.step(gradients(2))
    opt.groups[1].frozen = True
    opt.step(gradients(3))
    before = bits(opt)
    opt.close()
    again = opened(tmp_path, groups=frozen)
    assert bits(again) == before
    assert again.state["Body"]["step"] == 1
    again.reset()
    again.close()
    again = opened(tmp_path)
    assert again.step_count == 0
    assert not again.state["Body"]["exp_avg"].any()


def test_extend_accepts_only_mapped_parameters(tmp_path: Path) -> None:
    params = thalweg.map_params(tmp_path, {"w": np.ones(3)})
    opt = thalweg.AdamW(params, state_dir=tmp_path)
    opt.step({"w": np.ones(3)})
    with unchanged(opt), pytest.raises(ValueError, match="an array in memory"):
        opt.extend({**params, "head": np.ones(2)})
    params |= thalweg.map_params(tmp_path, {"head": np.zeros(2)})
    opt.extend(params)
    opt.step({"w": np.ones(3), "head": np.ones(2)})
    before = bits(opt)
    opt.close()
    params = thalweg.map_params(tmp_path, {"w": np.ones(3), "head": np.zeros(2)})
    again = thalweg.AdamW(params, state_dir=tmp_path)
    assert bits(again) == before
    assert (again.state["w"]["step"], again.state["head"]["step"]) == (2, 1)


def test_rebind_accepts_only_maps_of_the_directory(tmp_path: Path) -> None:
    opt = opened(tmp_path)
    with (
        unchanged(opt),
        pytest.raises(ValueError, match=r"'body\.0' must map a file .*, got an array in memory"),
    ):
        opt.rebind(start())
    again = thalweg.map_params(tmp_path, start())
    opt.rebind(again)
    opt.step(gradients(1))
    assert opt.params["Body"] is again["Body"]


@pytest.mark.parametrize(
    "view",
    [lambda a: a, lambda a: a[:, 1:], lambda a: np.asarray(a).T, lambda a: a[::2, ::-1]],
    ids=["map", "slice", "transposed", "strided"],
)
def test_views_of_maps_can_be_parameters(tmp_path: Path, view: Callable[[Any], Any]) -> None:
    array = np.linspace(0, 1, 40, dtype=np.float32).reshape(5, 8)
    store, usual = mapped(tmp_path / "store.npy", array), view(array.copy())
    opt, plain = thalweg.Adam(view(store), state_dir=tmp_path), thalweg.Adam(usual)
    g = np.arange(usual.size, dtype=float).reshape(usual.shape)
    for _ in range(2):
        opt.step(g)
        plain.step(g)
    assert bits(opt) == bits(plain)
    opt.close()
    assert bits(thalweg.Adam(view(store), state_dir=tmp_path)) == bits(plain)


# Parameters that are refused


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda *_: np.ones(3), "an array in memory"),
        (lambda here, _: mapped(here / "w.npy", np.ones(3)) + 1, "an array in memory"),
        (lambda here, _: mapped(here / "w.npy", np.ones(3), "c"), "a map of mode 'c'"),
        (lambda _, there: mapped(there / "w.npy", np.ones(3)), "a map of .*elsewhere"),
        (lambda here, _: gone(here / "w.npy"), "a map of .*, which was removed"),
    ],
    ids=["memory", "computed", "private", "elsewhere", "removed"],
)
def test_a_parameter_that_maps_no_file_of_the_directory_is_refused(
    tmp_path: Path, made: Callable[[Path, Path], np.ndarray], said: str
) -> None:
    here, there = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    there.mkdir()
    param = made(here, there)
    with pytest.raises(ValueError, match=f"'w' must map a file .*, got {said}.*map_params"):
        thalweg.AdamW({"w": param}, state_dir=here)
    assert {*files(here)} <= {"w.npy"}


def gone(path: Path) -> np.ndarray:
    array = mapped(path, np.ones(3))
    path.unlink()
    return array


def test_a_frozen_parameter_need_not_be_a_map(tmp_path: Path) -> None:
    params = {"w": mapped(tmp_path / "w.npy", np.ones(3)), "other": np.arange(3)}
    groups = [{"match": "other", "frozen": True}]
    opt = thalweg.SGD(params, lr=1.0, groups=groups, state_dir=tmp_path)
    opt.step({"w": np.ones(3)})
    opt.close()
    assert thalweg.SGD(params, lr=1.0, groups=groups, state_dir=tmp_path).step_count == 1


def test_a_missing_directory_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a directory"):
        thalweg.AdamW({"w": np.ones(3)}, state_dir=tmp_path / "none")
    assert not (tmp_path / "none").exists()


# A directory of another model


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda d: opened(d, "SGDW"), "rule: saved 'AdamW', here 'SGDW'"),
        (lambda d: opened(d, maximize=True), "maximize: saved False, here True"),
        (
            lambda d: thalweg.AdamW(thalweg.map_params(d, {"new": np.ones(2)}), state_dir=d),
            "missing: 'new'\n(.*\n)*.*unexpected: 'Body'",
        ),
        (
            lambda d: thalweg.AdamW(
                {**thalweg.map_params(d, start()), "none": mapped(d / "x.npy", np.ones(3))},
                state_dir=d,
            ),
            "dtype of .*'none': saved '<f4', here '<f8'\n(.*\n)*.*shape of",
        ),
        (
            lambda d: thalweg.AdamW(
                {**thalweg.map_params(d, start()), "Body": mapped(d / "x.npy", np.ones(11))},
                state_dir=d,
            ),
            "file of parameter 'Body': saved 'params/%42ody.npy', here 'x.npy'",
        ),
    ],
    ids=["rule", "option", "names", "shape", "file"],
)
def test_another_model_is_refused_with_the_differences(
    tmp_path: Path, make: Callable[[Path], Any], said: str
) -> None:
    opened(tmp_path).close()
    before = files(tmp_path)
    with pytest.raises(ValueError, match=said):
        make(tmp_path)
    after = files(tmp_path)
    assert {path: after[path] for path in before} == before


def test_hyperparameters_and_groups_are_those_of_the_constructor(tmp_path: Path) -> None:
    opened(tmp_path).close()
    opt = opened(tmp_path, betas=(0.5, 0.5), groups=[{"match": "*", "lr_scale": 2.0}])
    assert opt.groups[0].betas == (0.5, 0.5)
    assert opt.resolve("Body")["lr_scale"] == 2.0


def test_a_state_file_that_is_missing_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    opt = opened(tmp_path)
    opt.step(gradients(1))
    opt.close()
    path = tmp_path / "state" / "%42ody.exp_avg.npy"
    kept = path.read_bytes()
    np.save(path, np.zeros(12))
    with pytest.raises(ValueError, match=r"as exp_avg of 'Body' is, got float64 \(12,\)"):
        opened(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        opened(tmp_path)
    path.write_bytes(kept)
    assert opened(tmp_path).step_count == 1


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 2}', b"\xff"])
def test_a_malformed_description_is_refused(tmp_path: Path, content: bytes) -> None:
    opened(tmp_path).close()
    (tmp_path / "optimizer.json").write_bytes(content)
    with pytest.raises(ValueError, match="must have format 1"):
        opened(tmp_path)


def test_a_missing_description_is_refused(tmp_path: Path) -> None:
    opt = opened(tmp_path)
    opt.step(gradients(1))
    opt.close()
    (tmp_path / "optimizer.json").unlink()
    with pytest.raises(ValueError, match=r"optimizer\.json is missing"):
        opened(tmp_path)


@pytest.mark.parametrize("broken", ["short", "magic", "format", "model"])
def test_a_malformed_record_is_refused(tmp_path: Path, broken: str) -> None:
    opened(tmp_path).close()
    if broken == "short":
        words(tmp_path)[:-1].tofile(tmp_path / "progress")
    else:
        put(tmp_path, **{broken: 77})
    with pytest.raises(ValueError, match="not a progress record of this optimizer"):
        opened(tmp_path)


# Interrupted steps, and restarts of the machine


def test_after_an_interrupted_step_the_advice_of_the_message_works(tmp_path: Path) -> None:
    directory, checkpoint = tmp_path / "dir", tmp_path / "run.safetensors"
    opt = opened(directory)
    for step in (1, 2):
        opt.step(gradients(step))
    opt.save(checkpoint)
    opt.step(gradients(3))
    opt.close()
    put(directory, begun=99)
    with pytest.raises(ValueError, match="interrupted") as refused:
        opened(directory)
    told = str(refused.value)
    assert "number 99; step_count is 3" in told
    assert f"opt.load({str(checkpoint)!r})" in told
    assert f"remove {directory / 'progress'}" in told

    (directory / "progress").unlink()
    opt = opened(directory)
    for refuses in (
        lambda: opt.step(gradients(3)),
        lambda: opt.open_step().__enter__(),
        opt.state_dict,
        opt.reset,
        lambda: thalweg.EMA(dict(opt.params), 0.5).swapped().__enter__(),
    ):
        with pytest.raises(ValueError, match="load a checkpoint with its parameters first"):
            refuses()
    opt.load(checkpoint, params=False)
    opt.close()
    with pytest.raises(ValueError, match="interrupted"):
        opened(directory)  # the parameters were not loaded

    (directory / "progress").unlink()
    opt = opened(directory)
    opt.load(checkpoint)
    opt.close()
    opt = opened(directory)
    opt.step(gradients(3))
    assert bits(opt) == bits(undisturbed("AdamW", 3))


def test_only_a_checkpoint_with_parameters_is_recorded(tmp_path: Path) -> None:
    opt = opened(tmp_path / "dir")
    opt.save(tmp_path / "state", params=False)
    manager = thalweg.CheckpointManager(tmp_path / "dir", background=True)
    path = manager.save(opt)  # in the same directory: the locks are separate
    manager.close()
    opt.save(tmp_path / "state", params=False)
    told = json.loads((tmp_path / "dir" / "optimizer.json").read_text())
    assert told["checkpoint"] == str(path)


def test_without_a_checkpoint_the_advice_is_to_begin_again(tmp_path: Path) -> None:
    opened(tmp_path).close()
    put(tmp_path, begun=99)
    with pytest.raises(ValueError, match=r"saved or loaded no checkpoint.*start again"):
        opened(tmp_path)


@pytest.mark.parametrize("flushed", [True, False])
def test_after_a_restart_of_the_machine_only_flushed_arrays_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flushed: bool
) -> None:
    opt = opened(tmp_path)
    opt.step(gradients(1))
    opt.flush()
    if not flushed:
        opt.step(gradients(2))
    before, left = bits(opt), (tmp_path / "progress").read_bytes()
    opt.close()
    (tmp_path / "progress").write_bytes(left)
    monkeypatch.setattr(progress, "boot_number", lambda: 4711)
    if flushed:
        again = opened(tmp_path)
        assert bits(again) == before
        assert words(tmp_path)[Word.BOOT] == 4711
    else:
        with pytest.raises(ValueError, match="the machine was restarted"):
            opened(tmp_path)


@pytest.mark.parametrize("boot", [0, 4711])
def test_a_machine_without_a_boot_id_counts_as_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: int
) -> None:
    monkeypatch.setattr(progress, "boot_number", lambda: boot)
    opened(tmp_path).close()
    put(tmp_path, flushed=Word.NOTHING)
    if boot:
        assert opened(tmp_path).step_count == 0
    else:
        with pytest.raises(ValueError, match="was restarted"):
            opened(tmp_path)


def test_the_first_write_after_a_flush_removes_its_mark(tmp_path: Path) -> None:
    opt = opened(tmp_path)
    assert words(tmp_path)[Word.FLUSHED] == Word.NOTHING  # the parameters may not be flushed
    opt.flush()
    found = words(tmp_path)
    assert found[Word.FLUSHED] == found[Word.FINISHED]
    opt.step(gradients(1))
    assert words(tmp_path)[Word.FLUSHED] == Word.NOTHING


def test_recording_a_checkpoint_keeps_the_mark_of_a_flush(tmp_path: Path) -> None:
    opt = opened(tmp_path)
    opt.flush()
    opt.save(tmp_path / "run.safetensors")
    found = words(tmp_path)
    assert found[Word.FLUSHED] == found[Word.FINISHED] == found[Word.BEGUN]


def test_the_record_shows_whether_a_write_is_open(tmp_path: Path) -> None:
    opt = opened(tmp_path)

    def open_writings() -> int:
        found = words(tmp_path)
        return int(found[Word.BEGUN] - found[Word.FINISHED])

    opt.step(gradients(1))
    opt.reset("none")
    with pytest.raises(thalweg.NonFiniteError):
        opt.step({name: np.full(g.shape, np.inf) for name, g in gradients(2).items()})
    assert open_writings() == 0
    with opt.open_step() as part:
        assert open_writings() == 1
        part({"Body": np.ones(11)})
        assert open_writings() == 1
        with pytest.raises(thalweg.BusyError):
            opt.flush()
    assert open_writings() == 0
    with thalweg.EMA(dict(opt.params), 0.5).swapped():
        assert open_writings() == 1
        with pytest.raises(thalweg.BusyError, match="averages"):
            opt.step(gradients(2))
    assert open_writings() == 0
    steps = words(tmp_path)[Word.STEPS :]
    assert [*steps] == [opt.state[name]["step"] for name in sorted(opt.params)]


# Other users of the directory


@pytest.mark.parametrize("mirror", [lambda o: thalweg.EMA(o, 0.5), thalweg.Accumulator])
def test_sums_and_averages_that_would_be_lost_are_refused(
    tmp_path: Path, mirror: Callable[[Any], Any]
) -> None:
    opt = opened(tmp_path)
    with unchanged(opt), pytest.raises(ValueError, match="in memory, and lost"):
        mirror(opt)
    mirror(dict(opt.params))


def test_a_second_user_of_the_directory_is_refused(tmp_path: Path) -> None:
    opt = opened(tmp_path)
    with pytest.raises(thalweg.BusyError, match=f"process {os.getpid()}"):
        opened(tmp_path)
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(thalweg.BusyError):
        thalweg.AdamW(opt.params, state_dir=link)
    program = (
        "import sys, thalweg\n"
        "try: thalweg.map_params(sys.argv[1], [])\n"
        "except thalweg.BusyError as error: print(error)\n"
    )
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, tmp_path], check=True, capture_output=True, timeout=60
    )
    assert f"process {os.getpid()};".encode() in told.stdout
    del opt
    assert opened(tmp_path).step_count == 0


def test_deleting_a_closed_optimizer_keeps_the_lock_of_the_next_one(tmp_path: Path) -> None:
    opt = opened(tmp_path)
    opt.close()
    following = opened(tmp_path)
    del opt
    gc.collect()
    with pytest.raises(thalweg.BusyError):
        opened(tmp_path)
    following.step(gradients(1))


def test_an_optimizer_whose_parameters_hold_averages_keeps_the_lock(tmp_path: Path) -> None:
    params = thalweg.map_params(tmp_path, start())
    opt, ema = thalweg.AdamW(params, state_dir=tmp_path), thalweg.EMA(params, 0.5)
    with ema.swapped():
        del opt
        gc.collect()
        with pytest.raises(thalweg.BusyError):
            opened(tmp_path)
    opened(tmp_path)


def test_state_files_without_a_record_are_not_reused(tmp_path: Path) -> None:
    opt = opened(tmp_path)
    opt.step(gradients(1))
    opt.close()
    for name in ("progress", "optimizer.json"):
        (tmp_path / name).unlink()
    opt = opened(tmp_path)
    assert opt.step_count == 0
    assert not opt.state["Body"]["exp_avg"].any()


def test_a_constructor_that_fails_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in memory"):
        thalweg.AdamW({"w": np.ones(3)}, state_dir=tmp_path)
    with pytest.raises(ValueError, match="lr"):
        opened(tmp_path, groups=[{"match": "*", "lr": -1.0}])
    opened(tmp_path)


def test_after_close_nothing_is_written(tmp_path: Path) -> None:
    opt = opened(tmp_path)
    opt.step(gradients(1))
    opt.close()
    opt.close()
    more = thalweg.map_params(tmp_path, {"more": np.ones(3)})
    for refuses in (
        lambda: opt.step(gradients(2)),
        opt.reset,
        lambda: opt.open_step().__enter__(),
        lambda: opt.extend({**opt._held.tree, **more}),
    ):
        with unchanged(opt), pytest.raises(ValueError, match="is closed"):
            refuses()
    usual = undisturbed("AdamW", 1)
    usual.flush()
    usual.close()
    usual.step(gradients(2))
    assert usual.state_dir is None


@needs_fork
def test_a_forked_child_can_train_only_a_copy(tmp_path: Path) -> None:
    opt = opened(tmp_path)
    opt.step(gradients(1))

    def child() -> str:
        said = []
        attempts = (
            lambda: opt.step(gradients(2)),
            opt.reset,
            lambda: opt.open_step().__enter__(),
            lambda: opened(tmp_path),
        )
        for attempt in attempts:
            with pytest.raises((ValueError, thalweg.BusyError)) as refused:
                attempt()
            said.append(str(refused.value).split(";")[0])
        own = copy.deepcopy(opt)
        own.step(gradients(2))
        opt.close()
        return f"{said.count('this process is a fork of the one that trains in this state_dir')} {own.step_count}"  # noqa: E501

    before = bits(opt)
    assert in_fork(child) == "3 2"
    assert bits(opt) == before
    with pytest.raises(thalweg.BusyError):
        opened(tmp_path)
    opt.step(gradients(2))
    assert bits(opt) == bits(undisturbed("AdamW", 2))


def pickled(both: Any) -> Any:
    return pickle.loads(pickle.dumps(both))  # noqa: S301 - our own


@needs_fork
def test_a_child_that_leaves_the_block_of_its_parent_writes_nothing(tmp_path: Path) -> None:
    opt = opened(tmp_path)
    with opt.open_step() as part:
        part({"Body": np.ones(11)})

        def child() -> str:
            part.__exit__(None, None, None)
            opt.groups[0].frozen = False
            with pytest.raises(ValueError, match="fork of"):
                opt.extend(
                    {**opt._held.tree, **thalweg.map_params(tmp_path / "x", {"x": np.ones(2)})}
                )
            return "left"

        before = files(tmp_path)
        assert in_fork(child) == "left"
        after = files(tmp_path)
        assert {path: after[path] for path in before} == before


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_copies_are_in_memory(tmp_path: Path, copied: Callable[[Any], Any]) -> None:
    opt = opened(tmp_path)
    opt.step(gradients(1))
    before = files(tmp_path)
    params, other = copied((opt._held.tree, opt))
    other.step(gradients(2))
    assert other.state_dir is None
    assert params["Body"] is other.params["Body"]
    assert bits(other) == bits(undisturbed("AdamW", 2))
    assert files(tmp_path) == before


# Making parameters


@pytest.mark.parametrize(
    "name",
    [
        "w",
        "W",
        "a.b",
        "",
        ".",
        "..",
        ".w",
        "con",
        "nul.b",
        "lpt1",
        "a/b",
        "a\\b",
        "é ü",
        "%",
        "%41",
    ],
)
def test_names_become_valid_file_names_and_back(name: str) -> None:
    path = quoted(name)
    assert unquoted(path) == name
    assert re.fullmatch(r"[a-z0-9_%-][a-z0-9_.%-]*", path)
    assert path.split(".")[0] not in ("con", "nul", "lpt1")


@pytest.mark.parametrize("name", ["x" * 500, "~", "a~/b", "A" * 100 + "." * 80])
def test_any_name_can_be_a_file(tmp_path: Path, name: str) -> None:
    path = quoted(name)
    assert unquoted(path) == name
    assert all(len(part) < 200 for part in path.split("/"))
    params = thalweg.map_params(tmp_path, {name: np.ones(2), "another": np.zeros(1)})
    opt = thalweg.SGD(params, lr=1.0, momentum=0.5, state_dir=tmp_path)
    opt.step({name: np.ones(2), "another": None})
    assert (tmp_path / "params" / f"{path}.npy").exists()


def test_parameters_made_from_shapes_take_no_disk_space(tmp_path: Path) -> None:
    spec = SimpleNamespace(shape=(1 << 28,), dtype=np.dtype(np.float32))
    params = thalweg.map_params(tmp_path, {"big": spec, "small": np.ones(3, np.float32)})
    opt = thalweg.AdamW(params, state_dir=tmp_path)
    assert opt.params["big"].shape == (1 << 28,)
    used = sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("*.npy"))
    assert used < 1 << 20


def test_existing_parameters_keep_their_values(tmp_path: Path) -> None:
    thalweg.map_params(tmp_path, {"w": np.ones(3)})["w"][0] = 5.0
    assert [*thalweg.map_params(tmp_path, {"w": np.zeros(3)})["w"]] == [5.0, 1.0, 1.0]
    for other in (np.zeros(4), np.zeros(3, np.float32)):
        with pytest.raises(ValueError, match="use another directory"):
            thalweg.map_params(tmp_path, {"new": np.ones(2), "w": other})
    assert [path.name for path in (tmp_path / "params").iterdir()] == ["w.npy"]
    with pytest.raises(TypeError, match=r"leaf 'w' of like must have .*, got int"):
        thalweg.map_params(tmp_path, {"w": 3})


def test_the_first_parameters_appear_all_at_once_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    like, save = {"a": np.ones(3), "b": np.ones(4)}, parameters.make_array

    def interrupted(path: Path, *arguments: Any) -> None:
        if path.name.startswith("b"):
            raise KeyboardInterrupt
        save(path, *arguments)

    monkeypatch.setattr(parameters, "make_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        thalweg.map_params(tmp_path, like)
    assert not (tmp_path / "params").exists()
    monkeypatch.undo()
    other = {"a": np.zeros(3), "b": np.zeros(4)}
    assert not any(array.any() for array in thalweg.map_params(tmp_path, other).values())
    assert not (tmp_path / "params.partial").exists()


def test_the_description_lists_checkpoint_rule_and_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opt = opened(tmp_path)
    monkeypatch.chdir(tmp_path)
    opt.save("run.safetensors")
    told = json.loads((tmp_path / "optimizer.json").read_text())
    assert told["checkpoint"] == str(tmp_path / "run.safetensors")
    assert told["model"]["rule"] == "AdamW"
    assert told["parameters"]["Body"] == {
        "shape": [11],
        "dtype": "<f8",
        "file": "params/%42ody.npy",
        "offset": 128,
    }


@pytest.mark.parametrize(
    "words",
    [
        lambda n: np.zeros(n, np.uint64),  # could be resized
        lambda n: np.zeros(2 * n, np.uint64)[:n],
        lambda n: np.frombuffer(bytearray(n), np.uint8),
        lambda n: np.frombuffer(bytearray(8 * n), np.float64),
        lambda n: np.frombuffer(bytearray(8 * n), ">u8"),
        lambda n: np.frombuffer(bytearray(8 * n), np.uint64)[::-1],
        lambda n: np.frombuffer(bytearray(16 * n), np.uint64)[::2],
        lambda n: np.frombuffer(bytearray(8 * n + 1), np.uint8)[1:].view(np.uint64),
        lambda n: np.frombuffer(bytes(8 * n), np.uint64),
        lambda n: np.frombuffer(bytearray(8 * n - 8), np.uint64),
    ],
)
def test_a_record_of_the_wrong_size_type_or_memory_is_refused(words: Any) -> None:
    opt = thalweg.AdamW({"w": np.ones(3), "b": np.ones(3)})
    with pytest.raises(ValueError, match="the progress record has another length or layout"):
        opt._held.updater.keep_record(words(18))
    opt.step({"w": np.ones(3), "b": np.ones(3)})


def test_at_exit_all_optimizers_are_closed_even_if_one_raises(tmp_path: Path) -> None:
    program = """
import sys
import thalweg
from mapping import gradients, opened
from pathlib import Path

def broken(*_):
    raise OSError("the disk is gone")

runs = [opened(Path(sys.argv[1], str(i)), "SGD") for i in range(12)]
for opt, close in zip(runs, [None, broken, broken, None] * 3):
    opt.step(gradients(1))
    if close:
        opt.close = close
"""
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "the disk is gone" in ended.stderr
    finished = [np.fromfile(tmp_path / str(i) / "progress", "<u8")[6] for i in range(12)]
    assert [number == 2**64 - 1 for number in finished] == [False, True, True, False] * 3
