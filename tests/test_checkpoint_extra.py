"""The `extra` that a user saves with an optimizer is restored exactly, or is refused."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, OrderedDict, UserDict, defaultdict
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from thalweg import AdamW, read_checkpoint
from thalweg.checkpoint.encoding import Encoder, decode

if TYPE_CHECKING:
    from pathlib import Path

DTYPES = [
    "?",
    "u1",
    "i1",
    "u2",
    "i2",
    "f2",
    "u4",
    "i4",
    "f4",
    "u8",
    "i8",
    "f8",
    "c8",
    "c16",
    ">f4",
    ">i8",
    ">c16",
    "<u2",
]


def through_text(tree: Any) -> Any:
    encoder = Encoder()
    text = encoder.text(tree, "extra", "extra")
    assert text.isascii()
    json.loads(text, parse_constant=pytest.fail)
    tensors = {name: array for name, (_, array) in encoder.tensors.items()}
    return decode(text, tensors.__getitem__)


def same(one: Any, other: Any) -> bool:
    """Equal in type, value and bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray | np.generic):
        return (
            one.dtype == other.dtype
            and one.dtype.str == other.dtype.str
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    if isinstance(one, float):
        return repr(one) == repr(other)
    return bool(one == other)


NUMPY = st.sampled_from([np.dtype(name) for name in DTYPES])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.text()
    | NUMPY.flatmap(lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, min_side=0)))
    | NUMPY.flatmap(lambda dtype: npst.arrays(dtype, 1).map(lambda array: array[0]))
)
TREES = st.recursive(
    LEAVES,
    lambda below: (
        st.lists(below, max_size=3)
        | st.lists(below, max_size=3).map(tuple)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["$tensor", "$", "$int"]) | st.integers(),
            below,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(TREES)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_tree_is_restored_exactly(tree: Any) -> None:
    assert same(through_text(tree), tree)


EXTRA = {
    "epoch": 3,
    "history": [0.5, math.inf, -math.inf, math.nan, -0.0, 5e-324],
    "huge": [2**63 - 1, 2**63, -(2**63), -(2**64), 10**5000],
    "names": ("a", "ünï", "\ud800", "", '"\\'),
    "none": None,
    "flags": [True, False],
    "$odd": {"$tensor": "not one", "more": 1},
    "scalars": [
        np.float32(0.1),
        np.int8(-3),
        np.bool_(True),
        np.float16(np.nan),
        np.complex128(1j),
    ],
    "arrays": [
        np.arange(6, dtype=">i4").reshape(2, 3).T,
        np.array(3.5),
        np.zeros((0, 4), np.uint16),
        np.array([True, False]),
        np.arange(4.0)[::-2],
        np.array([[1 + 2j, -0.0 - 1j]], np.complex64)[:, ::-1],
        np.array([np.nan, -np.inf], np.float16),
    ],
}


def test_extra_is_restored_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    opt = AdamW({"w": np.ones(2)})
    opt.save(path, extra=EXTRA)
    assert same(read_checkpoint(path).extra, EXTRA)
    assert same(AdamW({"w": np.ones(2)}).load(path).extra, EXTRA)


EQUAL = [
    (np.str_("cat"), "cat"),
    ({0: "cat", 1: "dog"}, {0: "cat", 1: "dog"}),
    ({np.int64(3): 1, np.str_("a"): 2}, {3: 1, "a": 2}),
    ({2**70: 1, -1: {0: np.str_("a")}}, {2**70: 1, -1: {0: "a"}}),
    (OrderedDict(b=1, a=[OrderedDict()]), {"b": 1, "a": [{}]}),
    (defaultdict(list, {"$a": [0.5], 7: []}), {"$a": [0.5], 7: []}),
]


@pytest.mark.parametrize(("extra", "back"), EQUAL, ids=lambda value: repr(value)[:30])
def test_subclasses_and_numpy_strings_are_restored_as_equal_builtins(
    extra: Any, back: Any, tmp_path: Path
) -> None:
    AdamW({"w": np.ones(2)}).save(tmp_path / "run", extra=extra)
    found = read_checkpoint(tmp_path / "run").extra
    assert same(found, back)
    assert found == extra


def test_arrays_under_an_integer_key_and_its_text_are_kept_apart(tmp_path: Path) -> None:
    extra = {0: np.zeros(1), "0": np.ones(1), 1: {"2": np.full(1, 2.0)}, "1": {2: np.full(1, 3.0)}}
    AdamW({"w": np.ones(2)}).save(tmp_path / "run", extra=extra)
    assert same(read_checkpoint(tmp_path / "run").extra, extra)


@pytest.mark.parametrize("name", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_random_generators_continue_their_sequence(name: str, tmp_path: Path) -> None:
    rng = np.random.Generator(getattr(np.random, name)(7))
    rng.standard_normal(3)
    rng.integers(0, 5, dtype=np.uint8)
    AdamW({"w": np.ones(2)}).save(tmp_path / "run", extra={"rng": rng.bit_generator.state})
    other = np.random.Generator(getattr(np.random, name)(8))
    other.bit_generator.state = read_checkpoint(tmp_path / "run").extra["rng"]
    assert (rng.standard_normal(100) == other.standard_normal(100)).all()
    assert (rng.integers(0, 5, 9, np.uint8) == other.integers(0, 5, 9, np.uint8)).all()


def test_the_legacy_generator_continues_its_sequence(tmp_path: Path) -> None:
    rng = np.random.RandomState(3)
    rng.standard_normal(3)
    AdamW({"w": np.ones(2)}).save(tmp_path / "run", extra=rng.get_state())
    other = np.random.RandomState(4)
    other.set_state(read_checkpoint(tmp_path / "run").extra)
    assert (rng.standard_normal(9) == other.standard_normal(9)).all()


class Colour(IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


LOOP: list[Any] = []
LOOP.append(LOOP)
DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]

REFUSED = [
    ({"a": [0, b"bytes"]}, r"extra\['a'\]\[1\] must be None, a bool, .*, got bytes"),
    (object(), "extra must be .*, got object"),
    (lambda: 0, "extra must be .*, got function"),
    ({1, 2}, "got set"),
    (1j, "got complex"),
    (Counter("a"), r"got Counter; convert it \(dict\(x\)\)"),
    (UserDict(a=1), r"got UserDict; .*\(dict\(x\)"),
    ([Colour.RED], r"extra\[0\] must be .*, got Colour"),
    (Text("a"), "got Text"),
    (np.datetime64(3, "s"), "got datetime64"),
    ({True: 1}, "a key of extra must be a string or an integer, got True"),
    ({"a": [{(0, 1): 1}]}, r"a key of extra\['a'\]\[0\] must be .*, got \(0, 1\)"),
    ({0: [1, {2: b"bytes"}]}, r"extra\[0\]\[1\]\[2\] must be .*, got bytes"),
    ({Colour.RED: 1}, "a key of extra must be .*, got <Colour.RED: 1>"),
    (np.array(["a"]), "extra must be .*, got ndarray of dtype <U1"),
    (np.array([None]), "of dtype object"),
    (np.array([(1, 2)], "i4,i4"), r"of dtype \[\('f0'"),
    (np.array([3], "m8[s]"), r"of dtype timedelta64\[s\]"),
    (np.ma.masked_array([1.0]), "extra must be .*, got MaskedArray of dtype float64"),
    (LOOP, r"extra\[0\].*\.\.\. is nested more than 100 levels deep; perhaps it contains itself"),
    (DEEP, "nested more than 100 levels"),
]
if np.dtype(np.longdouble).itemsize > 8:
    REFUSED += [
        (np.longdouble(1), "got (longdouble|float128)"),
        (np.zeros(1, "g"), "of dtype float128"),
    ]


@pytest.mark.parametrize(("extra", "message"), REFUSED, ids=[m[:30] for _, m in REFUSED])
def test_values_that_cannot_be_restored_are_refused(
    extra: Any, message: str, tmp_path: Path
) -> None:
    opt = AdamW({"w": np.ones(2)})
    with pytest.raises((TypeError, ValueError), match=message):
        opt.save(tmp_path / "run", extra=extra)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "[Infinity]",
        '{"$tensor": 3}',
        '{"$tensor": "nowhere"}',
        '{"$tensor": "w", "as": "O"}',
        '{"$tensor": "w", "as": "<c16"}',
        '{"$tensor": "w", "as": ">M8[s]"}',
        '{"$tensor": "w", "more": 1}',
        '{"$scalar": ["O", "00"]}',
        '{"$scalar": ["<f8", "00"]}',
        '{"$scalar": ["<f8"]}',
        '{"$scalar": "x"}',
        '{"$float": "1.0"}',
        '{"$float": []}',
        '{"$int": 3}',
        '{"$int": "zz"}',
        '{"$tuple": "ab"}',
        '{"$tuple": {"a": 1}}',
        '{"$dict": [[1]]}',
        '{"$dict": [[true, 1]]}',
        '{"$dict": [[[], 1]]}',
        '{"$dict": 3}',
        '{"$new": 1}',
        '{"$tuple": [], "$dict": []}',
        "[" * 100_000 + "]" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_invalid_texts_raise_value_error(text: str) -> None:
    tensors = {"w": np.zeros(3)}
    with pytest.raises(ValueError, match=r"."):
        decode(text, tensors.__getitem__)


def test_integers_beyond_the_limit_of_digits_are_restored() -> None:
    limit = getattr(sys, "get_int_max_str_digits", lambda: 4300)()
    huge = 3 ** (10 * limit)
    assert through_text(huge) == huge
