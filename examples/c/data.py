"""Write the digits of `thalweg demo` for the C program: `python data.py digits.bin`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from thalweg.cli.demo.digits import load

digits = load(seed=0)
with Path(sys.argv[1]).open("wb") as file:
    for samples in (digits.train, digits.test):
        file.write(np.uint32(len(samples.labels)).tobytes())
        file.write(samples.pixels.tobytes() + samples.labels.astype(np.uint8).tobytes())
