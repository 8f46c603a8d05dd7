"""What smaller state and bfloat16 weights do to training, on handwritten digits, with a picture.

1. **Stall.** bfloat16 weights with small steps: rounded to nearest after each step, and with `low`.
2. **Fading gradients.** An average of squares in bfloat16: rounded to nearest, and dithered.
3. **Collapse.** Small gradients beside large ones: second moments in 8 bits that round to zero, and
   compact state.
4. **A long run.** 20,000 steps with ``betas=(0.9, 0.9999)``, in four formats and with three seeds.

The data are the 1,797 digits of scikit-learn; a quarter is for testing. The program prints its
figures, and draws the first three parts to ``thalweg-small-state.png``. It takes four minutes.

    pip install 'thalweg[demo]'
    python examples/small_state.py
"""

from __future__ import annotations

import argparse
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter
from PIL import Image
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

import thalweg
from thalweg import compact, functional

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[Any]
    State = Literal["full", "bfloat16", "compact"]

BATCH = 32
SIZES = (64, 256, 10)
LONG = 20_000
EVERY = 20
"""Steps between two points of a curve."""
COLOURS = ("#0072B2", "#009E73", "#D55E00")  # of Okabe and Ito, distinct for colour-blind readers
LINES = ("-", "--", "-.")
WIDTHS = (3.5, 1.8, 1.8)  # the first is seen under the second, which hardly differs


class Format(NamedTuple):
    """How the weights of the network and their state are kept."""

    label: str
    bfloat16: bool
    state: State
    companion: bool = True
    """Whether `low` keeps what a bfloat16 lacks."""


FLOAT32 = Format("float32", bfloat16=False, state="full")
FORMATS = (
    FLOAT32,
    Format("float32, bfloat16 state", bfloat16=False, state="bfloat16"),
    Format("float32, compact state", bfloat16=False, state="compact"),
    Format("bfloat16, compact state", bfloat16=True, state="compact"),
)
STALLING = (
    FLOAT32,
    Format("bfloat16 with low", bfloat16=True, state="full"),
    Format("bfloat16 to nearest", bfloat16=True, state="full", companion=False),
)


class Digits:
    """Standardised images and their digits, to train on and to test on."""

    def __init__(self) -> None:
        pixels, digits = load_digits(return_X_y=True)
        images = ((pixels - pixels.mean()) / pixels.std()).astype(np.float32)
        test = np.arange(len(digits)) % 4 == 0
        self.images, self.digits = images[~test], digits[~test]
        self.test_images, self.test_digits = images[test], digits[test]


class Network:
    """A hidden layer with ReLU; its weights may be bfloat16, in arrays of uint16."""

    def __init__(self, seed: int, *, bfloat16: bool) -> None:
        generator = np.random.default_rng(seed)
        self.params: dict[str, Any] = {}
        for name, inputs, outputs in zip(("hidden", "output"), SIZES, SIZES[1:], strict=False):
            weight = generator.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
            exact = weight.astype(np.float32)
            self.params[name] = {
                "w": compact.encode_bfloat16(exact) if bfloat16 else exact,
                "b": np.zeros(outputs, np.float32),
            }

    def _layer(self, name: str) -> tuple[Floats, Floats]:
        w = self.params[name]["w"]
        return compact.decode_bfloat16(w) if w.dtype == np.uint16 else w, self.params[name]["b"]

    def gradients(self, images: Floats, digits: Floats) -> dict[str, Any]:
        """Gradients of the mean cross-entropy, as float32."""
        w, b = self._layer("hidden")
        active = np.maximum(images @ w + b, 0)
        w, b = self._layer("output")
        logits = active @ w + b
        slope = np.exp(logits - logits.max(axis=1, keepdims=True))
        slope /= slope.sum(axis=1, keepdims=True)
        slope[np.arange(len(digits)), digits] -= 1
        slope /= len(digits)
        below = (slope @ w.T) * (active > 0)
        return {
            "hidden": {"w": images.T @ below, "b": below.sum(axis=0)},
            "output": {"w": active.T @ slope, "b": slope.sum(axis=0)},
        }

    def errors(self, images: Floats, digits: Floats) -> float:
        """Share of images that are read wrongly."""
        w, b = self._layer("hidden")
        active = np.maximum(images @ w + b, 0)
        w, b = self._layer("output")
        return float(((active @ w + b).argmax(axis=1) != digits).mean())


def batches(digits: Digits, seed: int, steps: int) -> Iterator[tuple[Floats, Floats]]:
    """Random batches of training images with their digits."""
    generator = np.random.default_rng((seed, 1))
    for _ in range(steps):
        rows = generator.integers(len(digits.digits), size=BATCH)
        yield digits.images[rows], digits.digits[rows]


def optimizer(network: Network, kept: Format, lr: float, beta2: float = 0.999) -> thalweg.AdamW:
    """An AdamW without decay for the network in its format."""
    return thalweg.AdamW(
        network.params,
        lr=lr,
        betas=(0.9, beta2),
        weight_decay=0.0,
        state=kept.state,
        bfloat16="*.w" if kept.bfloat16 else (),
    )


def forget(opt: thalweg.AdamW) -> None:
    """Leave the nearest bfloat16 of each weight, as an optimizer without `low` does."""
    for arrays in opt.state.values():
        if "low" in arrays:
            arrays["low"][...] = 0


def stall(digits: Digits, steps: int = 2000) -> dict[str, list[float]]:
    """Test errors by step with a learning rate of 1e-4, in three formats of the weights."""
    found = {}
    for kept in STALLING:
        network = Network(0, bfloat16=kept.bfloat16)
        opt = optimizer(network, kept, lr=1e-4)
        curve = [network.errors(digits.test_images, digits.test_digits)]
        for step, batch in enumerate(batches(digits, 0, steps), 1):
            opt.step(network.gradients(*batch))
            if not kept.companion:
                forget(opt)
            if step % EVERY == 0:
                curve.append(network.errors(digits.test_images, digits.test_digits))
        found[kept.label] = curve
    return found


def fade(steps: int = 8000, elements: int = 4096) -> dict[str, list[float]]:
    """√v by step, in gradients' deviations, after these became a thousand times smaller."""
    generator = np.random.default_rng(0)
    zeros = np.zeros(elements, np.float32)
    v: dict[str, Floats] = {
        "float32": zeros + 1,
        "bfloat16, dithered": compact.encode_bfloat16(zeros + 1),
        "bfloat16, to nearest": zeros + 1,
    }
    found: dict[str, list[float]] = {label: [] for label in v}
    for step in range(1, steps + 1):
        g = np.float32(1e-3) * generator.standard_normal(elements).astype(np.float32)
        for label, squares in v.items():
            functional.adamw(zeros.copy(), g, zeros.copy(), squares, step, lr=1e-3)
            if label == "bfloat16, to nearest":
                squares[:] = compact.decode_bfloat16(compact.encode_bfloat16(squares))
            if step % EVERY == 0:
                exact = squares if squares.dtype == np.float32 else compact.decode_bfloat16(squares)
                found[label].append(float(np.sqrt(exact.mean())) / 1e-3)
    return found


def linear8(v: Floats) -> Floats:
    """Second moments as 8 bits of each block's largest, which makes the small ones zero."""
    blocks = v.reshape(-1, 64)
    unit = blocks.max(axis=1, keepdims=True) / 255
    codes = np.rint(np.divide(blocks, unit, out=np.zeros_like(blocks), where=unit > 0))
    rounded: Floats = codes * unit
    return rounded.reshape(v.shape)


def collapse(steps: int = 50, elements: int = 4096) -> dict[str, list[float]]:
    """Largest change of a weight by step, in learning rates.

    One weight in 64 has gradients 10,000 times those of the others; after half of the steps, the
    others' fade to zero.
    """
    lr = 1e-3
    scale = np.where(np.arange(elements) % 64, 1e-4, 1).astype(np.float32)
    state: dict[str, Floats] = {
        "float32": np.zeros(elements, np.float32),
        "compact": np.zeros(elements, np.uint8),
        "8 bits, linear": np.zeros(elements, np.float32),
    }
    bases = np.zeros(elements // 64, np.uint8)
    found: dict[str, list[float]] = {}
    for label, squares in state.items():
        generator = np.random.default_rng(0)
        p, m = np.zeros(elements, np.float32), np.zeros(elements, np.float32)
        found[label] = []
        for step in range(1, steps + 1):
            g = scale * generator.standard_normal(elements).astype(np.float32)
            if step > steps // 2:
                g[scale < 1] = 0
            before = p.copy()
            functional.adamw(
                p,
                g,
                m,
                squares,
                step,
                lr=lr,
                weight_decay=0.0,
                exp_avg_sq_base=bases if label == "compact" else None,
            )
            if label == "8 bits, linear":
                squares[:] = linear8(squares)
            found[label].append(float(np.abs(p - before).max()) / lr)
    return found


class Ended(NamedTuple):
    """How a long run ended."""

    errors: float
    denominators: tuple[float, float] | None
    """Median and 99th percentile of the factor between √v and that of float32 state."""


def long_run(digits: Digits, kept: Format, seed: int, steps: int) -> Ended:
    """Train for `steps` steps; beside it, the same gradients go to float32 state."""
    network = Network(seed, bfloat16=kept.bfloat16)
    opt = optimizer(network, kept, lr=1e-3, beta2=0.9999)
    exact = optimizer(Network(seed, bfloat16=False), FLOAT32, lr=1e-3, beta2=0.9999)
    for batch in batches(digits, seed, steps):
        grads = network.gradients(*batch)
        opt.step(grads)
        exact.step(grads)
    errors = network.errors(digits.test_images, digits.test_digits)
    if kept.state == "full":
        return Ended(errors, None)
    own, full = (compact.decode(each, "hidden.w")["exp_avg_sq"] for each in (opt, exact))
    factors = np.sqrt(own[full > 0] / full[full > 0])
    away = np.maximum(factors, 1 / factors)
    return Ended(errors, (float(np.median(factors)), float(np.percentile(away, 99))))


def draw(
    stalled: dict[str, list[float]],
    faded: dict[str, list[float]],
    collapsed: dict[str, list[float]],
) -> Figure:
    """Draw the first three parts beside each other."""
    margins = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, wspace=0.03)
    picture = Figure(figsize=(12.6, 4.0), dpi=100, layout=margins)
    one, two, three = picture.subplots(1, 3)
    _curves(one, stalled, EVERY, first=0)
    one.set_title("Stall at a learning rate of 1e-4")
    one.set_ylabel("test errors")
    one.set_ylim(0, 1)
    one.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _curves(two, faded, EVERY, first=EVERY)
    two.set_title("Gradients fade to a thousandth")
    two.set_ylabel("√v, in deviations of the gradient")
    two.set_yscale("log")
    _curves(three, collapsed, 1, first=1)
    three.set_title("Collapse: large and small gradients")
    three.set_ylabel("largest change of a weight, in lr")
    three.set_yscale("log")
    for axes in (one, two, three):
        axes.set_xlabel("step")
        axes.set_xlim(left=0)
        axes.grid(color="0.9", linewidth=0.8)
        axes.legend(handlelength=3, edgecolor="none")
        axes.spines[["top", "right"]].set_visible(False)
    return picture


def _curves(axes: Axes, curves: dict[str, list[float]], every: int, *, first: int) -> None:
    styles = zip(COLOURS, LINES, WIDTHS, strict=True)
    for (label, values), (colour, line, width) in zip(curves.items(), styles, strict=True):
        steps = first + every * np.arange(len(values))
        axes.plot(steps, values, line, color=colour, linewidth=width, label=label)


def save(picture: Figure, path: Path) -> None:
    """Save with few colours, which makes the file small."""
    drawn = BytesIO()
    picture.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(128).save(path, optimize=True)


def print_long_runs(digits: Digits, seeds: int, steps: int) -> None:
    """Run the fourth part; print a line for each format."""
    print(f"{steps:,} steps with betas=(0.9, 0.9999), {seeds} seeds:")
    print(f"{'':26}{'test errors':>20}{'√v / float32, median':>24}{'99 % within':>14}")
    ended: dict[Format, list[Ended]] = {kept: [] for kept in FORMATS}
    for kept, seed in product(FORMATS, range(seeds)):
        ended[kept].append(long_run(digits, kept, seed, steps))
        if seed + 1 == seeds:
            errors = " ".join(f"{100 * run.errors:.2f}" for run in ended[kept])
            told = [run.denominators for run in ended[kept] if run.denominators]
            median, away = np.mean(told, axis=0) if told else (1.0, 1.0)
            print(f"{kept.label:26}{errors + ' %':>20}{median:>24.3f}{away:>14.3f}", flush=True)


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".png" or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"must be a .png in a folder that exists, got {text!r}")
    return path


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> None:
    """Run all parts with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, kind, default, text in (
        ("--picture", _picture, Path("thalweg-small-state.png"), "file of the picture"),
        ("--steps", _count, LONG, "of a long run"),
        ("--seeds", _count, 3, "how many long runs a format has"),
    ):
        shown = f"{text} (default {default})"
        parser.add_argument(name, type=kind, default=default, help=shown)
    given = parser.parse_args(argv)
    with threadpool_limits(1):  # faster for a network this small
        _run(given)


def _run(given: argparse.Namespace) -> None:
    digits = Digits()
    parts = stall(digits), fade(), collapse()
    for title, unit, curves, measure in (
        ("test errors at the end", "%", {k: 100 * v[-1] for k, v in parts[0].items()}, "{:.1f}"),
        ("√v at the end", "deviations", {k: v[-1] for k, v in parts[1].items()}, "{:,.1f}"),
        ("largest change", "learning rates", {k: max(v) for k, v in parts[2].items()}, "{:,.2f}"),
    ):
        print(f"{title}, in {unit}:")
        for label, value in curves.items():
            print(f"  {label:24}{measure.format(value):>10}")
    save(draw(*parts), given.picture)
    print(f"saved {given.picture}")
    print_long_runs(digits, given.seeds, given.steps)


if __name__ == "__main__":
    main()
