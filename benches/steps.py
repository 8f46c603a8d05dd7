"""Times whole steps from Python, against each other and against the memory limit.

    python benches/steps.py                          # everything, about ten minutes
    python benches/steps.py --only rules layouts     # these sections
    python benches/steps.py --tiny                   # a test that it runs; its times mean nothing

`cargo bench` times the kernels alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

import numpy as np

import thalweg
from limit import check_limit
from sections import (
    Options,
    Section,
    forms,
    imports,
    layouts,
    loop,
    magnitudes,
    memory,
    rules,
    threads,
)
from subjects import check_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

SECTIONS: dict[str, Section] = {
    "forms": forms,
    "magnitudes": magnitudes,
    "layouts": layouts,
    "rules": rules,
    "loop": loop,
    "memory": memory,
    "imports": imports,
    "threads": threads,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sections that were asked for."""
    arguments = _parser().parse_args(argv)
    options = Options(arguments.tiny, arguments.rounds, arguments.elements)
    check_rules()
    check_limit()
    print(_facts())
    for name in arguments.only or SECTIONS:
        print(f"\n{name}: {SECTIONS[name].TITLE}\n")
        SECTIONS[name].run(options)
    return 0


def _facts() -> str:
    """What explains the times; who else uses the machine shows in those of two threads first."""
    return (
        f"thalweg {thalweg.__version__}, {thalweg.get_cpu_level()}, "
        f"{thalweg.get_num_threads()} threads, NumPy {np.__version__}; "
        f"load before the start {os.getloadavg()[0]:.2f}"
    )


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="NAME", help=_listing())
    parser.add_argument("--tiny", action="store_true", help="everything small, in a few seconds")
    parser.add_argument("--rounds", type=_positive, help="samples of each time, not the usual")
    parser.add_argument(
        "--elements", type=_positive, help="size of the tensor in `rules`: 64 Mi, for 5 GB in all"
    )
    return parser


def _listing() -> str:
    return "\n".join(f"{name}: {section.TITLE}" for name, section in SECTIONS.items())


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
