"""Runs of one training by one process and by many ranks, which must have the same bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import thalweg.mpi
from ranks import results_of
from thalweg.tree import flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ranks import Thread

Tree = dict[str, Any]


def model(seed: int = 0) -> Tree:
    """Parameters that are cut between ranks in blocks, and some that are not or are empty."""
    rng = np.random.default_rng(seed)
    return {
        "layer": {
            "w": rng.standard_normal((230, 150), dtype=np.float32),
            "b": rng.standard_normal(150, dtype=np.float32),
        },
        "empty": np.zeros((0, 3), np.float32),
        "double": rng.standard_normal((40, 1000)),
        "scalar": np.full((), 3.0, np.float32),
        "across": np.asfortranarray(rng.standard_normal((40, 50), dtype=np.float32)),
        "last": rng.standard_normal(20_000, dtype=np.float32),
    }


def gradients(params: Tree, leaf: int, step: int) -> Tree:
    """Those of a micro-batch, by name; some are None."""
    rng = np.random.default_rng(1000 * step + leaf)
    grads: Tree = {}
    for name, array in flatten(params).items():
        dtype = np.float64 if array.dtype == np.float64 else np.float32
        drawn = rng.standard_normal(array.shape) * 10.0 ** (leaf % 4)
        grads[name] = np.asarray(drawn).astype(dtype)
    if leaf % 3 == 1 and "layer.b" in grads:
        grads["layer.b"] = None
    return grads


@dataclass(frozen=True)
class Training:
    """A class of optimizers with its arguments, and what happens in each step."""

    cls: type[thalweg.Optimizer]
    options: Mapping[str, Any]
    leaves: int = 5
    how: Mapping[str, Any] = field(default_factory=dict)
    model: Callable[[int], Tree] = model
    gradients: Callable[[Tree, int, int], Tree] = gradients
    between: Callable[[Any, int], object] = lambda opt, step: None

    def alone(self) -> tuple[Tree, thalweg.Optimizer]:
        """Parameters and optimizer of one process."""
        params = self.model(0)
        return params, self.cls(params, **self.options)

    def of(self, rank: Thread) -> tuple[Tree, Any]:
        """Those of a rank, whose own first parameters do not count."""
        params = self.model(rank.rank)
        made = thalweg.mpi.sharded(self.cls, params, rank, leaves=self.leaves, **self.options)
        return params, made

    def run(self, params: Tree, opt: Any, start: int, stop: int) -> list[str]:
        """Take steps; returns their reports."""
        is_sharded = isinstance(opt, thalweg.mpi.Sharded)
        total = opt.sums() if is_sharded else thalweg.sums(opt)
        reports = []
        for step in range(start, stop):
            self.between(opt, step)
            if total._buffers.trained.keys() != opt._held.trained().keys():
                total = opt.sums() if is_sharded else thalweg.sums(opt)
            for leaf in opt.leaves if is_sharded else range(self.leaves):
                total.add(self.gradients(params, leaf, step))
            reports.append(repr(opt.step(total, **self.how)))
            if not is_sharded:
                total.clear()
        return reports

    def check(self, ranks: int, steps: int = 3) -> None:
        """Parameters, state and reports of ranks are those of one process, in every bit."""
        params, opt = self.alone()
        reports = self.run(params, opt, 0, steps)
        expected = opt.state_dict()

        def program(rank: Thread) -> Any:
            own, sharded = self.of(rank)
            told = self.run(own, sharded, 0, steps)
            return flatten(own), told, sharded.state_dict()

        results = results_of(ranks, program)
        for own, told, _ in results:
            assert told == reports
            for name, array in flatten(params).items():
                assert own[name].tobytes() == array.tobytes(), name
        assert all(state is None for _, _, state in results[1:])
        assert_same(results[0][2], expected)


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Two state dicts have the same keys, values and bits."""
    if isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            assert_same(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), path
        assert one.tobytes() == other.tobytes(), path
    else:
        assert repr(one) == repr(other), path
