"""Any file is loaded, or refused with a ValueError that changes nothing."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import crash
import thalweg
from conftest import attached, snapshot
from thalweg import read_checkpoint, schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

fuzzed = settings(
    max_examples=600,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

pytestmark = pytest.mark.filterwarnings("ignore:loading changes hyperparameters")


def made() -> thalweg.AdamW:
    params = {"w": np.ones((2, 3), np.float32), "b": np.ones(2), "frozen": np.ones(1)}
    groups = [{"match": "b", "lr_scale": 0.5}, {"match": "frozen", "frozen": True}]
    opt = thalweg.AdamW(params, lr=0.5 * schedule.cosine(total=9, warmup=2), groups=groups)
    thalweg.EMA(opt, 0.5 * schedule.linear(total=9))
    thalweg.Accumulator(opt)
    return opt


EXTRA = {
    "float": float("nan"),
    "int": 1 << 100,
    "tuple": (1, "é", None),
    "dict": {"$a": 1},
    "scalar": np.float32(1.5),
    "array": np.arange(3, dtype=np.int32),
    "complex": np.ones((2, 1), np.complex64),
    "swapped": np.arange(2, dtype=">f8"),
}


class Target:
    """A valid file, and an optimizer that reads mutations of it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "run.safetensors"
        self.opt = made()
        other = made()
        for _ in range(2):
            grads = {"w": np.ones((2, 3)), "b": np.ones(2), "frozen": None}
            other.step(grads)
            for mirror in attached(other).values():
                if isinstance(mirror, thalweg.EMA):
                    mirror.update()
                elif isinstance(mirror, thalweg.Accumulator):
                    mirror.add(grads)
        other.save(self.path, extra=EXTRA)
        self.raw = self.path.read_bytes()
        entries, self.body = crash.parts(self.raw)
        self.entries = entries
        self.optimizer = json.loads(entries["__metadata__"]["thalweg.optimizer"])
        self.extra = json.loads(entries["__metadata__"]["thalweg.extra"])
        self.loaded = 0
        self.before = everything(self.opt)

    def read(self, raw: bytes, *ways: dict[str, Any]) -> bool:
        """Whether `read_checkpoint` accepts `raw`. A refusal is ValueError and changes nothing."""
        self.path.write_bytes(raw)
        try:
            read_checkpoint(self.path)
            read = True
        except ValueError:
            read = False
        for options in ways or WAYS:
            try:
                self.opt.load(self.path, **options)
            except ValueError:  # noqa: PERF203 - each way is tried
                assert everything(self.opt) == self.before
            else:
                self.loaded += 1
                self.opt = made()
        return read


WAYS: list[dict[str, Any]] = [
    {},
    {"strict": False},
    {"hyperparameters": "current", "params": False},
]


def everything(opt: thalweg.Optimizer) -> Any:
    steps, counts, arrays, groups = snapshot(opt)
    others = [
        (repr(mirror), [array.tobytes() for array in mirror._mirrored.arrays.values()])
        for mirror in attached(opt).values()
    ]
    return steps, counts, [raw for _, raw in arrays.values()], groups, others


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return Target(tmp_path_factory.mktemp("fuzz"))


def test_the_unchanged_file_loads(target: Target) -> None:
    assert crash.signed(target.raw) == target.raw
    assert crash.with_texts(target.raw) == target.raw
    before = target.loaded
    assert target.read(target.raw)
    assert target.loaded == before + 3


@fuzzed
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(target: Target, raw: bytes) -> None:
    assert not target.read(raw)


@fuzzed
@given(st.data())
def test_mutated_bytes_with_a_valid_checksum(target: Target, data: st.DataObject) -> None:
    raw = bytearray(target.raw)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "set", "cut", "insert", "repeat"])):
            case "flip":
                raw[at] ^= 1 << data.draw(st.integers(0, 7))
            case "set":
                raw[at] = data.draw(st.sampled_from(b'0019-"{}[],:eE.\\ \0\xff$'))
            case "cut":
                del raw[at : at + data.draw(st.integers(1, 64))]
            case "insert":
                raw[at:at] = data.draw(st.binary(min_size=1, max_size=64))
            case "repeat":
                raw[at:at] = raw[at : at + data.draw(st.integers(1, 64))]
        if len(raw) < 100:
            break
    # In half of the cases, the length of the header is right too.
    if data.draw(st.booleans()):
        raw[:8] = (len(raw) - len(target.body) - 8).to_bytes(8, "little", signed=True)
    target.read(crash.signed(bytes(raw)))


HUGE = [2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30]
NAMES = ["params/w", "params/b", "state/w/exp_avg", "extra/array", "extra/complex", "nowhere", ""]


def deep(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(HUGE),
    st.sampled_from([-v for v in HUGE]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [
            *NAMES,
            *["w", "b", "frozen", "*", "AdamW", "SGD", "nan", "inf", "0x", "0xzz", "<f4", "|b1"],
            *[
                "cosine",
                "linear",
                "product",
                "sum",
                "then",
                "total",
                "ema",
                "\ud800",
                "\0",
                "0" * 999,
            ],
        ]
    ),
)
marks = st.one_of(
    st.sampled_from(NAMES).map(lambda name: {"$tensor": name}),
    st.tuples(
        st.sampled_from(NAMES), st.sampled_from(["<f8", "<c8", "<c16", "|b1", "<O8", ">i2"])
    ).map(lambda pair: {"$tensor": pair[0], "as": pair[1]}),
    st.sampled_from(
        [
            {"$int": "0x" + "f" * 5000},
            {"$int": "-0x1"},
            {"$int": 7},
            {"$float": "nan"},
            {"$float": "inf"},
            {"$float": 1},
            {"$scalar": ["<f4", "0000803f"]},
            {"$scalar": ["<f4", "00"]},
            {"$scalar": ["|O8", "0000000000000000"]},
            {"$scalar": ["<i8", "ffffffffffffff7f"]},
            {"$scalar": "ab"},
            {"$scalar": ["<U9", ""]},
            {"$tuple": []},
            {"$tuple": 3},
            {"$tuple": [{"$tuple": [1]}]},
            {"$dict": [["$dict", {}]]},
            {"$dict": [[[], 1]]},
            {"$dict": [1]},
            {"$dict": {}},
            {"$tensor": []},
            {"$tensor": {}},
            {"$tensor": "params/w", "as": []},
            {"$tensor": "params/w", "more": 1},
            {"$unknown": 1},
            {"$": 1},
            {"$int": "0x1", "$float": "nan"},
            {"schedule": "cosine"},
            {"schedule": {"schedule": "cosine", "total": 10**400}},
            {"schedule": {"schedule": "cosine", "total": 5, "warmup": "x"}},
            {"schedule": {"schedule": "piecewise_constant", "values": [], "boundaries": []}},
            {"schedule": {"schedule": "product", "factors": [1, 2]}},
            {"schedule": []},
            {"callable": "print"},
            {"callable": []},
            deep(0, 50),
            deep(0, 99),
            deep({"$tuple": [1]}, 120),
            deep(0, 400),
        ]
    ),
)
values = st.recursive(
    st.one_of(scalars, marks),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["w", "b", "step", "match", "", "$a", "lr"]), inner, max_size=3
        ),
    ),
    max_leaves=5,
)


def spots(tree: Any, room: int = 12) -> Iterator[tuple[Any, Any]]:
    """Each container and key of a tree, down to `room` levels."""
    if room == 0:
        return
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from spots(tree[key], room - 1)


def mutated(tree: Any, data: st.DataObject) -> Any:
    """A copy of a tree with one or two changes of values or keys."""
    tree = deepcopy(tree)
    for _ in range(data.draw(st.integers(1, 2))):
        found = [*spots(tree)]
        if not found:
            return data.draw(values)
        container, key = found[data.draw(st.integers(0, len(found) - 1))]
        match data.draw(st.sampled_from(["set", "set", "set", "drop", "add", "rename", "swap"])):
            case "set":
                container[key] = deepcopy(data.draw(values))
            case "drop":
                del container[key]
            case "add" if isinstance(container, dict):
                container[data.draw(st.sampled_from(["w", "new", "$a", "step", "lr"]))] = data.draw(
                    values.map(deepcopy)
                )
            case "rename" if isinstance(container, dict):
                container[data.draw(st.sampled_from(["w", "b", "$dict"]))] = container.pop(key)
            case "swap":
                other, there = found[data.draw(st.integers(0, len(found) - 1))]
                container[key], other[there] = deepcopy([other[there], container[key]])
    return tree


def text_of(tree: Any) -> str:
    return json.dumps(tree, separators=(",", ":"))


@settings(fuzzed, max_examples=1500)
@given(st.data())
def test_mutated_texts_of_the_optimizer(target: Target, data: st.DataObject) -> None:
    text = text_of(mutated(target.optimizer, data))
    way = data.draw(st.sampled_from(WAYS))
    target.read(crash.with_texts(target.raw, optimizer=text), way)


@fuzzed
@given(st.data())
def test_mutated_texts_of_extra(target: Target, data: st.DataObject) -> None:
    text = text_of(mutated(target.extra, data))
    target.read(crash.with_texts(target.raw, extra=text))


def ordered(entries: dict[str, Any], *, fit: bool) -> list[tuple[str, Any]]:
    """Tensors in the order of the file; with `fit`, offsets are corrected."""
    order = {dtype: -size for dtype, size in crash.SIZES.items()}
    found = sorted(entries.items(), key=lambda item: (order.get(item[1]["dtype"], 0), item[0]))
    end = 0
    for _, entry in found:
        counts = [n for n in entry["shape"] if isinstance(n, int) and n >= 0]
        size = crash.SIZES.get(entry["dtype"], 1) * math.prod(counts)
        if fit:
            entry["data_offsets"] = [end, end + size]
        end += size
    return found


@fuzzed
@given(st.data())
def test_mutated_headers(target: Target, data: st.DataObject) -> None:
    entries = {key: value for key, value in target.entries.items() if key != "__metadata__"}
    dims = st.lists(
        st.sampled_from([0, 1, 2, 3, 6, 2**32, 2**62, 2**64 - 1, -1, 1.5, None]), max_size=4
    )
    dtypes = st.sampled_from(["F32", "F64", "BF16", "F4", "F8_E4M3", "C64", "I32", "U8", "f32", ""])
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from([*entries]))
        entry = dict(entries[name])
        match data.draw(st.sampled_from(["shape", "dtype", "offsets", "rename", "drop", "more"])):
            case "shape":
                entries[name] = {**entry, "shape": data.draw(dims)}
            case "dtype":
                entries[name] = {**entry, "dtype": data.draw(dtypes)}
            case "offsets":
                pair = st.sampled_from([0, 8, 16, 2**32, 2**63, 2**64 - 1, 2**64, -1])
                entries[name] = {**entry, "data_offsets": [data.draw(pair), data.draw(pair)]}
            case "rename":
                entries[data.draw(st.sampled_from([*NAMES, "a\tb"]))] = entries.pop(name)
            case "drop":
                del entries[name]
            case "more":
                entries[name] = {**entry, "more": 1}
    found = ordered(entries, fit=data.draw(st.booleans()))
    head = {"__metadata__": target.entries["__metadata__"], **dict(found)}
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":"))
    length = max([0, *(entry["data_offsets"][1] for _, entry in found)])
    body = (target.body * 3)[:length] if length < 1000 else target.body
    target.read(crash.framed(text, body))


NESTED = "[" * 100_000 + "]" * 100_000
REFUSED = [
    "",
    "{",
    "null",
    "[]",
    "3",
    "NaN",
    "Infinity",
    '{"a":1e400}',
    '{"a":-1e400}',
    NESTED,
    '{"a":' * 500 + "1" + "}" * 500,
    '{"$tuple":[' * 110 + "]}" * 110,
    '{"$dict":[["a",' * 110 + "1" + "]]}" * 110,
    "9" * 5000,
    '{"$int":"' + "9" * 10 + 'g"}',
    '{"$tensor":"nowhere"}',
    '{"a":{"$tensor":"params/w"},"b":{"$tensor":"params/w"}}',
    "\ufeff{}",
]


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20])
def test_invalid_texts_are_refused(target: Target, text: str) -> None:
    loaded = target.loaded
    assert not target.read(crash.with_texts(target.raw, optimizer=text))
    assert target.loaded == loaded
    if text not in ("null", "[]", "3"):
        assert not target.read(crash.with_texts(target.raw, extra=text))
        assert target.loaded == loaded


NUMBERS: list[Callable[[Any], dict[str, Any]]] = [
    lambda value: {"step_count": value},
    lambda value: {"skips": {"total": value, "consecutive": 0}},
    lambda value: {"groups": [{"match": ["w", "b"], "lr": value}]},
    lambda value: {"groups": [{"match": ["w", "b"], "betas": [value, 0.5]}]},
    lambda value: {"groups": [{"match": ["w", "b"], "lr": {"schedule": value}}]},
    lambda value: {
        "groups": [{"match": [], "lr": {"schedule": {"schedule": "cosine", "total": value}}}]
    },
    lambda value: {"groups": value},
    lambda value: {"options": value},
    lambda value: {"state": {"w": {"step": value}}},
    lambda value: {"params": {"w": value}},
    lambda value: {"attached": {"ema": value}},
]
WRONG = [10**400, {"$int": hex(10**400)}, -1, {"$float": "nan"}, "x", deep(1, 95), {"a": None}]
WRONG += [
    {"$tensor": "params/w"},
    {"$tensor": "params/w", "as": ">f4"},
    {"$scalar": ["<f4", "00" * 4]},
]


@pytest.mark.parametrize("where", range(len(NUMBERS)))
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: str(wrong)[:20])
def test_invalid_values_are_refused(target: Target, where: int, wrong: Any) -> None:
    tree = {**target.optimizer, **NUMBERS[where](wrong)}
    loaded = target.loaded
    target.read(crash.with_texts(target.raw, optimizer=text_of(tree)))
    assert (
        target.loaded <= loaded + 2
    )  # the first way of `WAYS`, where everything must fit, refuses


def test_missing_added_and_repeated_keys_of_the_metadata(target: Target) -> None:
    assert not target.read(crash.with_texts(target.raw, optimizer=None))
    assert target.read(crash.with_texts(target.raw, extra=None))
    assert target.read(crash.with_texts(target.raw, more="x"))
    twice = crash.header({}, [])[:-1] + ',"__metadata__":{}}'
    assert not target.read(crash.framed(twice))


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_the_deepest_allowed_nesting_is_read(kind: type, tmp_path: Path) -> None:
    def nested(depth: int) -> Any:
        tree: Any = 1
        for _ in range(depth):
            tree = {"$": tree} if kind is dict else kind([tree])
        return tree

    opt, path = made(), tmp_path / "deep"
    opt.save(path, extra=nested(100))
    assert read_checkpoint(path).extra == nested(100)
    with pytest.raises(ValueError, match="more than 100 levels"):
        opt.save(path, extra=nested(101))


def test_a_header_in_another_form_is_refused(target: Target) -> None:
    text = target.raw[8 : len(target.raw) - len(target.body)].decode().rstrip(" ")
    metadata, tensors = text.split('},"', 1)
    forms = {
        "spaces": text.replace(',"dtype"', ', "dtype"').replace('"shape"', ' "shape"'),
        "escapes": text.replace("params/w", "params\\/w"),
        "a key twice": f'{metadata},"thalweg.extra":"null"}},"{tensors}',
        "a tensor twice": text[:-1] + ',"' + tensors,
        "more space at the end": text + " " * 128,
    }
    for form, other in forms.items():
        assert other != text, form
        target.path.write_bytes(crash.framed(other, target.body))
        with pytest.raises(ValueError, match="is damaged: its header does not follow"):
            read_checkpoint(target.path)
