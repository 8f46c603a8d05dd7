"""The rules in plain NumPy: the definition that the Rust core equals bit for bit.

Every function is pure: it returns new arrays and does not write to its arguments. The code is
written for readers and as the oracle of the tests, not for speed. NaNs are equal whatever their
payload; all other results compare with ``==``, for every instruction set, number of threads, stride
and slice.

Names follow the papers: ``p`` parameter, ``g`` gradient, ``m`` first moment (`exp_avg`), ``v``
second moment (`exp_avg_sq`), ``u`` its running maximum (`max_exp_avg_sq`), ``b`` momentum buffer.

Four rules define the bits:

* Only ``+ - * /`` and square root, in the order written here, each rounded once to the parameter's
  type; no fused multiply-add.
* Scalars are Python floats (float64), computed once per step and rounded once.
* A term is left out if its coefficient rounds to zero, so that ``weight_decay=0`` leaves an
  infinite parameter infinite.
* Magnitudes below a floor (`Floors`) become zero before use. Processors are many times slower on
  subnormal numbers, and training produces them: under zero gradients a first moment decays to the
  subnormal range and would stay there.
"""

from thalweg.reference.adabelief import adabelief
from thalweg.reference.adagrad import adagrad
from thalweg.reference.adam import adam, radamw
from thalweg.reference.lion import lion
from thalweg.reference.nadam import nadamw
from thalweg.reference.norms import clip_factor, global_norm, tensor_stats
from thalweg.reference.passes import accumulate, average, decay
from thalweg.reference.rmsprop import rmsprop
from thalweg.reference.rows import lazy, sum_rows
from thalweg.reference.schedule_free import averaged_point, schedule_free_adamw
from thalweg.reference.sgd import sgd
from thalweg.reference.terms import FLOORS, Floors, clip_value, flush, mix, one_minus_power

__all__ = [
    "FLOORS",
    "Floors",
    "accumulate",
    "adabelief",
    "adagrad",
    "adam",
    "average",
    "averaged_point",
    "clip_factor",
    "clip_value",
    "decay",
    "flush",
    "global_norm",
    "lazy",
    "lion",
    "mix",
    "nadamw",
    "one_minus_power",
    "radamw",
    "rmsprop",
    "schedule_free_adamw",
    "sgd",
    "sum_rows",
    "tensor_stats",
]
