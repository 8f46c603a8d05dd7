"""The runs behind the checkpoint files in ``tests/data/checkpoints``, and the expected contents.

    python tests/checkpoints.py

writes the missing files of the current format. Existing files are never overwritten.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import thalweg
from conftest import attached
from thalweg import schedule

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parent / "data" / "checkpoints"
FORMAT = 1


def extra() -> dict[str, Any]:
    """A value of every kind that can be saved."""
    return {
        "none": None,
        "flags": [True, False],
        "ints": [0, -1, 2**63 - 1, -(2**63), 2**64, -(10**40)],
        "floats": [0.1, -0.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")],
        "text": 'ünï "\\\n\t\x01\x7f 🙂',
        "tuple": (1, (2.5, ()), []),
        "dict": {"": {}, "$int": 1, "a/b": {"$": None}},
        "rng": {"bit_generator": "PCG64", "state": {"state": 2**127 - 1, "inc": 2**100 + 1}},
        "scalars": [np.float32(0.1), np.int8(-3), np.bool_(True), np.complex128(1 - 2j)],
        "order": np.dtype(">i4").type(7),
        "arrays": {
            "f2": np.array([0.5, np.inf], np.float16),
            "u1": np.arange(5, dtype=np.uint8),
            "bool": np.array([[True], [False]]),
            "i8": np.array(-(2**63), np.int64),
            "big": np.arange(3, dtype=">f8"),
            "c16": np.array([[1 + 2j, -0.0j]]),
            "empty": np.zeros((0, 3), np.float32),
        },
    }


def adamw() -> tuple[thalweg.Optimizer, Any]:
    """Schedules, groups, a frozen parameter, an average and an accumulator."""
    params = {
        "layers": [
            {"w": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2)},
            {"w": np.linspace(1, 2, 4), "b": np.ones(())},
        ],
        "base": np.arange(3),
    }
    groups: list[dict[str, Any]] = [
        {"match": "base", "frozen": True},
        {"match": "*.b", "lr_scale": 0.5, "weight_decay": 0.0, "name": "biases"},
        {"match": "layers.1.*", "lr": schedule.triangular(1e-3, 3e-3, up=4)},
    ]
    opt = thalweg.AdamW(
        params,
        lr=0.1 * schedule.cosine(total=40, warmup=5),
        betas=(0.8, 0.9),
        amsgrad=True,
        groups=groups,
        nonfinite="skip",
    )
    thalweg.EMA(opt, decay=0.5 * schedule.linear(total=100), bias_correction=True, name="avg")
    thalweg.Accumulator(opt)
    return opt, extra()


def sgd() -> tuple[thalweg.Optimizer, Any]:
    """Nesterov momentum and an L2 penalty, nothing else."""
    params = [np.linspace(-1, 1, 5), np.ones((2, 2), np.float32)]
    return thalweg.SGD(params, lr=0.1, momentum=0.9, nesterov=True, l2=1e-3), None


def without_params() -> tuple[thalweg.Optimizer, Any]:
    """For a file without parameters."""
    params = {"w": np.linspace(-1, 1, 5, dtype=np.float32)}
    return thalweg.Adam(params, lr=1e-2, l2=0.1), {"epoch": 3}


MAKERS: dict[str, Callable[[], tuple[thalweg.Optimizer, Any]]] = {
    "adamw": adamw,
    "sgd": sgd,
    "without-params": without_params,
}


def advance(opt: thalweg.Optimizer, steps: int) -> None:
    """Take `steps` steps; the third of a run is partial, and AdamW skips the fourth."""
    for _ in range(steps):
        number = opt.step_count + opt.skip_count
        grads: dict[str, Any] = {
            name: np.full(array.shape, 0.25 * (number % 3 - 1) + 0.125, array.dtype)
            for name, array in opt.params.items()
            if array.dtype.kind == "f"
        }
        for mirror in attached(opt).values():
            if isinstance(mirror, thalweg.Accumulator):
                mirror.add(grads, weight=1 + number % 2)
        first = next(iter(grads))
        if number == 3 and isinstance(opt, thalweg.AdamW):
            grads[first] = np.full_like(grads[first], np.nan)
        if number == 2 and len(grads) > 1:
            grads[first] = None
        opt.step(grads, partial=True)
        for mirror in attached(opt).values():
            if isinstance(mirror, thalweg.EMA):
                mirror.update()


def described(value: Any) -> Any:
    """Contents of a state dict as values of JSON; arrays bit by bit."""
    if isinstance(value, dict):
        return {key: described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return [array.dtype.str, list(array.shape), array.tobytes().hex()]
    return value if isinstance(value, str | None) else repr(value)


def look(opt: thalweg.Optimizer, *, params: bool) -> dict[str, Any]:
    """Everything that a file holds of an optimizer."""
    names = [name for name in opt.params if name in opt.state_dict()["state"]]
    return {
        "params": described({name: opt.params[name] for name in names}) if params else None,
        "state_dict": described(opt.state_dict()),
    }


def digest(opt: thalweg.Optimizer) -> str:
    """Hash of `look`."""
    return hashlib.sha256(json.dumps(look(opt, params=True)).encode()).hexdigest()


def main() -> None:
    """Write the missing files."""
    DATA.mkdir(exist_ok=True)
    for name, make in MAKERS.items():
        path = DATA / f"format-{FORMAT}-{name}.safetensors"
        if path.exists():
            continue
        opt, added = make()
        advance(opt, 6)
        params = name != "without-params"
        opt.save(path, extra=added, params=params)
        expected = look(opt, params=params)
        advance(opt, 3)
        expected["digest 3 steps later"] = digest(opt)
        text = json.dumps(expected, indent=1, ensure_ascii=False)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
