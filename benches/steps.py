"""Times of whole steps from Python, next to each other and to the memory limit.

    python benches/steps.py                          # everything, a quarter of an hour
    python benches/steps.py --only rules layouts     # these sections
    python benches/steps.py --tiny                   # a test that it runs; its times mean nothing

`cargo bench` times the kernels alone.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

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
from thalweg import machine
from thalweg.cli.arguments import integer
from thalweg.cli.bench.display import print_setting

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
    print_setting(machine.facts([]), [])
    for name in arguments.only or SECTIONS:
        print(f"\n{name}: {SECTIONS[name].TITLE}")
        SECTIONS[name].run(options)
    return 0


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="NAME", help=_listing())
    parser.add_argument("--tiny", action="store_true", help="everything small, in a few seconds")
    parser.add_argument("--rounds", type=integer(1), help="samples of each time, not the usual")
    parser.add_argument(
        "--elements",
        type=integer(1),
        help="size of the tensor in `rules` and `loop`: 64 Mi, for 10 GB in all",
    )
    return parser


def _listing() -> str:
    return "\n".join(f"{name}: {section.TITLE}" for name, section in SECTIONS.items())


if __name__ == "__main__":
    sys.exit(main())
