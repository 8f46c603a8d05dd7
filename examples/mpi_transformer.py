"""A character transformer on several processes, with the same bits for any number of them.

It learns the help texts of Python, which come with Python. autograd differentiates it, thalweg
trains it, each process with a share of AdamW's state. Needs autograd, mpi4py and a launcher of MPI:

    mpiexec -n 2 python -m mpi4py examples/mpi_transformer.py --steps 60

takes a minute or two on two cores. With `--save PATH` a run goes on where it ended, on any number
of processes; `--state compact` keeps 3 bytes of state a parameter in place of 8.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

# The bits of a product of matrices depend on the number of threads of the library behind NumPy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from mpi4py import MPI

import thalweg.mpi

LEAVES, MICRO, LENGTH = 8, 4, 64
WIDTH, HEADS, LAYERS = 128, 4, 4
MASK = np.triu(np.full((LENGTH, LENGTH), -1e9, np.float32), 1)


def corpus() -> tuple[Any, str]:
    """The texts as numbers of letters, and the letters."""
    text = "".join(topics[name] for name in sorted(topics))
    letters = "".join(sorted(set(text)))
    return np.array([letters.index(letter) for letter in text]), letters


def initial(letters: int) -> dict[str, Any]:
    """Float32 parameters of the standard deviation that keeps activations near 1."""
    rng = np.random.default_rng(0)

    def matrix(inputs: int, outputs: int, gain: float = 1.0) -> Any:
        drawn = rng.standard_normal((inputs, outputs), dtype=np.float32)
        return drawn * np.float32(gain / np.sqrt(inputs))

    def block() -> dict[str, Any]:
        small = 1 / np.sqrt(2 * LAYERS)
        return {
            "mix": {"w": matrix(WIDTH, 3 * WIDTH), "out": matrix(WIDTH, WIDTH, small)},
            "think": {"w": matrix(WIDTH, 4 * WIDTH), "out": matrix(4 * WIDTH, WIDTH, small)},
            "scale1": np.ones(WIDTH, np.float32),
            "scale2": np.ones(WIDTH, np.float32),
        }

    return {
        "letter": matrix(letters, WIDTH, np.sqrt(letters) / 2),
        "place": matrix(LENGTH, WIDTH, np.sqrt(LENGTH) / 2),
        "blocks": [block() for _ in range(LAYERS)],
        "scale": np.ones(WIDTH, np.float32),
        "head": matrix(WIDTH, letters),
    }


def normed(x: Any, scale: Any) -> Any:
    """Root mean square normalisation."""
    return scale * x / anp.sqrt(anp.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-5))


def attend(x: Any, w: Any, out: Any) -> Any:
    """Causal attention of several heads."""
    count = x.shape[0]
    split = anp.reshape(anp.dot(x, w), (count, LENGTH, 3, HEADS, WIDTH // HEADS))
    q, k, v = (anp.transpose(split[:, :, i], (0, 2, 1, 3)) for i in range(3))
    scores = anp.matmul(q, anp.swapaxes(k, -1, -2)) * np.float32((WIDTH // HEADS) ** -0.5) + MASK
    weights = anp.exp(scores - anp.max(scores, axis=-1, keepdims=True))
    mixed = anp.matmul(weights / anp.sum(weights, axis=-1, keepdims=True), v)
    return anp.dot(anp.reshape(anp.transpose(mixed, (0, 2, 1, 3)), (count, LENGTH, WIDTH)), out)


def loss(params: dict[str, Any], letters: Any) -> Any:
    """Mean cross-entropy of the next letter, in nats; `letters` are sequences of LENGTH + 1."""
    x = params["letter"][letters[:, :-1]] + params["place"]
    for block in params["blocks"]:
        x = x + attend(normed(x, block["scale1"]), block["mix"]["w"], block["mix"]["out"])
        hidden = anp.dot(normed(x, block["scale2"]), block["think"]["w"])
        x = x + anp.dot(anp.maximum(hidden, np.float32(0)), block["think"]["out"])
    logits = anp.dot(normed(x, params["scale"]), params["head"])
    logits = logits - anp.max(logits, axis=-1, keepdims=True)
    chosen = anp.sum(logits * np.eye(logits.shape[-1], dtype=np.float32)[letters[:, 1:]], axis=-1)
    return anp.mean(anp.log(anp.sum(anp.exp(logits), axis=-1)) - chosen)


def digest(params: Any) -> str:
    """The first letters of a hash of every bit of the parameters."""
    made = hashlib.sha256()
    for array in thalweg.tree.flatten(params).values():
        made.update(array.tobytes())
    return made.hexdigest()[:12]


def main() -> None:
    """Train, and print losses, times and the digest."""
    parser = argparse.ArgumentParser(description="a character transformer on many processes")
    parser.add_argument("--steps", type=int, default=60, help="steps in all")
    parser.add_argument("--save", type=Path, help="checkpoint to write, and to go on from")
    parser.add_argument("--state", default="full", help="format of the state")
    asked = parser.parse_args()
    comm = MPI.COMM_WORLD
    numbers, letters = corpus()
    params = initial(len(letters))
    differentiate = value_and_grad(loss)

    opt = thalweg.mpi.sharded(
        thalweg.AdamW,
        params,
        comm,
        leaves=LEAVES,
        lr=3e-3 * thalweg.schedule.cosine(total=max(asked.steps, 2), warmup=1),
        betas=(0.9, 0.98),
        groups=[thalweg.no_decay(max_ndim=1)],
        state=asked.state,
    )
    total = opt.sums()
    if asked.save and comm.bcast(asked.save.exists()):
        opt.load(asked.save)
    while opt.step_count < asked.steps:
        # Every process draws the starts of all sequences; the number of the step is the seed.
        rng = np.random.default_rng(opt.step_count)
        starts = rng.integers(0, len(numbers) - LENGTH, (LEAVES, MICRO, 1))
        begun, seen = time.perf_counter(), 0.0
        for leaf in opt.leaves:
            value, grads = differentiate(params, numbers[starts[leaf] + np.arange(LENGTH + 1)])
            total.add(grads)
            seen += float(value)
        computed = time.perf_counter()
        opt.step(total, scale=1 / LEAVES, max_norm=1.0)
        ended = time.perf_counter()
        mean = comm.allreduce(seen) / LEAVES
        if comm.rank == 0 and (opt.step_count % 10 == 0 or opt.step_count == asked.steps):
            spent, step = 1e3 * (computed - begun), 1e3 * (ended - computed)
            times = f"gradients {spent:.0f} ms, step {step:.1f} ms"
            print(f"step {opt.step_count:4}: loss {mean:.3f}, {times}", flush=True)
    if asked.save:
        opt.save(asked.save)
    size = sum(array.size for array in opt.params.values())
    if comm.rank == 0:
        print(f"{comm.size} processes, {size:,} parameters, bits {digest(params)}")
    opt.close()


if __name__ == "__main__":
    main()
