"""Draw the pictures of `schedules.md`: ``python docs/draw_schedules.py``, with matplotlib.

`thalweg.schedule.plot` draws every picture, so each legend is the code of its curve. A palette of
few colours makes a file a fifth of the size. Pillow reduces the colours; matplotlib needs it too.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from thalweg.schedule import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    exponential,
    inverse_sqrt,
    linear,
    one_cycle,
    one_cycle_momentum,
    piecewise_constant,
    piecewise_interpolated,
    plot,
    polynomial,
    triangular,
    warmup,
    warmup_stable_decay,
)

FOLDER = Path(__file__).parent / "schedules"
STEPS = 120
PICTURES: dict[str, list[Schedule]] = {
    "constant": [constant(), constant(0.6, warmup=20)],
    "linear": [linear(total=100), linear(total=100, warmup=20, final=0.2)],
    "polynomial": [polynomial(total=100, power=2), polynomial(total=100, power=0.5, warmup=20)],
    "cosine": [
        cosine(total=100),
        cosine(total=100, warmup=20, final=0.1),
        cosine(total=100, exponent=3),
    ],
    "exponential": [
        exponential(0.5, steps=20),
        exponential(0.5, steps=20, staircase=True),
        exponential(0.97, warmup=20, final=0.2),
    ],
    "inverse_sqrt": [inverse_sqrt(), inverse_sqrt(warmup=20)],
    "warmup_stable_decay": [
        warmup_stable_decay(total=100, warmup=10, decay=40, shape=shape)
        for shape in ("linear", "cosine", "sqrt")
    ],
    "cosine_restarts": [
        cosine_restarts(40),
        cosine_restarts(15, T_mult=2, warmup=10, decay=0.8, final=0.1),
    ],
    "triangular": [triangular(0.1, 1.0, up=20), triangular(0.1, 1.0, up=10, down=30, decay=0.6)],
    "one_cycle": [
        one_cycle(total=100),
        one_cycle(total=100, shape="linear", three_phase=True),
    ],
    "one_cycle_momentum": [
        one_cycle_momentum(total=100),
        one_cycle_momentum(total=100, shape="linear", three_phase=True),
    ],
    "piecewise_constant": [piecewise_constant({1: 0.3, 30: 1.0, 60: 0.5, 90: 0.1})],
    "piecewise_interpolated": [
        piecewise_interpolated({1: 0.3, 30: 1.0, 60: 0.5, 90: 0.1}),
        piecewise_interpolated({1: 0.3, 30: 1.0, 60: 0.5, 90: 0.1}, shape="cosine"),
    ],
    "warmup": [
        warmup(linear(total=61), steps=40),
        warmup(linear(total=61), steps=40, kind="cosine"),
        warmup(linear(total=61), steps=40, kind="exponential", start=0.05),
        warmup(linear(total=61), steps=40, kind="constant", start=0.3),
    ],
    "arithmetic": [
        linear(total=100) * cosine_restarts(25),
        0.5 * cosine(total=60, warmup=10) + 0.2,
        constant(0.8).then(cosine(total=60, peak=0.8), at=50),
    ],
}


def main() -> None:
    """Draw all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name, schedules in PICTURES.items():
        margins = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
        picture = Figure(figsize=(7.2, 2.7 + 0.2 * len(schedules)), dpi=100, layout=margins)
        plot(*schedules, steps=STEPS, axes=picture.add_subplot())
        drawn = BytesIO()
        picture.savefig(drawn)
        small = Image.open(drawn).convert("RGB").quantize(160)
        small.save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
