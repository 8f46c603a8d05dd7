"""Arrays of every kind in every role: exact bits, or a refusal that changes nothing."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

import specimens
from specimens import memory, numbers, picture, with_elements
from thalweg import SGD, SGDW, AdamW, Optimizer, functional

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WRITTEN, GRADIENT, SAVED = "written", "gradient", "saved"
PARAMETER, STATE, MAXIMUM = "parameter of a function", "state of a function", "maximum of squares"
OPTIMIZED, REBOUND = "parameter of an optimizer", "parameter that replaces another"
NARROW = {PARAMETER, OPTIMIZED, REBOUND}
"""Roles of parameters that may be float16 and bfloat16."""
KIND_OF_ARGUMENT = {"p": PARAMETER, "g": GRADIENT, "max_exp_avg_sq": MAXIMUM}


class Scene(NamedTuple):
    """One call that takes the value under test."""

    act: Callable[[Any], list[Any]]
    """Makes the call with the value; returns the picture after it."""
    look: Callable[[], list[Any]]
    """Returns the picture of everything but the value."""


class Role(NamedTuple):
    kind: str
    what: str
    """Name of the value in messages."""
    scene: Callable[[Any, Any], Scene]
    """Makes a scene from the value's shape and its parameter's type."""
    casts: bool = False
    """Whether the value may have the other float type; it is then rounded to its parameter's."""


def constructed(make: Callable[[Any], Optimizer]) -> Callable[[Any, Any], Scene]:
    def scene(shape: Any, dtype: Any) -> Scene:
        first = numbers(4, dtype, 1)
        grads = {"first": numbers(4, dtype, 2), "fc.w": numbers(shape, dtype, 3)}

        def act(value: Any) -> list[Any]:
            opt = make({"first": first, "fc": {"w": value}})
            return picture(opt.step(grads, max_norm=1.0), opt)

        return Scene(act, lambda: picture(first, *grads.values()))

    return scene


def trained(
    call: Callable[[Optimizer, dict[str, Any], Any], Any], make: Callable[[Any], Optimizer]
) -> Callable[[Any, Any], Scene]:
    """A scene of an optimizer during a run: `call(opt, params, value)`, then a step."""

    def scene(shape: Any, dtype: Any) -> Scene:
        params = {"first": numbers(4, dtype, 1), "fc": {"w": numbers(shape, dtype, 2)}}
        grads = {"first": numbers(4, dtype, 3), "fc.w": numbers(shape, dtype, 4)}
        opt = make(params)
        opt.step(grads)

        def act(value: Any) -> list[Any]:
            done = call(opt, params, value)
            return picture(done, opt.step(grads), opt)

        return Scene(act, lambda: picture(opt, *grads.values()))

    return scene


def take_gradient(opt: Optimizer, params: dict[str, Any], value: Any) -> Any:
    return opt.step({"first": params["first"].copy(), "fc": {"w": value}}, max_norm=1.0)


def rebind(opt: Optimizer, params: dict[str, Any], value: Any) -> None:
    opt.rebind({**params, "fc": {"w": value}})


def load(key: str) -> Callable[[Optimizer, dict[str, Any], Any], Any]:
    def call(opt: Optimizer, _: dict[str, Any], value: Any) -> Any:
        saved = opt.state_dict()
        saved["step_count"] += 3
        saved["state"]["first"]["step"] += 3
        saved["state"]["first"][key] *= 2
        saved["state"]["fc.w"][key] = value
        return opt.load_state_dict(saved)

    return call


UPDATES: dict[Any, tuple[list[str], dict[str, Any]]] = {
    functional.adamw: (["p", "g", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"], {}),
    functional.sgdw: (["p", "g", "momentum_buffer"], {"momentum": 0.9}),
}


def updated(update: Any, role: str) -> Callable[[Any, Any], Scene]:
    """A scene of a function of sequences: the value is the second item of the argument `role`."""
    names, options = UPDATES[update]

    def scene(shape: Any, dtype: Any) -> Scene:
        arrays = {
            name: [numbers(4, dtype, seed), numbers(shape, dtype, seed + 9)]
            for seed, name in enumerate(names)
        }

        def act(value: Any) -> list[Any]:
            given = {**arrays, role: [arrays[role][0], value]}
            done = update(**given, step=3, lr=0.1, **options)
            return picture(done, *(given[name] for name in names if name != "g"))

        return Scene(act, lambda: picture(*arrays.values()))

    return scene


def walked(call: Callable[[Any], Any]) -> Callable[[Any, Any], Scene]:
    def scene(_: Any, dtype: Any) -> Scene:
        first = numbers(4, dtype, 1)

        def act(value: Any) -> list[Any]:
            return picture(call({"first": first, "fc": {"w": value}}), first)

        return Scene(act, lambda: picture(first))

    return scene


def adamw(params: Any) -> AdamW:
    return AdamW(params, lr=0.1, amsgrad=True)


def sgdw(params: Any) -> SGDW:
    return SGDW(params, lr=0.1, momentum=0.9)


ROLES = {
    "AdamW": Role(OPTIMIZED, "parameter 'fc.w'", constructed(adamw)),
    "SGDW": Role(OPTIMIZED, "parameter 'fc.w'", constructed(sgdw)),
    "rebind": Role(REBOUND, "parameter 'fc.w'", trained(rebind, adamw)),
    "AdamW.step": Role(GRADIENT, "the gradient of 'fc.w'", trained(take_gradient, adamw), True),
    "SGDW.step": Role(GRADIENT, "the gradient of 'fc.w'", trained(take_gradient, sgdw), True),
    **{
        f"{update.__name__} {name}": Role(
            KIND_OF_ARGUMENT.get(name, STATE), f"{name}[1]", updated(update, name), name == "g"
        )
        for update, (names, _) in UPDATES.items()
        for name in names
    },
    "decay": Role(WRITTEN, "parameter 'fc.w'", walked(lambda tree: functional.decay(tree, 0.25))),
    "clip_by_global_norm": Role(
        WRITTEN, "gradient 'fc.w'", walked(lambda tree: functional.clip_by_global_norm(tree, 0.1))
    ),
    "global_norm": Role(GRADIENT, "gradient 'fc.w'", walked(functional.global_norm)),
    **{
        f"load {key}": Role(SAVED, f"{key} of 'fc.w'", trained(load(key), make))
        for make, key in [
            (adamw, "exp_avg"),
            (adamw, "exp_avg_sq"),
            (adamw, "max_exp_avg_sq"),
            (sgdw, "momentum_buffer"),
        ]
    },
}


class Refused(NamedTuple):
    error: type[Exception]
    says: tuple[str, ...]
    """Parts of the message: the value, what is accepted, the remedy; braces name its attributes."""


WORKS = None
ARRAYS = "float32 or float64 ndarray"
NATIVE = "float32 or float64 in native byte order"
NATIVE_READ = "float32, float64, float16 or bfloat16 in native byte order"
UNWRITABLE = Refused(ValueError, ("is read-only", "a writable array", "array.copy()"))
READ_ONLY_MAP = Refused(ValueError, (*UNWRITABLE.says, 'mode="r+"', 'mode="c"'))
TIED_TO_ITSELF = Refused(ValueError, ("share memory", "pass a copy", "array.copy()"))
UNALIGNED = Refused(ValueError, ("is not aligned", "an aligned copy", "array.copy()"))
NOTHING_LOADED = "nothing was loaded"
HIDDEN = Refused(TypeError, ("got a masked array", "array.filled(0)"))
BITS_OF_STATE = Refused(TypeError, ("uint16", "got bfloat16;", "array.view(np.uint16)"))
NO_STATE = Refused(TypeError, ("got {type};", "an ndarray of the shape of its", "np.zeros(p.shape"))
NO_ARRAY = Refused(TypeError, ("got {type};", ARRAYS, "np.asarray("))


def of_functions(outcomes: dict[str, Any]) -> dict[str, Any]:
    """The outcomes with those of functions, whose parameter and state are written arrays too."""
    written = outcomes.get(WRITTEN)
    if written and NATIVE in written.says:
        got, _, way = written.says
        narrow = Refused(TypeError, (got, NATIVE_READ, way))
        state = Refused(TypeError, (got, "the dtype of its parameter, float32", way))
        return {**dict.fromkeys(NARROW, narrow), STATE: state, MAXIMUM: state, **outcomes}
    state = NO_STATE if written is NO_ARRAY else written
    return {**dict.fromkeys(NARROW, written), STATE: state, MAXIMUM: state, **outcomes}


# By kind of array, and by kind of role.
OUTCOMES: list[tuple[specimens.Specimens, dict[str, Refused | None]]] = [
    (specimens.WRITABLE, {WRITTEN: WORKS, GRADIENT: WORKS, SAVED: WORKS}),
    (specimens.READ_ONLY, {WRITTEN: UNWRITABLE, GRADIENT: WORKS, SAVED: WORKS}),
    (specimens.READ_ONLY_MAPS, {WRITTEN: READ_ONLY_MAP, GRADIENT: WORKS, SAVED: WORKS}),
    (specimens.SELF_OVERLAPPING, {WRITTEN: TIED_TO_ITSELF, GRADIENT: WORKS, SAVED: WORKS}),
    (specimens.MISALIGNED, {WRITTEN: UNALIGNED, GRADIENT: WORKS, SAVED: WORKS}),
    *[
        (
            others,
            {
                WRITTEN: Refused(TypeError, ("got {dtype};", NATIVE, f"(array{way}")),
                GRADIENT: Refused(TypeError, ("got {dtype};", NATIVE_READ, f"(g{way}")),
                SAVED: Refused(ValueError, ("saved {dtype}", "here float32", NOTHING_LOADED)),
            },
        )
        for others, way in [
            (specimens.OTHER_TYPES, ".astype("),
            (specimens.COMPLEX, ".view("),
            (specimens.RECORDS, "['name']"),
            (specimens.RAW, ".view("),
        ]
    ],
    *[
        (
            halves,
            {
                WRITTEN: Refused(TypeError, ("got {dtype};", NATIVE, "(array.astype(")),
                PARAMETER: Refused(ValueError, ("needs low", "int16", "got None", "np.zeros(p")),
                **state,
                OPTIMIZED: WORKS,
                REBOUND: Refused(
                    ValueError, ("got {dtype} {shape}", "be float32", "a new optimizer")
                ),
                GRADIENT: WORKS,
                SAVED: Refused(ValueError, ("saved {dtype}", "here float32", NOTHING_LOADED)),
            },
        )
        for halves, state in [(specimens.HALF, {}), (specimens.BFLOAT16, {STATE: BITS_OF_STATE})]
    ],
    (
        specimens.HALF_MISALIGNED,
        {
            WRITTEN: Refused(TypeError, ("got {dtype};", NATIVE, "(array.astype(")),
            **dict.fromkeys({*NARROW, STATE, MAXIMUM}, UNALIGNED),
            GRADIENT: WORKS,
            SAVED: Refused(ValueError, ("saved {dtype}", "here float32", NOTHING_LOADED)),
        },
    ),
    (
        specimens.OBJECTS,
        {
            WRITTEN: Refused(TypeError, ("got object;", NATIVE, "(list(array)")),
            GRADIENT: Refused(TypeError, ("got object;", NATIVE_READ, "(list(g)")),
            SAVED: Refused(ValueError, ("saved {dtype}", "here float32", NOTHING_LOADED)),
        },
    ),
    (
        specimens.MASKED,
        {
            WRITTEN: HIDDEN,
            GRADIENT: HIDDEN,
            SAVED: Refused(ValueError, ("masked", NOTHING_LOADED)),
        },
    ),
    (specimens.SCALARS, {WRITTEN: NO_ARRAY, GRADIENT: WORKS, SAVED: WORKS}),
    (
        specimens.HALF_SCALARS,
        {
            WRITTEN: NO_ARRAY,
            GRADIENT: WORKS,
            SAVED: Refused(ValueError, ("saved {dtype}", "here float32", NOTHING_LOADED)),
        },
    ),
    (
        specimens.OTHER_SCALARS,
        {
            WRITTEN: NO_ARRAY,
            GRADIENT: Refused(TypeError, ("got {dtype};", NATIVE_READ, "g.astype(")),
            SAVED: Refused(ValueError, ("saved {dtype}", "here float32", NOTHING_LOADED)),
        },
    ),
    (specimens.FOREIGN, {WRITTEN: NO_ARRAY, GRADIENT: WORKS, SAVED: WORKS}),
    (
        specimens.NO_ARRAYS,
        {
            WRITTEN: NO_ARRAY,
            GRADIENT: NO_ARRAY,
            SAVED: Refused(ValueError, ("must be an array", NOTHING_LOADED)),
        },
    ),
]

EXPECTED = [(arrays, of_functions(outcomes)) for arrays, outcomes in OUTCOMES]
TYPES = [np.float32, np.float64]


def table(*, works: bool) -> list[Any]:
    return [
        pytest.param(make, role, *(() if works else (expected,)), id=f"{name}-{where}")
        for entries, outcomes in EXPECTED
        for name, make in entries.items()
        for where, role in ROLES.items()
        for expected in [outcomes[role.kind]]
        if (expected is WORKS) == works
    ]


def shape_for(value: Any) -> tuple[int, ...]:
    """Shape of a parameter that fits a value, so that nothing else is wrong with the value."""
    return value.shape if isinstance(value, np.ndarray) else ()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boundary")


@pytest.mark.parametrize(("make", "role"), table(works=True))
def test_any_memory_gives_the_same_bits_as_a_plain_array(
    make: Any, role: Role, folder: Path
) -> None:
    for dtype, own in itertools.product(TYPES, TYPES):
        if dtype is not own and not role.casts:
            continue
        value = make(dtype, folder)
        plain = np.array(value, own if role.casts else None, order="C", subok=False)
        if role.kind == SAVED and plain.dtype != own:
            continue  # the value has a fixed type; saved state needs its parameter's
        one, other = (role.scene(plain.shape, own) for _ in range(2))
        if not isinstance(value, np.ndarray):
            assert one.act(value) == other.act(plain)
            continue
        before = memory(value).copy()
        assert one.act(value) == other.act(plain)
        written = role.kind in {WRITTEN, STATE, MAXIMUM, *NARROW}
        expected = with_elements(before, value, plain) if written else before
        assert np.array_equal(memory(value), expected)


@pytest.mark.parametrize(("make", "role", "refused"), table(works=False))
def test_a_refused_array_changes_nothing(
    make: Any, role: Role, refused: Refused, folder: Path
) -> None:
    value = make(np.float32, folder)
    shape = shape_for(value)
    one, other = (role.scene(shape, np.float32) for _ in range(2))
    is_refused(one, value, role.what, refused)
    good = numbers(shape, np.float32, 99)
    assert one.act(good.copy()) == other.act(good)


GIVEN = ("AdamW.step", "SGDW.step", "adamw g", "sgdw g")
STATES = ("adamw exp_avg", "adamw exp_avg_sq", "adamw max_exp_avg_sq", "sgdw momentum_buffer")
LOADED = tuple(name for name in ROLES if name.startswith("load "))
FUNCTIONS = ("adamw p", "sgdw p", "adamw g", "sgdw g")
WALKED = ("AdamW", "SGDW", "decay", "clip_by_global_norm", "global_norm")

OTHER_SHAPE = ("must have the shape of its parameter, (3,)", "got {shape}")
SHAPES = {
    "longer": numbers(4, np.float32),
    "shorter": numbers(2, np.float32),
    "empty": numbers(0, np.float32),
    "column": numbers((3, 1), np.float32),
    "row": numbers((1, 3), np.float32),
    "one element": numbers(1, np.float32),
    "0-d": numbers((), np.float32),
}
LEAVES = {
    "list of floats": ([1.0, 2.0], "fc.w.0", "float"),
    "tuple of floats": ((1.0, 2.0), "fc.w.0", "float"),
    "nested list": ([[1.0, 2.0], [3.0]], "fc.w.0.0", "float"),
    "dict of strings": ({"a": "1.0"}, "fc.w.a", "str"),
}

# Values that do not fit a parameter of shape (3,) and type float32, and their roles.
MISFITS: dict[str, tuple[tuple[str, ...], Any, str | None, Refused]] = {
    **{
        f"{name}, {kind}": (roles, value, None, Refused(ValueError, says))
        for name, value in SHAPES.items()
        for kind, roles, says in [
            ("gradient", GIVEN, OTHER_SHAPE),
            ("state", STATES, OTHER_SHAPE),
            ("saved", LOADED, ("saved float32 {shape}", "here float32 (3,)", NOTHING_LOADED)),
            ("rebound", ("rebind",), ("got float32 {shape}", "be float32 (3,)", "a new optimizer")),
        ]
    },
    "float32 scalar, gradient": (GIVEN, np.float32(1), None, Refused(ValueError, OTHER_SHAPE)),
    "float64 scalar, gradient": (GIVEN, np.float64(1), None, Refused(ValueError, OTHER_SHAPE)),
    "longer, parameter": (
        ("adamw p", "sgdw p"),
        numbers(4, np.float32),
        "g[1]",
        Refused(ValueError, ("must have the shape of its parameter, {shape}", "got (3,)")),
    ),
    "other type, state": (
        STATES,
        numbers(3, np.float64),
        None,
        Refused(TypeError, ("must have the dtype of its parameter", "got float64")),
    ),
    "other type, saved": (
        LOADED,
        numbers(3, np.float64),
        None,
        Refused(ValueError, ("saved float64 (3,)", "here float32 (3,)", NOTHING_LOADED)),
    ),
    "other type, rebound": (
        ("rebind",),
        numbers(3, np.float64),
        None,
        Refused(ValueError, ("got float64 (3,)", "be float32 (3,)", "a new optimizer")),
    ),
    **{
        f"{name}, {kind}": (roles, value, what, refused)
        for name, (value, leaf, leaf_type) in LEAVES.items()
        for kind, roles, what, refused in [
            (
                "walked",
                WALKED,
                f"'{leaf}'",
                Refused(TypeError, (f"got {leaf_type};", ARRAYS, "np.asarray(")),
            ),
            ("argument", FUNCTIONS, None, NO_ARRAY),
            ("state as argument", STATES, None, NO_STATE),
            (
                "gradient",
                ("AdamW.step", "SGDW.step"),
                None,
                Refused(TypeError, ("got a container", ARRAYS, "np.asarray(")),
            ),
            (
                "rebound",
                ("rebind",),
                "missing: 'fc.w'",
                Refused(ValueError, (f"unexpected: '{leaf}'", "make a new optimizer")),
            ),
            (
                "saved",
                LOADED,
                None,
                Refused(ValueError, ("saved {type}", "must be an array", NOTHING_LOADED)),
            ),
        ]
    },
    "None, argument": (FUNCTIONS, None, None, NO_ARRAY),
    "None, state as argument": (STATES, None, None, NO_STATE),
    "None, rebound": (("rebind",), None, "missing: 'fc.w'", Refused(ValueError, ("a new",))),
    "None, saved": (
        LOADED,
        None,
        None,
        Refused(ValueError, ("saved NoneType", "must be an array", NOTHING_LOADED)),
    ),
}


@pytest.mark.parametrize(
    ("value", "role", "what", "refused"),
    [
        pytest.param(value, ROLES[where], what or ROLES[where].what, refused, id=f"{name}-{where}")
        for name, (roles, value, what, refused) in MISFITS.items()
        for where in roles
    ],
)
def test_a_value_that_does_not_fit_its_parameter_changes_nothing(
    value: Any, role: Role, what: str, refused: Refused
) -> None:
    one, other = (role.scene((3,), np.float32) for _ in range(2))
    is_refused(one, value, what, refused)
    good = numbers(3, np.float32, 99)
    assert one.act(good.copy()) == other.act(good)


def is_refused(scene: Scene, value: Any, what: str, refused: Refused) -> None:
    def everything() -> list[Any]:
        return [scene.look(), picture(value, *around)]

    around = []
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        around = [memory(value)]

    before = everything()
    with pytest.raises(refused.error) as told:
        scene.act(value)
    assert type(told.value) is refused.error
    came = {name: getattr(value, name, None) for name in ("dtype", "shape")}
    came["type"] = type_name(value)
    for part in (what, *refused.says):
        assert part.format(**came) in str(told.value)
    assert everything() == before


def type_name(value: Any) -> str:
    module, name = type(value).__module__, type(value).__qualname__
    return name if module == "builtins" else f"{module}.{name}"


def test_remedies_in_messages_work(tmp_path: Path) -> None:
    z = np.array([1 + 2j, 3 - 4j], np.complex64)
    halves = {"z": z.view(z.real.dtype)}
    SGD(halves, lr=0.5).step({"z": np.array([1 - 1j, 2j], np.complex64).view(np.float32)})
    assert z.tolist() == [0.5 + 2.5j, 3 - 5j]

    layers = np.array([np.ones((2, 3)), np.ones((3, 1))], dtype=object)
    SGD(list(layers), lr=0.5).step([np.ones((2, 3)), np.ones((3, 1))])
    assert [layer.max() for layer in layers] == [0.5, 0.5]

    np.save(tmp_path / "w.npy", np.ones(3))
    with pytest.raises(ValueError, match=r'mode="r\+"'):
        SGD({"w": np.load(tmp_path / "w.npy", mmap_mode="r")}, lr=0.5)
    w = np.load(tmp_path / "w.npy", mmap_mode="r+")
    SGD({"w": w}, lr=0.5).step({"w": np.ones(3)})
    w.flush()
    assert np.load(tmp_path / "w.npy").tolist() == [0.5] * 3

    own = np.ones(3)
    own.setflags(write=False)
    with pytest.raises(ValueError, match="setflags"):
        SGD(own, lr=0.5)
    own.setflags(write=True)
    SGD(own, lr=0.5)
    with pytest.raises(ValueError, match="read-only") as told:
        SGD(np.broadcast_to(own, (2, 3)), lr=0.5)
    assert "setflags" not in str(told.value)  # of a broadcast array, NumPy would refuse it
