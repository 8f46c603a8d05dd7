"""Narrow parameters and state: encodings, and the bits of updates of such arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrays
import thalweg
from arrays import assert_same_bits, machine, place
from thalweg import compact, functional, reference

ml_dtypes = pytest.importorskip("ml_dtypes")

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)
LENGTHS = st.sampled_from([0, 1, 15, 16, 63, 64, 65, 200, 1000, 1024, 5000])
STEPS = st.sampled_from([1, 2, 3, 1000, 2**32 - 1, 2**32, 10**12])


def magnitudes(rng: np.random.Generator, n: int) -> Any:
    """Numbers of at least 0: of all sizes, zeros, special ones."""
    special = np.array([0, 2.0**-149, 2.0**-126, 2.0**-115, 3e38, np.inf, np.nan], np.float32)
    x = np.exp(rng.uniform(-90, 60, n) * rng.choice([1.0, 0.1])).astype(np.float32)
    return np.where(rng.random(n) < rng.choice([0.0, 0.1, 0.9]), rng.choice(special, n), x)


@given(rng=arrays.generators, n=LENGTHS, step=STEPS | st.none())
def test_codes_are_near_and_never_vanish(rng: Any, n: int, step: int | None) -> None:
    v = magnitudes(rng, n)
    codes, bases = compact.encode_e5m3(v, step)
    assert (codes.dtype, bases.dtype, bases.shape) == (np.uint8, np.uint8, (-(-n // 64),))
    found = compact.decode_e5m3(codes, bases)
    assert np.isnan(found).tolist() == np.isnan(v).tolist()
    for start in range(0, n, 64):
        block, got = v[start : start + 64], found[start : start + 64]
        top = np.max(np.where(np.isnan(block), np.inf, block))
        floor = max(float(top) * 2.0**-31, 2.0**-115) * 1.125
        assert ((got > 0) | np.isnan(got)).all() == (top > 0)
        with np.errstate(invalid="ignore", over="ignore"):
            ordinary = np.isfinite(block) & (block >= floor) & (block < 3e38)
            error = np.abs(got[ordinary].astype(float) - block[ordinary]) / block[ordinary]
        assert (error <= (0.0625 if step is None else 0.125)).all()
        assert (np.isinf(got) == np.isinf(block))[block < 3e38].all()


@given(rng=arrays.generators, step=STEPS)
def test_what_is_decoded_is_kept_exactly(rng: Any, step: int) -> None:
    v = magnitudes(rng, 300)
    found = compact.decode_e5m3(*compact.encode_e5m3(v, step))
    assert_same_bits(compact.decode_e5m3(*compact.encode_e5m3(found)), found)
    bits = compact.encode_bfloat16(arrays.numbers(rng, (300,), FLOAT32), step)
    assert np.array_equal(compact.encode_bfloat16(compact.decode_bfloat16(bits)), bits)


@given(rng=arrays.generators)
def test_parts_of_a_parameter_are_the_whole(rng: Any) -> None:
    p = arrays.numbers(rng, (500,), FLOAT32)
    live, low = compact.split_bfloat16(p)
    assert_same_bits(compact.join_bfloat16(live, low), p)
    with np.errstate(all="ignore"):
        nearest = p.astype(BFLOAT16).view(np.uint16)
    ties = (p.view(np.uint32) & 0xFFFF) == 0x8000
    assert (np.isnan(p) | ties | (live == nearest)).all()

    live, low = compact.split_float16(p)
    with np.errstate(all="ignore"):
        assert_same_bits(live, p.astype(np.float16))
        joined = compact.join_float16(live, low)
        exact = (np.abs(p) >= 2.0**-16) & (np.abs(p) < 65520)
        assert_same_bits(joined[exact], p[exact])
        small = np.abs(p) < 2.0**-16
        assert (np.abs(joined[small] - p[small]) <= 2.0**-40).all()


def test_numbers_without_dimensions_are_arrays() -> None:
    x = np.array(0.1, np.float32)
    bits, (codes, bases) = compact.encode_bfloat16(x), compact.encode_e5m3(x)
    (live, low), (half, rest) = compact.split_bfloat16(x), compact.split_float16(x)
    for array in (
        *(bits, compact.encode_bfloat16(x, 1), compact.decode_bfloat16(bits)),
        *(codes, compact.decode_e5m3(codes, bases)),
        *(live, low, half, rest),
        *(compact.join_bfloat16(live, low), compact.join_float16(half, rest)),
    ):
        assert isinstance(array, np.ndarray)
        assert array.shape == ()


def test_nearest_bfloat16_is_that_of_ml_dtypes() -> None:
    rng = np.random.default_rng(0)
    x = np.frombuffer(rng.bytes(400_000), np.float32)
    x = x[~np.isnan(x)]
    with np.errstate(over="ignore"):
        assert np.array_equal(compact.encode_bfloat16(x), x.astype(BFLOAT16).view(np.uint16))


class Tensor:
    """A parameter with state in some formats, and the same as float32 by definition."""

    def __init__(
        self, rng: Any, shape: tuple[int, ...], formats: tuple[str, ...], layout: str
    ) -> None:
        self.formats = dict(zip(("p", "exp_avg", "exp_avg_sq"), formats, strict=False))
        p = arrays.numbers(rng, shape, FLOAT32)
        self.numbers = {name: np.zeros(shape, np.float32) for name in self.formats}
        self.parts: dict[str, Any] = {}
        self.encode("p", p, 0)
        for name in list(self.formats)[1:]:
            self.encode(name, self.numbers[name], 0)
        kept = {"exp_avg_sq", "exp_avg_sq_base"} if formats[-1] == "e5m3" else set()
        self.parts = {
            name: part if name in kept else place(part, layout)[1]
            for name, part in self.parts.items()
        }

    def encode(self, name: str, x: Any, step: int) -> None:
        """Make the parts of a number by the definition, and decode them again."""
        match self.formats[name]:
            case "float32":
                made = {name: x}
            case "bfloat16" if name == "p":
                live, low = compact.split_bfloat16(x)
                made = {"p": live.view(BFLOAT16), "low": low}
                x = compact.join_bfloat16(live, low)
            case "float16":
                live, low = compact.split_float16(x)
                made = {"p": live, "low": low}
                with np.errstate(invalid="ignore"):
                    x = compact.join_float16(live, low)
            case "bfloat16":
                bits = compact.encode_bfloat16(x, step)
                made, x = {name: bits}, compact.decode_bfloat16(bits)
            case "e5m3":
                codes, bases = compact.encode_e5m3(x, step)
                made = {name: codes, f"{name}_base": bases}
                x = compact.decode_e5m3(codes, bases)
        self.parts |= made
        self.numbers[name] = x

    def check(self, parts: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            got, expected = parts[name], part
            if part.dtype in {FLOAT32, FLOAT16, BFLOAT16}:
                assert_same_bits(got.astype(np.float32), np.asarray(expected).astype(np.float32))
            else:
                assert np.array_equal(got, expected), name


MOMENTS = [("float32", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "e5m3")]
ADAM = [
    (p, m, v)
    for p in ("float32", "bfloat16", "float16")
    for m, v in [*MOMENTS, ("float32", "e5m3"), ("bfloat16", "float32")]
    if (p, m, v) != ("float32",) * 3
]
SGD = [("float32", "bfloat16"), ("bfloat16", "float32"), ("float16", "bfloat16"), ("bfloat16",)]


@settings(max_examples=60)
@given(
    rng=arrays.generators,
    shape=arrays.shapes | st.just((70, 61)),
    formats=st.sampled_from(ADAM + SGD),
    layout=arrays.writable,
    grad_layout=arrays.readable,
    grad_type=arrays.gradient_types,
    start=STEPS,
    l2=st.sampled_from([0.0, 0.1]),
    level=st.sampled_from(thalweg.cpu_levels()),
    threads=st.sampled_from([1, 2, 3]),
)
def test_an_update_is_decoded_applied_encoded(  # noqa: PLR0917 - hypothesis passes names
    rng: Any,
    shape: tuple[int, ...],
    formats: tuple[str, ...],
    layout: str,
    grad_layout: str,
    grad_type: np.dtype[Any],
    start: int,
    l2: float,
    level: str,
    threads: int,
) -> None:
    tensor = Tensor(rng, shape, formats, layout)
    parts = tensor.parts
    tensor.parts = {name: np.array(part) for name, part in parts.items()}
    names = [name for name in tensor.formats if name != "p"]
    for step in range(start, start + 3):
        g = place(arrays.numbers(rng, shape, grad_type), grad_layout)[1]
        options = {"lr": 0.1, "l2": l2}
        is_adam = len(formats) == 3
        with np.errstate(all="ignore"):
            old = tensor.numbers
            if is_adam:
                new = reference.adam(
                    *(old["p"], g, old["exp_avg"], old["exp_avg_sq"]), step, **options
                )
            else:
                options["momentum"] = 0.9 if names else 0.0
                new = reference.sgd(old["p"], g, old[names[0]] if names else None, step, **options)
            for name, x in zip(["p", *names], new, strict=True):
                tensor.encode(name, x, step)
        common: dict[str, Any] = {**options, "low": parts.get("low"), "nonfinite": "ignore"}
        with machine(level, threads):
            if is_adam:
                functional.adam(
                    parts["p"],
                    g,
                    parts["exp_avg"],
                    parts["exp_avg_sq"],
                    step,
                    exp_avg_sq_base=parts.get("exp_avg_sq_base"),
                    **common,
                )
            else:
                momentum = parts[names[0]] if names else None
                functional.sgd(parts["p"], g, momentum, step, **common)
        tensor.check(parts)


@pytest.mark.parametrize("cuts", [(64,), (64, 128, 4096), (4992,)])
def test_slices_between_blocks_give_the_bits_of_the_whole(cuts: tuple[int, ...]) -> None:
    n, rng = 5000, np.random.default_rng(3)
    p, g = rng.standard_normal((2, n), np.float32)
    live, low = compact.split_bfloat16(p)
    whole = [live.view(BFLOAT16), g, np.zeros(n, np.uint16), np.zeros(n, np.uint8)]
    whole += [np.zeros(-(-n // 64), np.uint8), low]
    sliced = [array.copy() for array in whole]
    for step in (1, 2, 3):
        p, g, m, v, base, low = whole
        functional.adamw(p, g, m, v, step, lr=0.1, exp_avg_sq_base=base, low=low)
        for start, stop in zip((0, *cuts), (*cuts, n), strict=True):
            p, g, m, v, base, low = sliced
            at = slice(start, stop)
            functional.adamw(
                *(p[at], g[at], m[at], v[at], step),
                lr=0.1,
                exp_avg_sq_base=base[start // 64 : -(-stop // 64)],
                low=low[at],
            )
    for one, other in zip(whole, sliced, strict=True):
        assert one.tobytes() == other.tobytes()


def test_sequences_mix_formats() -> None:
    n = 100
    ps = [np.ones(n, np.float32), np.ones(n, np.float16), np.ones(n)]
    gs = [np.full(n, 0.5, np.float16)] * 3
    ms = [np.zeros(n, np.uint16), np.zeros(n, np.float32), np.zeros(n)]
    vs = [np.zeros(n, np.uint8), np.zeros(n, np.uint16), np.zeros(n)]
    bases, lows = [np.zeros(2, np.uint8), None, None], [None, np.zeros(n, np.int16), None]
    functional.adamw(ps, gs, ms, vs, 1, lr=0.1, exp_avg_sq_base=bases, low=lows)
    for p in ps:
        np.testing.assert_allclose(p.astype(float), 0.899, rtol=1e-3)
    with pytest.raises(ValueError, match=r"low\[1\]"):
        functional.adamw(ps, gs, ms, vs, 1, lr=0.1, exp_avg_sq_base=bases)
    assert ps[0][0] == ps[0][-1] != 1
