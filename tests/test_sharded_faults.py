"""What fails on one rank fails on all of them, with its error, and changes nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg.mpi
from fleet import Training, gradients, model
from ranks import Lost, results_of, run
from thalweg.mpi import optimizer
from thalweg.mpi.shares import BLOCK
from thalweg.tree import flatten

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranks import Thread

RANKS = 3
TRAINING = Training(
    thalweg.AdamW, {"lr": 0.1, "groups": [{"match": "*.b", "lr_scale": 0.5}]}, leaves=RANKS
)


def shape(params: dict[str, Any], opt: Any) -> Any:
    return {**gradients(params, 0, 0), "last": np.zeros(3, np.float32)}


def kind(params: dict[str, Any], opt: Any) -> Any:
    return {**gradients(params, 0, 0), "last": "text"}


def missing(params: dict[str, Any], opt: Any) -> Any:
    return {"last": np.zeros(20_000, np.float32)}


def replaced(params: dict[str, Any], opt: Any) -> Any:
    params["last"] = params["last"].copy()
    return gradients(params, 0, 0)


def read_only(params: dict[str, Any], opt: Any) -> Any:
    params["last"].flags.writeable = False
    return gradients(params, 0, 0)


def incomplete(params: dict[str, Any], opt: Any) -> Any:
    return opt.sums()


def of_another(params: dict[str, Any], opt: Any) -> Any:
    total = thalweg.sums(params)
    total.add(gradients(params, 0, 0))
    return total


def rate(params: dict[str, Any], opt: Any) -> Any:
    opt.groups[1].lr_scale = 0.7
    return gradients(params, 0, 0)


def frozen(params: dict[str, Any], opt: Any) -> Any:
    opt.groups[1].frozen = True
    return gradients(params, 0, 0)


def forgotten(params: dict[str, Any], opt: Any) -> Any:
    opt.reset("last")
    return gradients(params, 0, 0)


def schedule(params: dict[str, Any], opt: Any) -> Any:
    opt.lr = lambda step: 1 / 0
    return gradients(params, 0, 0)


def outside(params: dict[str, Any], opt: Any) -> Any:
    opt.lr = lambda step: -1.0
    return gradients(params, 0, 0)


def busy(params: dict[str, Any], opt: Any) -> Any:
    block = thalweg.EMA(opt, decay=0.5).swapped()
    block.__enter__()
    opt._block = block
    return gradients(params, 0, 0)


FAULTS: dict[Any, tuple[type[Exception], str]] = {
    shape: (ValueError, "rank 1: .*'last' must have the shape"),
    kind: (TypeError, "rank 1: .*'last' must be"),
    missing: (ValueError, "rank 1: .*missing"),
    replaced: (ValueError, "rank 1: .*'last' is no longer the array"),
    read_only: (ValueError, "rank 1: .*read-only"),
    incomplete: (ValueError, "rank 1: 0 of the 1 leaves"),
    of_another: (ValueError, "rank 1: the sum is not one of this optimizer"),
    rate: (ValueError, "rank 1 has other hyperparameters for 'layer.b' at step 2 than rank 0"),
    frozen: (ValueError, "rank 1 trains other parameters than rank 0"),
    forgotten: (ValueError, "rank 1 has other numbers of updates at step 2 than rank 0"),
    schedule: (ZeroDivisionError, "rank 1: division by zero"),
    outside: (ValueError, "rank 1: lr must be"),
    busy: (thalweg.BusyError, "rank 1: "),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_step_that_one_rank_cannot_take(fault: Any) -> None:
    error, match = FAULTS[fault]

    def program(rank: Thread) -> Any:
        params, opt = TRAINING.of(rank)
        TRAINING.run(params, opt, 0, 1)
        arrays = dict(opt.params)
        before = {name: array.tobytes() for name, array in arrays.items()}
        grads = gradients(params, rank.rank, 1)
        if rank.rank == 1:
            grads = fault(params, opt)
        with pytest.raises(error, match=match) as raised:
            opt.step(grads)
        if fault is not busy or rank.rank != 1:
            assert before == {name: array.tobytes() for name, array in arrays.items()}
        assert opt.step_count == 1
        if fault is busy and rank.rank == 1:
            opt._block.__exit__(None, None, None)
        return str(raised.value)

    said = results_of(RANKS, program)
    assert len(set(said)) == 1
    assert "nothing was changed on any rank" in said[0]


def test_after_a_refusal_the_run_goes_on_with_the_same_bits() -> None:
    params, alone = TRAINING.alone()
    TRAINING.run(params, alone, 0, 2)

    def program(rank: Thread) -> Any:
        own, opt = TRAINING.of(rank)
        TRAINING.run(own, opt, 0, 1)
        with pytest.raises(ValueError, match="rank 2: "):
            opt.step(shape(own, opt) if rank.rank == 2 else gradients(own, rank.rank, 1))
        TRAINING.run(own, opt, 1, 2)
        return flatten(own)

    for own in results_of(RANKS, program):
        for name, array in flatten(params).items():
            assert own[name].tobytes() == array.tobytes()


def test_bad_gradients_raise_the_error_of_one_process() -> None:
    def bad(params: dict[str, Any], leaf: int, step: int) -> dict[str, Any]:
        grads = gradients(params, leaf, step)
        if leaf == 1:
            grads["layer.w"][0, 0], grads["layer.w"][229, 149] = np.nan, np.inf
        return grads

    training = Training(thalweg.AdamW, {}, RANKS, gradients=bad)
    with pytest.raises(thalweg.NonFiniteError) as expected:
        training.run(*training.alone(), 0, 1)

    def program(rank: Thread) -> Any:
        params, opt = training.of(rank)
        with pytest.raises(thalweg.NonFiniteError) as raised:
            training.run(params, opt, 0, 1)
        return str(raised.value), raised.value.nonfinite

    said = results_of(RANKS, program)
    assert said == [(str(expected.value), {"layer.w": 2})] * RANKS


def test_arguments_that_differ() -> None:
    def program(rank: Thread) -> Any:
        params, opt = TRAINING.of(rank)
        limit = 0.5 if rank.rank == 2 else 1
        with pytest.raises(
            ValueError, match=r"rank 2 calls step with max_norm=0.5, rank 0"
        ) as said:
            opt.step(gradients(params, rank.rank, 0), max_norm=limit)
        with pytest.raises(ValueError, match="rank 2 calls step with max_norm='high'"):
            opt.step(gradients(params, 0, 0), max_norm="high" if rank.rank == 2 else 1.0)
        return str(said.value)

    assert len(set(run(RANKS, program)) - {None}) >= 1


@pytest.mark.parametrize("other", ["save", "load", "state_dict", "load_state_dict"])
def test_calls_that_differ(other: str, tmp_path: Any) -> None:
    calls: dict[str, Callable[[Any], Any]] = {
        "save": lambda opt: opt.save(tmp_path / "file"),
        "load": lambda opt: opt.load(tmp_path / "file"),
        "state_dict": lambda opt: opt.state_dict(),
        "load_state_dict": lambda opt: opt.load_state_dict(None),
    }

    def program(rank: Thread) -> Any:
        params, opt = TRAINING.of(rank)
        mine = rank.rank == 1
        call = calls[other] if mine else lambda opt: opt.step(gradients(params, rank.rank, 0))
        with pytest.raises(RuntimeError, match=f"rank 1 calls {other} while rank 0 calls step"):
            call(opt)

    results_of(RANKS, program)
    assert not (tmp_path / "file").exists()


def made(change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> str:
    """What every rank raises if the arguments of rank 1 change."""

    def program(rank: Thread) -> Any:
        params = {**model(0), "long": np.zeros((10_000, 20))}
        options: dict[str, Any] = {"cls": thalweg.AdamW, "lr": 0.1, "leaves": 4}
        options["groups"] = [{"match": "last", "lr_scale": 2.0}]
        if rank.rank == 1:
            change(params, options)
        with pytest.raises((ValueError, TypeError)) as raised:
            thalweg.mpi.sharded(options.pop("cls"), params, rank, **options)
        return str(raised.value)

    said = results_of(RANKS, program)
    assert len(set(said)) == 1
    return said[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p, o: p.pop("scalar"), "rank 1 has no parameter 'scalar', rank 0 has one"),
        (lambda p, o: p.update(more=np.ones(2)), "rank 1 has a parameter 'more', rank 0 has none"),
        (
            lambda p, o: p.update(scalar=np.ones(2)),
            "parameter 'scalar' is float64 (2,) on rank 1, and float32 () on rank 0",
        ),
        (
            lambda p, o: p.update(double=p.pop("double")),
            "rank 1 has the parameters in another order than rank 0",
        ),
        (
            lambda p, o: p.update(long=np.asfortranarray(p["long"])),
            "rank 1 has arrays that lie in memory in another order",
        ),
        (lambda p, o: o.update(lr=0.2), "rank 1 has groups[0]: lr 0.2, rank 0 has 0.1"),
        (lambda p, o: o.update(leaves=5), "rank 1 has leaves 5, rank 0 has 4"),
        (lambda p, o: o.update(cls=thalweg.Lion), "rank 1 has rule 'Lion', rank 0 has 'AdamW'"),
        (lambda p, o: o.update(maximize=True), "rank 1 has options: maximize True, rank 0 has"),
        (lambda p, o: o.update(groups=[]), "rank 1 has groups ["),
        (
            lambda p, o: o["groups"][0].update(match="double"),
            "rank 1 has groups[1]: match ['double'], rank 0 has ['last']",
        ),
        (lambda p, o: o.update(lr=-1.0), "rank 1: lr must be finite and at least 0"),
        (lambda p, o: o.update(cls=int), "rank 1: cls must be a class of optimizers"),
        (lambda p, o: o.update(leaves=0), "rank 1: leaves must be a whole number from 1"),
        (lambda p, o: o.update(state_dir="here"), "rank 1: state_dir is not possible"),
        (lambda p, o: o.update(rows="lazy"), "rank 1: rows='lazy' and row_steps are not possible"),
        (lambda p, o: o.update(learning_rate=1.0), "rank 1: "),
        (lambda p, o: p.update(scalar=3), "rank 1: parameter 'scalar' must be"),
    ],
)
def test_optimizers_that_differ(change: Any, said: str) -> None:
    assert made(change).startswith(said)


def test_frozen_parameters_may_be_anything_that_one_process_accepts() -> None:
    def program(rank: Thread) -> Any:
        fixed = np.arange(3.0)
        fixed.flags.writeable = False
        params = {"w": np.zeros(4), "text": "kept", "fixed": fixed, "base": np.full(2, rank.rank)}
        frozen = [{"match": ["text", "fixed", "base"], "frozen": True}]
        opt = thalweg.mpi.sharded(thalweg.AdamW, params, rank, groups=frozen)
        opt.step({"w": np.ones(4)})
        fixed = np.full(3, float(rank.rank))
        fixed.flags.writeable = False
        with pytest.raises(
            ValueError, match=r"'fixed' is read-only, but not with the same numbers"
        ):
            thalweg.mpi.sharded(thalweg.AdamW, {**params, "fixed": fixed}, rank, groups=frozen)
        return params["text"], params["base"].tolist()

    assert results_of(RANKS, program) == [("kept", [0, 0])] * RANKS


def test_no_gradient_at_all_is_refused_as_in_one_process() -> None:
    def program(rank: Thread) -> None:
        opt = thalweg.mpi.sharded(thalweg.AdamW, {"w": np.zeros(4)}, rank)
        with pytest.raises(ValueError, match=r"^no parameter that trains has a gradient"):
            opt.step({"w": None})

    results_of(RANKS, program)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_arrays_that_overlap_are_refused_wherever_their_shares_are(ranks: int) -> None:
    def program(rank: Thread) -> None:
        line = np.zeros(8 * BLOCK)
        params = {"a": line[: 5 * BLOCK], "b": line[4 * BLOCK :]}
        with pytest.raises(ValueError, match=r"overlap|share memory"):
            thalweg.mpi.sharded(thalweg.AdamW, params, rank)
        frozen = [{"match": "b", "frozen": True}]
        opt = thalweg.mpi.sharded(thalweg.AdamW, params, rank, groups=frozen, leaves=ranks)
        with pytest.raises(ValueError, match=r"overlap|share memory"):
            opt.groups[1].frozen = False
        assert opt.groups[1].frozen
        opt.step({"a": np.ones(5 * BLOCK)})

    results_of(ranks, program)


def test_the_same_mistake_everywhere_reads_as_in_one_process() -> None:
    def program(rank: Thread) -> None:
        with pytest.raises(ValueError, match=r"^lr must be finite"):
            thalweg.mpi.sharded(thalweg.AdamW, model(0), rank, lr=-1.0)

    results_of(RANKS, program)


def test_parameters_are_those_of_rank_0() -> None:
    def program(rank: Thread) -> Any:
        params = model(rank.rank)
        thalweg.mpi.sharded(thalweg.AdamW, params, rank, groups=[{"match": "d*", "frozen": True}])
        return flatten(params)

    for own in results_of(5, program):
        for name, array in flatten(model(0)).items():
            assert own[name].tobytes() == array.tobytes()


def test_what_a_sharded_optimizer_refuses(tmp_path: Any) -> None:
    def program(rank: Thread) -> None:
        params, opt = TRAINING.of(rank)
        with pytest.raises(ValueError, match="open_step"):
            opt.open_step()
        with pytest.raises(ValueError, match=r"thalweg[.]mpi[.]sharded"):
            opt.rebind(params)
        with pytest.raises(ValueError, match=r"thalweg[.]mpi[.]sharded"):
            opt.extend(params)
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            opt.__reduce__()
        with pytest.raises(ValueError, match="a CheckpointManager would take"):
            thalweg.CheckpointManager(tmp_path).save(opt)
        with pytest.raises(ValueError, match="a conversion would take"):
            thalweg.convert.to_torch(opt)
        with pytest.raises(ValueError, match=r"opt\.sums\(\)"):
            thalweg.Accumulator(opt)
        with pytest.raises(ValueError, match="rows='lazy'"):
            opt.groups[1].rows = "lazy"
        with pytest.raises(TypeError, match="partial"):
            opt.step(gradients(params, 0, 0), partial=True)
        with pytest.raises(TypeError, match="one rank's part"):
            dict(opt.sums())
        with pytest.raises(ValueError, match="copy must be True"):
            opt.state_dict(copy=False)
        total = opt.sums()
        total.add(gradients(params, 0, 0))
        with pytest.raises(ValueError, match="this rank has 1 of the leaves"):
            total.add(gradients(params, 0, 0))
        opt.step(total)
        assert isinstance(opt, thalweg.AdamW)
        assert "AdamW(lr=0.1" in repr(opt)

    results_of(RANKS, program)


def test_comm_must_be_a_communicator() -> None:
    with pytest.raises(TypeError, match=r"comm must be a communicator of mpi4py.*got int"):
        thalweg.mpi.sharded(thalweg.AdamW, model(0), 3)


def test_a_late_rank() -> None:
    """A rank that makes each call after the others wait for it."""
    params, alone = TRAINING.alone()
    TRAINING.run(params, alone, 0, 2)
    waiting = threading.Semaphore(0)

    def program(rank: Thread) -> Any:
        def follow(name: str, number: int) -> None:
            if name == "allgather" and rank.rank < 2:
                waiting.release()
            elif name == "allgather":
                waiting.acquire()
                waiting.acquire()

        rank.fault = follow
        own, opt = TRAINING.of(rank)
        TRAINING.run(own, opt, 0, 2)
        return flatten(own)

    for own in results_of(RANKS, program):
        for name, array in flatten(params).items():
            assert own[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("lost", range(RANKS))
def test_a_rank_may_be_lost_at_any_point_of_a_step(lost: int) -> None:
    """No rank waits for ever; each has changed nothing, or knows that it is part old, part new."""
    finished = 0
    for point in range(1, 200):

        def fault(_: str, number: int, point: int = point) -> None:
            if number == point:
                raise KeyboardInterrupt

        def program(rank: Thread) -> Any:
            params, opt = TRAINING.of(rank)
            before = {name: array.tobytes() for name, array in opt.params.items()}
            rank.calls, rank.fault = 0, fault if rank.rank == lost else None
            try:
                opt.step(gradients(params, rank.rank, 0))
            except (Lost, KeyboardInterrupt, RuntimeError) as error:
                after = {name: array.tobytes() for name, array in opt.params.items()}
                assert before == after or opt._steps.torn
                assert (opt.step_count == 1) == bool(opt._steps.torn)
                if opt._steps.torn:
                    with pytest.raises(RuntimeError, match="load a checkpoint"):
                        opt._steps.check_whole()
                rank.world.lose()
                return error
            return True

        results = run(RANKS, program)
        assert not [r for r in results if isinstance(r, AssertionError)], results
        if results == [True] * RANKS:
            finished += 1
            break
        assert isinstance(results[lost], KeyboardInterrupt | bool), results
    assert finished == 1
    assert point > 10


def test_a_torn_optimizer_is_mended_by_a_load(tmp_path: Any) -> None:
    TRAINING.alone()[1].save(tmp_path / "file")

    def program(rank: Thread) -> Any:
        params, opt = TRAINING.of(rank)
        TRAINING.run(params, opt, 0, 1)
        opt._steps.torn = "a step" if rank.rank == 2 else ""
        for call in (lambda: opt.step(gradients(params, 0, 0)), lambda: opt.save(tmp_path / "no")):
            with pytest.raises(RuntimeError, match="rank 2: a step stopped while"):
                call()
        opt.load(tmp_path / "file")
        opt.save(tmp_path / "again")

    results_of(RANKS, program)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "file").read_bytes()


def test_products_with_other_bits_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter(["a", "b", "a"])
    monkeypatch.setattr(optimizer, "digest_of_products", lambda: next(digests))

    def program(rank: Thread) -> None:
        thalweg.mpi.sharded(thalweg.AdamW, model(0), rank)

    told = [result for result in run(RANKS, program) if not isinstance(result, Lost)]
    assert told
    for result in told:
        assert isinstance(result, RuntimeWarning)
        assert "products of matrices have other bits on rank" in str(result)
