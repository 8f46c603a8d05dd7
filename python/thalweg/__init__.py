"""AdamW for NumPy: in place, SIMD, multi-threaded, the same bits everywhere.

`AdamW`, `Adam`, `NAdamW`, `RAdamW`, `AdaBelief`, `ScheduleFreeAdamW`, `Lion`, `RMSprop`, `Adagrad`,
`SGDW` and `SGD` train trees of NumPy arrays. `functional` has the same updates for tools that keep
their own state. `schedule` has hyperparameters that are functions of the step. `compact` has the
encodings of smaller state, `convert` exchanges state with torch and optax. `reference` defines the
bits in plain NumPy.
"""

import atexit as _atexit
import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING

from thalweg import compact, convert, functional, reference, schedule, tree
from thalweg._core import (
    StepReport,
    TensorStats,
    __version__,
    cpu_levels,
    get_cpu_level,
    get_num_threads,
    set_cpu_level,
    set_num_threads,
)
from thalweg._core import close as _close
from thalweg.averages.accumulator import Accumulator
from thalweg.averages.ema import EMA
from thalweg.averages.tree_sum import TreeSum, sums
from thalweg.checkpoint import Checkpoint, CheckpointManager, read_checkpoint
from thalweg.errors import BusyError, NonFiniteError, UnlockedWarning
from thalweg.groups.group import Group
from thalweg.groups.ready import layerwise_lr, no_decay
from thalweg.mapped.params import map_params
from thalweg.optimizer import Optimizer
from thalweg.rows import Rows
from thalweg.rules.adabelief import AdaBelief
from thalweg.rules.adagrad import Adagrad
from thalweg.rules.adam import Adam
from thalweg.rules.adamw import AdamW
from thalweg.rules.lion import Lion
from thalweg.rules.nadam import NAdamW
from thalweg.rules.radam import RAdamW
from thalweg.rules.rmsprop import RMSprop
from thalweg.rules.schedule_free import ScheduleFreeAdamW
from thalweg.rules.sgd import SGD, SGDW
from thalweg.state.report import LoadReport
from thalweg.weight_decay import AveragingTime, averaging_time, normalized_decay

__all__ = [
    "EMA",
    "SGD",
    "SGDW",
    "Accumulator",
    "AdaBelief",
    "Adagrad",
    "Adam",
    "AdamW",
    "AveragingTime",
    "BusyError",
    "Checkpoint",
    "CheckpointManager",
    "Group",
    "Lion",
    "LoadReport",
    "NAdamW",
    "NonFiniteError",
    "Optimizer",
    "RAdamW",
    "RMSprop",
    "Rows",
    "ScheduleFreeAdamW",
    "StepReport",
    "TensorStats",
    "TreeSum",
    "UnlockedWarning",
    "__version__",
    "averaging_time",
    "compact",
    "convert",
    "cpu_levels",
    "functional",
    "get_cpu_level",
    "get_num_threads",
    "layerwise_lr",
    "map_params",
    "no_decay",
    "normalized_decay",
    "read_checkpoint",
    "reference",
    "schedule",
    "set_cpu_level",
    "set_num_threads",
    "sums",
    "tree",
]

_atexit.register(_close)

if not _TYPE_CHECKING:  # with `__getattr__`, a type checker accepts every name

    def __getattr__(name: str) -> object:
        """Import a module that needs another library on first access."""
        if name in {"mpi", "scipy", "sklearn", "torch"}:
            from importlib import import_module  # noqa: PLC0415 - needed on first access only

            return import_module(f"thalweg.{name}")
        # `name` and `obj` let Python suggest a similar name.
        raise AttributeError(
            f"module 'thalweg' has no attribute {name!r}", name=name, obj=_sys.modules[__name__]
        )
