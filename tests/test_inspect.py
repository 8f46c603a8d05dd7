"""`thalweg inspect`: its output for a checkpoint, and its refusals."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tracemalloc
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import thalweg
from rules import Rule, every_rule
from thalweg import SGD, AdamW, Optimizer, _core, schedule
from thalweg.cli import main
from thalweg.cli.inspect import contents

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("run.safetensors")


def shown(path: Path, capsys: Capture, *options: str) -> str:
    assert main(["inspect", str(path), *options]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refused(path: Path, capsys: Capture, *options: str) -> str:
    assert main(["inspect", str(path), *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    prefix = "thalweg inspect: error: "
    assert captured.err.startswith(prefix)
    return captured.err.removeprefix(prefix).rstrip("\n")


def table(printed: str, first: str = "parameter") -> dict[str, dict[str, str]]:
    """Cells by row and heading, split at two spaces, which no name or number contains."""
    lines = next(part for part in printed.split("\n\n") if part.startswith(first)).splitlines()
    heading, *rows = [[cell.strip() for cell in line.split("  ") if cell] for line in lines]
    return {row[0]: dict(zip(heading, row, strict=True)) for row in rows}


def head(printed: str) -> dict[str, str]:
    lines = printed.partition("\n\n")[0].splitlines()
    pairs = (line.partition("  ") for line in lines)
    return {name: said.strip() for name, _, said in pairs}


def step(opt: Optimizer, value: float = 0.5) -> Optimizer:
    opt.step({name: np.full_like(array, value) for name, array in opt.params.items()})
    return opt


def test_the_whole_output_for_a_small_run(path: Path, capsys: Capture) -> None:
    params = {"enc": {"w": np.full((2, 2), 3.0, np.float32), "b": np.zeros(3)}, "out": [np.ones(1)]}
    opt = SGD(
        params,
        lr=0.5 * schedule.linear(total=4),
        momentum=0.5,
        groups=[{"match": "*.b", "lr": 0.0, "name": "biases"}, {"match": "out.*", "frozen": True}],
    )
    ema = thalweg.EMA(opt, 0.5)
    opt.step({"enc": {"w": np.full((2, 2), 4.0), "b": np.full(3, 2.0)}, "out": [None]})
    ema.update()
    opt.save(
        path, extra={"epoch": 3, "rows": np.arange(5), "notes": ["a", None], "z": 1j * np.ones(2)}
    )
    assert shown(path, capsys) == (
        "file        run.safetensors\n"
        f"size        {path.stat().st_size:,} bytes\n"
        "format      1\n"
        "verified    no, only the header was checked; --verify checks the whole file\n"
        "rule        SGD(lr=0.5 * linear(total=4), momentum=0.5, dampening=0.0, l2=0.0)\n"
        "step        1\n"
        "skipped     0 steps\n"
        "parameters  7 in 2 arrays, in the file; 1 more that never trained, not in the file\n"
        "group 1     1 array: lr=0.0, name='biases'\n"
        "group 2     1 array: frozen=True\n"
        "ema         average of 2 arrays, 1 update: decay=0.5, bias_correction=False\n"
        "extra       epoch (int), rows (array), notes (list of 2), z (array)\n"
        "\n"
        "parameter  dtype    shape   elements  step  norm  momentum_buffer  ema average\n"
        "enc.w      float32  (2, 2)         4     1     2                8            4\n"
        "enc.b      float64  (3,)           3     1     0           3.4641            0\n"
        "\n"
        "tensor      dtype       shape  elements     norm\n"
        "extra/rows  int64       (5,)          5  5.47723\n"
        "extra/z     complex128  (2,)          2  1.41421\n"
    )


@every_rule
@pytest.mark.parametrize("params", [True, False])
def test_the_output_for_every_rule(rule: Rule, params: bool, path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    opt = step(step(rule.make({"w": rng.normal(size=(30, 40)), "b": rng.normal(size=7)})))
    opt.save(path, params=params)
    printed = shown(path, capsys, "--verify")
    said = head(printed)
    assert said["verified"].startswith("yes")
    assert said["rule"].startswith(f"{opt.rule.name}(lr=")
    assert said["step"] == "2"
    inside = "in the file" if params else "not in the file"
    size = "1,207 in " if params or rule.state else ""
    assert said["parameters"] == f"{size}2 arrays, {inside}"
    for name, row in table(printed).items():
        arrays = {key: array for key, array in opt.state[name].items() if key != "step"}
        if params:
            arrays = {"norm": opt.params[name], **arrays}
        assert list(row)[5:] == list(arrays)
        for key, array in arrays.items():
            assert row[key] == f"{np.linalg.norm(array.ravel()):.6g}"
        shape = opt.params[name].shape
        form = (str(shape), f"{math.prod(shape):,}") if arrays else ("-", "-")
        assert (row["shape"], row["elements"], row["step"]) == (*form, "2")


def test_hyperparameters_are_shown_as_they_were_written(path: Path, capsys: Capture) -> None:
    lr = 3e-4 * schedule.cosine(total=90)
    opt = AdamW(
        {"w": np.ones(2)},
        lr=lr,
        betas=(lambda _step: 0.5, 0.999),
        amsgrad=True,
        maximize=True,
        nonfinite="skip",
    )
    step(opt)
    step(opt, math.nan)
    step(opt, math.nan)
    opt.save(path)
    said = head(shown(path, capsys))
    assert said["rule"].startswith(f"AdamW(lr={lr!r}, betas=(<")
    assert "<lambda>>, 0.999), eps=1e-08" in said["rule"]
    assert said["rule"].endswith("amsgrad=True, maximize=True, nonfinite='skip')")
    assert said["skipped"] == "2 steps, the last 2 in a row"


def test_accumulators_and_averages_have_columns_of_their_own(path: Path, capsys: Capture) -> None:
    opt = AdamW({"w": np.full(4, 2.0)})
    acc = thalweg.Accumulator(opt)
    thalweg.EMA(opt, schedule.linear(total=8))
    thalweg.EMA(opt, 0.9, name="slow")
    acc.add({"w": np.full(4, 3.0)}, weight=2)
    acc.add({"w": np.full(4, 3.0)})
    opt.save(path)
    printed = shown(path, capsys)
    attached = opt.state_dict()["attached"]
    said = head(printed)
    assert said["accumulator"] == "sum of 1 array, 2 additions: weight=3.0"
    first, second = [name for name, mirror in attached.items() if mirror["kind"] == "ema"]
    assert "decay=linear(total=8)" in said[first]
    assert "decay=0.9" in said[second]
    row = table(printed)["w"]
    assert {name: row[f"{name} average"] for name in (first, second)} == {first: "4", second: "4"}
    assert (
        row["accumulator sum"]
        == f"{np.linalg.norm(attached['accumulator']['state']['w']['sum']):.6g}"
    )


NORMS: dict[str, tuple[Any, str]] = {
    "NaN": ([1.0, math.nan], "nan"),
    "infinity": ([1.0, -math.inf], "inf"),
    "NaN and infinity": ([math.inf, math.nan], "nan"),
    "huge": ([3e200, 4e200], "5e+200"),
    "tiny": ([3e-300, 4e-300], "5e-300"),
    "zero": ([0.0, -0.0], "0"),
    "empty": (np.zeros((0, 3)), "0"),
    "scalar": (np.float64(-2.5), "2.5"),
    "booleans": ([True] * 9, "3"),
    "integers": (np.array([-128, 127], np.int8), "180.314"),
    "unsigned": (np.array([2**64 - 1], np.uint64), "1.84467e+19"),
    "half": (np.full(4, 6e4, np.float16), "120000"),
    "Fortran order": (np.asfortranarray(np.full((2, 8), 0.25)), "1"),
    "big endian": (np.array([3.0, 4.0], ">f4"), "5"),
    "NaN before infinity, in other pieces": ([math.nan, *[0.0] * 9, math.inf], "nan"),
    "infinity before NaN, in other pieces": ([math.inf, *[0.0] * 9, math.nan], "nan"),
}


@pytest.mark.parametrize(("value", "norm"), NORMS.values(), ids=NORMS)
def test_norms_of_special_values(
    value: Any, norm: str, path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "PIECE", 4)
    value = np.asarray(value)
    AdamW({"w": np.ones(1)}).save(path, extra=value)
    printed = shown(path, capsys)
    assert head(printed)["extra"] == "array"
    row = table(printed, "tensor")["extra"]
    assert (row["dtype"], row["shape"]) == (value.dtype.name, str(value.shape))
    assert (row["elements"], row["norm"]) == (f"{value.size:,}", norm)


def test_the_norm_is_computed_in_pieces(path: Path, capsys: Capture) -> None:
    w = np.random.default_rng(0).normal(size=3 * contents.PIECE + 5)
    AdamW({"w": w}).save(path)
    assert table(shown(path, capsys))["w"]["norm"] == f"{np.linalg.norm(w):.6g}"


def test_parameters_that_are_empty_scalar_or_in_fortran_order(path: Path, capsys: Capture) -> None:
    params = {"s": np.full((), 3.0), "e": np.zeros((2, 0)), "f": np.full((3, 3), 2.0, order="F")}
    AdamW(params).save(path)
    rows = table(shown(path, capsys))
    assert {name: (row["shape"], row["elements"], row["norm"]) for name, row in rows.items()} == {
        "s": ("()", "1", "3"),
        "e": ("(2, 0)", "0", "0"),
        "f": ("(3, 3)", "9", "6"),
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b", "a b"),
        ("line\nbreak", r"'line\nbreak'"),
        ("tab\t", r"'tab\t'"),
        ("", "''"),
        (" padded ", "' padded '"),
        ("\x1b[31mred", r"'\x1b[31mred'"),
        ("right\u202eleft", r"'right\u202eleft'"),
        ("ünï", "ünï"),
        ("重み", "重み"),
        ("e\u0301", "e\u0301"),
        ("x" * 200 + ".w", "x" * 28 + "..." + "x" * 26 + ".w"),
        ("重" * 100, "重" * 14 + "..." + "重" * 14),
        ("'quoted'", "'quoted'"),
    ],
)
def test_no_name_breaks_the_table(name: str, expected: str, path: Path, capsys: Capture) -> None:
    AdamW({name: np.ones(2), "z": np.ones(1)}, groups=[{"match": "z", "name": name}]).save(
        path, extra={name: 1}
    )
    printed = shown(path, capsys)
    assert f"{expected} (int)" in printed
    heading, row, last = printed.split("\n\n")[1].splitlines()
    assert row.startswith(expected)
    assert len({columns(line) for line in (heading, row, last)}) == 1
    assert columns(row[: len(expected)]) <= 60


def columns(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(unicodedata.combining, text)) // 230


def test_an_output_that_cannot_show_a_letter_shows_its_escape(path: Path) -> None:
    AdamW({"重み": np.ones(2)}).save(path)
    ended = run(path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert rb"\u91cd\u307f" in ended.stdout


def run(path: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "thalweg", "inspect", path],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_a_thousand_tensors_are_listed(path: Path, capsys: Capture) -> None:
    params = {f"layer{i}.w": np.full(i + 1, 2.0, np.float32) for i in range(1000)}
    AdamW(params).save(path)
    printed = shown(path, capsys)
    assert list(table(printed)) == list(params)
    assert len(set(map(len, printed.split("\n\n")[1].splitlines()))) == 1


def test_many_keys_of_extra_are_counted(path: Path, capsys: Capture) -> None:
    opt = AdamW({"w": np.ones(1)})
    opt.save(path, extra={f"k{i}": i for i in range(1020)})
    assert head(shown(path, capsys))["extra"].endswith("k19 (int), 1,000 more")
    for extra, expected in ((None, "nothing"), ({}, "an empty dict"), ((1, 2), "tuple of 2")):
        opt.save(path, extra=extra)
        assert head(shown(path, capsys))["extra"] == expected


def test_memory_does_not_grow_with_the_tensors(path: Path, capsys: Capture) -> None:
    AdamW({"w": np.ones(4_000_000, np.float32)}).save(path)
    shown(path, capsys)
    tracemalloc.start()
    shown(path, capsys, "--verify")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000  # each array takes 16,000,000 bytes


def test_a_damaged_body_is_shown_unless_it_is_verified(path: Path, capsys: Capture) -> None:
    AdamW({"w": np.ones(4)}).save(path)
    whole = shown(path, capsys)
    raw = bytearray(path.read_bytes())
    offset = next(row[3] for row in _core.checkpoint_header(str(path))[1] if row[0] == "params/w")
    raw[offset + 7] ^= 0x80
    raw[offset + 6] ^= 0x10
    path.write_bytes(raw)
    damaged = shown(path, capsys)
    assert "verified    no" in damaged
    assert damaged != whole
    assert "checksum" in refused(path, capsys, "--verify")


HEADERS = {
    "empty": lambda _raw: b"",
    "short": lambda raw: raw[:40],
    "cut": lambda raw: raw[:-8],
    "longer": lambda raw: raw + b"\0",
    "length": lambda raw: b"\xff" + raw[1:],
    "name": lambda raw: raw.replace(b'"params/w":', b'"parans/w":'),
    "text": lambda raw: raw.replace(b'\\"$tensor\\"', b'\\"$uensor\\"'),
    "step": lambda raw: raw.replace(b'\\"step\\":0', b'\\"stop\\":0'),
    "rule": lambda raw: raw.replace(b'\\"rule\\"', b'\\"role\\"'),
    "schedule": lambda raw: raw.replace(b'\\"total\\":9', b'\\"totem\\":9'),
    "state dict of another format": lambda raw: raw.replace(b'{\\"format\\":1', b'{\\"format\\":3'),
    "extra": lambda raw: raw.replace(b'\\"<c16\\"', b'\\"<c17\\"'),
}


@pytest.mark.parametrize("damage", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("options", [(), ("--verify",)], ids=["", "verified"])
def test_a_damaged_header_is_refused(
    damage: Any, options: tuple[str, ...], path: Path, capsys: Capture
) -> None:
    AdamW({"w": np.ones(4)}, lr=schedule.cosine(total=9)).save(path, extra=np.ones(2) * 1j)
    raw = path.read_bytes()
    path.write_bytes(damage(raw))
    assert path.read_bytes() != raw
    refused(path, capsys, *options)


def test_a_flipped_bit_of_the_header_is_never_a_crash(path: Path, capsys: Capture) -> None:
    lr = 0.1 * schedule.cosine(total=9)
    opt = AdamW({"w": np.ones(2, np.float32)}, lr=lr, groups=[{"match": "w", "name": "all"}])
    thalweg.EMA(opt, 0.9)
    opt.save(path, extra=[1.5, (2,), {"$a": 1j * np.ones(2)}, np.float32(1), 2**80])
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    size = int.from_bytes(raw[:8], "little")
    for at in range(0, 8 + size, 3):
        changed = bytearray(raw)
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        assert main(["inspect", str(path)]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_of_a_later_format_is_refused(path: Path, capsys: Capture) -> None:
    AdamW({"w": np.ones(4)}).save(path)
    raw = path.read_bytes().replace(b'"thalweg.format":"1"', b'"thalweg.format":"2"')
    path.write_bytes(raw)
    assert refused(path, capsys).endswith(
        "must have format '1', which this version of thalweg reads, got '2'"
    )


def test_other_files_are_refused(path: Path, capsys: Capture, tmp_path: Path) -> None:
    assert refused(path, capsys) == "run.safetensors: No such file or directory (cannot open it)"
    assert "is a directory; a checkpoint is a regular file" in refused(tmp_path, capsys)
    safetensors.numpy.save_file({"w": np.ones(2)}, path)
    assert "of another program" in refused(path, capsys)
    _core.write_checkpoint(str(path), {"a": "b"}, [("w", "F64", np.ones(2))])
    assert "contains no optimizer" in refused(path, capsys, "--verify")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
def test_a_fifo_is_refused_without_waiting(path: Path, capsys: Capture) -> None:
    os.mkfifo(path)
    assert "a device, a pipe or a socket" in refused(path, capsys)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text elsewhere")
def test_a_path_that_is_no_text_is_escaped(path: Path, capsys: Capture) -> None:
    AdamW({"w": np.ones(4)}).save(path)
    odd = path.rename(os.fsdecode(b"run\xff"))
    assert head(shown(odd, capsys))["file"] == r"'run\udcff'"


def test_a_file_that_shrinks_while_it_is_read_is_an_error(path: Path) -> None:
    AdamW({"w": np.ones(100_000)}).save(path)
    with contents.opened(path, verify=True) as found:
        os.truncate(path, path.stat().st_size - 100_000)
        with pytest.raises(ValueError, match=r"^'run.safetensors' was changed while it was read$"):
            found.norm(found.tensors["state/w/exp_avg_sq"])


def test_a_file_that_is_replaced_while_it_is_read_is_an_error(
    path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    AdamW({"w": np.ones(4)}).save(path)
    header = _core.checkpoint_header

    def replaced(name: str) -> Any:
        found = header(name)
        AdamW({"w": np.ones(40)}).save(path)
        return found

    monkeypatch.setattr(_core, "checkpoint_header", replaced)
    assert "was replaced or changed while it was read" in refused(path, capsys)


def test_a_file_that_is_replaced_after_opening_is_shown_as_it_was(path: Path) -> None:
    AdamW({"w": np.full(4, 1.0)}).save(path)
    with contents.opened(path, verify=False) as found:
        AdamW({"w": np.full(4, 2.0)}).save(path)
        assert found.norm(found.tensors["params/w"]) == 2.0


def test_a_type_that_numpy_lacks_has_no_norm(path: Path, capsys: Capture) -> None:
    AdamW({"w": np.ones(4)}).save(path, extra=np.ones(3, np.uint16))
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    # The Rust library may write this type. Its name is longer, so a space at the end is removed.
    header = raw[8:end].replace(b'"dtype":"U16"', b'"dtype":"BF16"').removesuffix(b" ")
    path.write_bytes(raw[:8] + header + raw[end:])
    row = table(shown(path, capsys), "tensor")["extra"]
    assert (row["dtype"], row["shape"], row["norm"]) == ("BF16", "(3,)", "-")


def test_no_optional_dependency_is_needed(path: Path) -> None:
    AdamW({"w": np.ones(4)}).save(path)
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['safetensors', 'matplotlib', 'rich', 'torch']))\n"
        "from thalweg.cli import main\n"
        f"sys.exit(main(['inspect', {str(path)!r}]))"
    )
    ended = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_closed_output_ends_the_command_without_a_traceback(path: Path) -> None:
    AdamW({"w": np.ones(4)}).save(path)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        ended = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "thalweg", "inspect", path],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, "")
