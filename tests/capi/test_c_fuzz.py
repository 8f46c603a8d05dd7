"""Arguments at random: a call is refused and changes nothing, or writes only what it says."""

from __future__ import annotations

import ctypes as c
import random
from typing import Any

import numpy as np
import pytest
from c_library import (
    BFLOAT16,
    DONE,
    E5M3,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INVALID,
    NONFINITE,
    RULES,
    SKIPPED,
    Options,
    Tensor,
    call,
    last_error,
    options_of,
    step_of,
)

SIZES = {0: 4, FLOAT32: 4, FLOAT64: 8, BFLOAT16: 2, FLOAT16: 2, E5M3: 1}
ARENA = 1 << 16
MIDDLE = 1 << 14
"""Arrays begin between this and three times this, so that rows with any stride are inside."""


class Draw:
    """A call with arrays at random places of one arena."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - a test
        values = np.random.default_rng(seed).standard_normal(ARENA // 4).astype(np.float32)
        self.arena = np.abs(values).view(np.uint8) if self.rng.random() < 0.8 else values.view("u1")
        assert self.arena.ctypes.data % 8 == 0
        self.written, self.used = np.zeros(ARENA, bool), np.zeros(ARENA, np.uint8)
        self.valid = True

    def place(self, size: int) -> int:
        at = MIDDLE + self.rng.randrange(2 * MIDDLE // 64) * 64
        if self.rng.random() < 0.03:
            at += self.rng.choice([1, 2, 4])
            self.valid &= at % size == 0
        return at

    def array(self, rows: int, columns: int, size: int, *, written: bool) -> tuple[Any, int]:
        """An address and the bytes between rows."""
        if self.rng.random() < 0.02:
            self.valid &= rows * columns == 0
            return None, 0
        at = self.place(size)
        stride = width = columns * size
        given = 0
        if rows > 1 and self.rng.random() < 0.3:
            given = stride = self.rng.choice([-1, 1]) * (width + size * self.rng.randrange(-1, 9))
            if given == 0:
                stride = width
            self.valid &= not written or abs(stride) >= width
        taken = np.zeros(ARENA, bool)
        for row in range(rows):
            taken[at + row * stride : at + row * stride + width] = True
        self.used += taken
        self.written |= taken & written
        return self.arena.ctypes.data + at, given

    @property
    def overlaps(self) -> bool:
        """Whether a byte that is written is in two arrays."""
        return bool((self.written & (self.used > 1)).any())

    def tensor(self, rule: str, options: Options) -> Tensor:
        rng = self.rng
        made = Tensor(size=c.sizeof(Tensor), step=rng.choice([1, 1, 2, 1000, 2**40]))
        rows = rng.choice([0, 0, 1, 3])
        columns = rng.choice([0, 1, 7, 64, 200])
        made.rows, made.len = rows, max(rows, 1) * columns
        made.dtype = rng.choice([0, FLOAT32, FLOAT64, BFLOAT16, FLOAT16])
        made.grad_dtype = rng.choice([0, 0, FLOAT32, FLOAT64, BFLOAT16, FLOAT16])
        size = SIZES[made.dtype]
        shape = (max(rows, 1), columns)
        made.p, made.row_stride[0] = self.array(*shape, size, written=True)
        of_g = SIZES[made.grad_dtype] if made.grad_dtype else size
        made.g, made.row_stride[1] = self.array(*shape, of_g, written=False)
        of_state = 8 if made.dtype == FLOAT64 else 4
        count = {"SGD": 1, "SGDW": 1, "Lion": 1, "Adagrad": 1, "RMSprop": 3}.get(rule, 2)
        count += options.amsgrad
        has = [True] * count
        if rule in ("SGD", "SGDW"):
            has = [options.momentum > 0]
        if rule == "RMSprop":
            has = [True, bool(options.centered), options.momentum > 0]
        for k in range(len(has)):
            if has[k]:
                address, stride = self.array(*shape, of_state, written=True)
                made.state[k], made.row_stride[2 + k] = address, stride
        if made.dtype in (BFLOAT16, FLOAT16):
            made.low, made.row_stride[5] = self.array(*shape, 2, written=True)
        if rule == "ScheduleFreeAdamW":
            made.history, _ = self.array(1, 3, 8, written=True)
            self.valid &= made.history is not None
        return made

    def options(self) -> tuple[str, Options]:
        rule = self.rng.choice(RULES)
        options = options_of(rule)
        if rule in ("SGD", "SGDW", "RMSprop"):
            options.momentum = self.rng.choice([0.0, 0.9])
        if rule in ("AdamW", "Adam"):
            options.amsgrad = self.rng.random() < 0.2
        if rule == "RMSprop":
            options.centered = self.rng.random() < 0.5
        return rule, options

    def spoil(self, tensor: Tensor, options: Options, step: Any) -> None:
        """Change one field so that the call is wrong."""
        self.valid = False
        bad = self.rng.choice(range(9))
        if bad == 0:
            tensor.size = self.rng.choice([0, 8, 191, 193, 2**63])
        elif bad == 1:
            options.size = self.rng.choice([0, 143, 2**40])
        elif bad == 2:
            step.size = self.rng.choice([0, 71, 4_104])
        elif bad == 3:
            tensor.dtype = self.rng.choice([-1, E5M3, 99])
        elif bad == 4:
            tensor.rows, tensor.len = 5, 2**62 + 1
        elif bad == 5:
            options.rule = self.rng.choice([-1, 0, 12])
        elif bad == 6:
            step.max_norm = self.rng.choice([-1.0, np.nan])
        elif bad == 7:
            tensor.step = 0
        else:
            tensor.group = 7


@pytest.mark.parametrize("block", range(8))
def test_arguments_at_random(block: int) -> None:
    codes = dict.fromkeys((DONE, SKIPPED, INVALID, NONFINITE), 0)
    for seed in range(block * 400, block * 400 + 400):
        draw = Draw(seed)
        rule, options = draw.options()
        tensors = [draw.tensor(rule, options) for _ in range(draw.rng.choice([0, 1, 1, 2, 3]))]
        step = step_of(
            nonfinite=draw.rng.randrange(3),
            threads=draw.rng.randrange(3),
            max_norm=draw.rng.choice([0.0, 1.0]),
        )
        if tensors and draw.rng.random() < 0.2:
            draw.spoil(draw.rng.choice(tensors), options, step)
        before = draw.arena.copy()
        name = draw.rng.choice(["update", "update", "update", "norm"])
        code = call(name, tensors, options, 1, step)
        codes[code] += 1
        changed = np.flatnonzero(before != draw.arena)
        assert code in codes, (seed, code, last_error())
        if code != DONE or name == "norm":
            assert changed.size == 0, (seed, code)
        assert draw.written[changed].all(), seed
        if not draw.valid or draw.overlaps:
            assert code == INVALID, (seed, code)
        elif code == INVALID:
            assert "history must be" in last_error(), (seed, last_error())
    assert min(codes[DONE], codes[INVALID], codes[NONFINITE] + codes[SKIPPED]) > 10, codes
