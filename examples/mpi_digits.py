"""Handwritten digits on several processes, with the same bits for any number of them.

The network of `thalweg demo`, in plain NumPy. A batch has 12 micro-batches, the leaves, which the
processes share out. Needs mpi4py, a launcher of MPI and scikit-learn (for the data); takes seconds.

    mpiexec -n 1 python -m mpi4py examples/mpi_digits.py
    mpiexec -n 3 python -m mpi4py examples/mpi_digits.py

print the same digest of the parameters. `--save PATH` writes a checkpoint after each epoch, from
which any number of processes goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path
from typing import Any

# The bits of a product of matrices depend on the number of threads of the library behind NumPy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from mpi4py import MPI

import thalweg.mpi
from thalweg.cli.demo import digits, network

LEAVES, MICRO, EPOCHS = 12, 8, 20
BATCH = LEAVES * MICRO


def digest(params: Any) -> str:
    """The first letters of a hash of every bit of the parameters."""
    made = hashlib.sha256()
    for array in thalweg.tree.flatten(params).values():
        made.update(array.tobytes())
    return made.hexdigest()[:12]


def main() -> None:
    """Train, and print the error and the digest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--save", type=Path, help="checkpoint to write, and to go on from")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    asked = parser.parse_args()
    comm = MPI.COMM_WORLD
    data = digits.load(seed=0)
    params = network.initial(np.random.default_rng(0))
    steps = len(data.train.labels) // BATCH

    opt = thalweg.mpi.sharded(
        thalweg.AdamW,
        params,
        comm,
        leaves=LEAVES,
        lr=2e-3 * thalweg.schedule.cosine(asked.epochs * steps),
        weight_decay=0.1,
        groups=[thalweg.no_decay(max_ndim=1)],
    )
    total = opt.sums()
    if asked.save and comm.bcast(asked.save.exists()):
        opt.load(asked.save)
    for epoch in range(opt.step_count // steps, asked.epochs):
        # Every process draws the same order, whatever it is going to compute of it.
        order = np.random.default_rng(epoch).permutation(len(data.train.labels))
        for batch in order[: steps * BATCH].reshape(steps, LEAVES, MICRO):
            for leaf in opt.leaves:
                chosen = batch[leaf]
                pixels, labels = data.train.pixels[chosen], data.train.labels[chosen]
                total.add(network.gradients(params, pixels, labels))
            opt.step(total, scale=1 / LEAVES, max_norm=1.0)
        if asked.save:
            opt.save(asked.save)
    if comm.rank == 0:
        guesses = network.log_probabilities(params, data.test.pixels).argmax(axis=1)
        error = 100 * np.mean(guesses != data.test.labels)
        share = sum(a.nbytes for leaf in opt.state.values() for k, a in leaf.items() if k != "step")
        print(f"{comm.size} processes, {opt.step_count} steps, test error {error:.2f} %")
        print(f"{share:,} bytes of state on this process, parameters {digest(params)}")
    opt.close()


if __name__ == "__main__":
    main()
