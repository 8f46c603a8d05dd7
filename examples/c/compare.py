"""Take the steps of the C program in Python: `python compare.py run.safetensors gradients.bin`.

The gradients are those that the C program wrote. Parameters and state end with the same bits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import thalweg

SHAPES = {
    "hidden1": {"w": (64, 128), "b": (128,)},
    "hidden2": {"w": (128, 64), "b": (64,)},
    "output": {"w": (64, 10), "b": (10,)},
}
Tree = dict[str, dict[str, np.ndarray[Any, Any]]]


def tree(numbers: np.ndarray[Any, Any]) -> Tree:
    """Cut a flat array into the arrays of all layers."""
    made: Tree = {}
    for layer, shapes in SHAPES.items():
        made[layer] = {}
        for name, shape in shapes.items():
            size = int(np.prod(shape))
            made[layer][name] = numbers[:size].reshape(shape).copy()
            numbers = numbers[size:]
    return made


count = sum(int(np.prod(shape)) for shapes in SHAPES.values() for shape in shapes.values())
log = Path(sys.argv[2]).read_bytes()
params = tree(np.frombuffer(log, np.float32, count))
steps = np.frombuffer(log, [("lr", np.float64), ("grads", np.float32, count)], offset=4 * count)

opt = thalweg.AdamW(
    params, lr=1e-3, weight_decay=0.1, groups=[{"match": "*.b", "weight_decay": 0.0}]
)
for step in steps:
    opt.groups[0].lr = float(step["lr"])
    opt.step(tree(step["grads"]))

written = thalweg.AdamW(tree(np.zeros(count, np.float32)), lr=1e-3)
written.load(sys.argv[1], hyperparameters="current")
same = written.step_count == opt.step_count
for name, p in opt.params.items():
    ours, theirs = opt.state[name], written.state[name]
    same &= p.tobytes() == written.params[name].tobytes()
    same &= all(ours[key].tobytes() == theirs[key].tobytes() for key in ("exp_avg", "exp_avg_sq"))
if not same:
    sys.exit("C and Python differ")
print(f"{len(steps)} steps of {count} parameters: the same bits in C and in Python")
