"""AdamW for NumPy: in place, SIMD, multi-threaded, the same bits everywhere.

`AdamW`, `Adam`, `SGDW` and `SGD` train trees of NumPy arrays; `functional` is for tools that keep
their own state; `schedule` has hyperparameters that are functions of the step; `reference` defines
the bits in plain NumPy.
"""

import atexit as _atexit

from thalweg import functional, reference, schedule, tree
from thalweg._core import (
    StepReport,
    __version__,
    cpu_levels,
    get_cpu_level,
    get_num_threads,
    set_cpu_level,
    set_num_threads,
)
from thalweg._core import close as _close
from thalweg.base import Optimizer
from thalweg.errors import BusyError, NonFiniteError
from thalweg.groups import Group, no_decay
from thalweg.optimizers import SGD, SGDW, Adam, AdamW
from thalweg.state import LoadReport

__all__ = [
    "SGD",
    "SGDW",
    "Adam",
    "AdamW",
    "BusyError",
    "Group",
    "LoadReport",
    "NonFiniteError",
    "Optimizer",
    "StepReport",
    "__version__",
    "cpu_levels",
    "functional",
    "get_cpu_level",
    "get_num_threads",
    "no_decay",
    "reference",
    "schedule",
    "set_cpu_level",
    "set_num_threads",
    "tree",
]

_atexit.register(_close)
