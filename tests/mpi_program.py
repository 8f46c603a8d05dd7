"""Programs that `tests/test_mpi.py` runs under a launcher of MPI."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from typing import Any

import numpy as np
from mpi4py import MPI

import thalweg.mpi
from fleet import Training, gradients
from thalweg.tree import flatten

COMM = MPI.COMM_WORLD
TRAINING = Training(
    thalweg.AdamW,
    {"lr": 0.02 * thalweg.schedule.cosine(40), "groups": [{"match": "*.b", "lr_scale": 0.5}]},
    leaves=6,
    how={"max_norm": 0.5},
)


def digest(params: Any) -> str:
    made = hashlib.sha256()
    for array in flatten(params).values():
        made.update(np.asarray(array).tobytes())
    return made.hexdigest()


def made() -> tuple[Any, Any]:
    params = TRAINING.model(COMM.rank)
    opt = thalweg.mpi.sharded(
        TRAINING.cls, params, COMM, leaves=TRAINING.leaves, **TRAINING.options
    )
    return params, opt


def tell(**values: Any) -> None:
    """One line of the first rank, flushed, since a rank may be killed."""
    if COMM.rank == 0:
        print(values, flush=True)  # noqa: T201 - read by the test


def train(steps: str) -> None:
    """The digests of parameters and state after some steps, and of ranks."""
    params, opt = made()
    TRAINING.run(params, opt, 0, int(steps))
    state = opt.state_dict()
    digests = COMM.gather(digest(params))
    opt.close()
    tell(params=digests and set(digests), state=state and digest(state["state"]))


def resume(path: str, stop: str) -> None:
    """Go on from a file if there is one, and save after each step."""
    params, opt = made()
    exists = COMM.bcast(os.path.exists(path) if COMM.rank == 0 else None)  # noqa: PTH110
    start = opt.load(path).step if exists else 0
    for step in range(start, int(stop)):
        TRAINING.run(params, opt, step, step + 1)
        opt.save(path)
        tell(step=step + 1)
    tell(params={digest(params)})


def killed(path: str, stop: str, lost: str, after: str) -> None:
    """As `resume`; a rank is killed some milliseconds after the first save."""
    if COMM.rank == int(lost):
        params, opt = made()
        TRAINING.run(params, opt, 0, 1)
        opt.save(path)
        if os.fork() == 0:
            time.sleep(float(after) / 1000)
            os.kill(os.getppid(), signal.SIGKILL)
            os._exit(0)
    else:
        params, opt = made()
        TRAINING.run(params, opt, 0, 1)
        opt.save(path)
    for step in range(1, int(stop)):
        TRAINING.run(params, opt, step, step + 1)
        opt.save(path)
        tell(step=step + 1)


def fails(lost: str, place: str) -> None:
    """A rank raises outside or inside of a step; inside, all raise, and the run goes on."""
    params, opt = made()
    TRAINING.run(params, opt, 0, 1)
    is_lost = COMM.rank == int(lost)
    if place == "outside" and is_lost:
        raise ArithmeticError("the data are bad")
    try:
        opt.step(opt.sums() if is_lost else thalweg.sums(params))
    except ValueError as error:
        said = COMM.gather(str(error))
    else:
        said = None
    TRAINING.run(params, opt, 1, 2)
    tell(said=said and set(said), params={digest(params)})


def many_bytes() -> None:
    """Messages of many chunks, and parameters that are not contiguous."""

    def large(seed: int) -> dict[str, Any]:
        return {
            "w": np.full((1 << 20, 3), float(seed), np.float32),
            "f": np.asfortranarray(np.full((700, 900), float(seed))),
            "n": np.full(5, float(seed), np.float16),
        }

    def drawn(params: dict[str, Any], leaf: int, step: int) -> dict[str, Any]:
        return gradients({k: np.asarray(v, np.float32) for k, v in params.items()}, leaf, step)

    options = {"state": "bfloat16", "groups": [{"match": "f", "state": "full"}]}
    training = Training(thalweg.AdamW, options, 3, {}, large, drawn)
    params = large(COMM.rank)
    opt = thalweg.mpi.sharded(thalweg.AdamW, params, COMM, leaves=3, **options)
    training.run(params, opt, 0, 2)
    alone, one = training.alone()
    training.run(alone, one, 0, 2)
    same = COMM.gather(digest(params) == digest(alone))
    tell(same=same)


if __name__ == "__main__":
    {f.__name__: f for f in (train, resume, killed, fails, many_bytes)}[sys.argv[1]](*sys.argv[2:])
