"""The promise of the memory limit: one large tensor, each rule against a loop of its traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sections import compare
from thalweg.cli.bench.cases import large
from thalweg.cli.bench.contenders import CONTENDERS, ours
from thalweg.cli.bench.formulas import AMSGRAD, PLAIN_SGD, SGD
from thalweg.cli.bench.memory import fitting_elements
from thalweg.cli.bench.native import amsgrad, plain_sgd, sgd

if TYPE_CHECKING:
    from sections import Options

TITLE = "one large tensor; speed relative to the memory limit of each rule"
ELEMENTS = 64 << 20

RULES = [
    *(CONTENDERS[f"thalweg{kind}"] for kind in ("", "-ignore", "-clip", "-float64")),
    ours("amsgrad", "thalweg AMSGrad, ignore", amsgrad, AMSGRAD, nonfinite="ignore"),
    ours("sgd", "thalweg SGD, momentum, ignore", sgd, SGD, nonfinite="ignore"),
    ours("plain-sgd", "thalweg SGD, ignore", plain_sgd, PLAIN_SGD, nonfinite="ignore"),
]


def run(options: Options) -> None:
    """Measure all rules together, on as many elements as fit into half of the memory."""
    elements = options.elements or options.pick(fitting_elements(ELEMENTS, RULES), 4_096)
    compare(large(elements), RULES, options.effort)
