"""`thalweg bench` checks before it times, compares within rounds, and reports omissions."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import thalweg
from thalweg.cli import bench, main
from thalweg.cli.bench import cases, contenders, display, limit, measure, memory, rounds, session
from thalweg.cli.bench.contenders import CONTENDERS
from thalweg.cli.bench.loops import NumpyLoop
from thalweg.cli.bench.native import Thalweg
from thalweg.cli.bench.rounds import Effort, Entry, Measurement
from thalweg.cli.bench.stepper import Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PEERS = ("torch", "deepspeed", "torchao", "bitsandbytes", "optax", "thinc")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Bytes that a step moves with state in float32, and with compact state without exponents.
SMALLER = ((28, 18), (26, 16))
TINY = ("bench", "--quick", "--elements", "4096", "--rounds", "2")
QUICKEST = (*TINY, "--cases", "large", "--contenders")


@pytest.fixture
def _without_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the other packages appear not to be installed."""
    monkeypatch.setattr(contenders, "find_spec", lambda _: None)


def data_of(*arguments: str, path: Path, code: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json", str(path)]) == code
    return json.loads(path.read_text(encoding="utf-8"))


def only_case(data: dict[str, Any]) -> dict[str, Any]:
    (case,) = data["cases"]
    return case


def sabotage(
    monkeypatch: pytest.MonkeyPatch, name: str, build: Callable[[Any], Any], **others: Any
) -> None:
    monkeypatch.setitem(CONTENDERS, name, replace(CONTENDERS[name], build=build, **others))


@pytest.mark.usefixtures("_without_peers")
def test_every_case_is_measured_and_shown_in_all_forms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = replace(cases.SMALLER["adapters"], shapes=((8, 64),) * 224)
    monkeypatch.setitem(cases.SMALLER, "adapters", fewer)
    tables, picture = tmp_path / "tables.md", tmp_path / "picture.png"
    options = ("--markdown", str(tables), "--plot", str(picture))
    data = data_of(*TINY, *options, path=tmp_path / "all.json")

    assert [case["name"] for case in data["cases"]] == list(cases.NAMES)
    printed, written = capsys.readouterr().out, tables.read_text(encoding="utf-8")
    for case in data["cases"]:
        assert case["title"] in printed
        assert f"### {case['title']}, in a loop\n" in written
        assert f"### {case['title']}, repeated\n" in written
        for contender in case["contenders"]:
            assert printed.count(f"\n{contender['label']}  ") == 2 * len(cases.NAMES)
            assert written.count(f"| {contender['label']} |") == 2 * len(cases.NAMES)
    assert picture.read_bytes().startswith(PNG_SIGNATURE)


@pytest.mark.usefixtures("_without_peers")
def test_the_data_include_the_machine_and_every_sample(tmp_path: Path) -> None:
    data = data_of(*TINY, "--cases", "mlp", path=tmp_path / "bench.json")
    machine = data["machine"]
    assert machine["threads"] == thalweg.get_num_threads()
    assert machine["cpu_level"] == thalweg.get_cpu_level()
    assert machine["available_memory"] > 0
    assert machine["cpu"]
    assert machine["versions"]["thalweg"] == thalweg.__version__
    assert machine["versions"]["NumPy"] == np.__version__

    case = only_case(data)
    assert (case["tensors"], case["elements"]) == (4, 4810)
    names = {name for name, contender in CONTENDERS.items() if contender.package is None}
    assert {contender["name"] for contender in case["contenders"]} == names
    for samples in (case["loop"], case["repeated"]):
        assert samples["rounds"] == 2
        limits = {
            (limit["bytes_only_read"], limit["bytes_per_element"]) for limit in samples["limits"]
        }
        # Of 4,810 elements 4,096 have compact state.
        compact, split = ((714 * wide + 4096 * small + 128) / 4810 for wide, small in SMALLER)
        assert limits == {(4, 28), (8, 56), (4, 36), (4, 20), (4, compact), (2, split)}
        assert samples["contenders"].keys() == names
        for series in (*samples["limits"], *samples["contenders"].values()):
            assert series["sample_rounds"] == [0, 1]
            assert len(series["sample_seconds"]) == 2
            assert series["best_seconds"] == min(series["sample_seconds"]) > 0
            assert series["median_seconds"] == pytest.approx(np.median(series["sample_seconds"]))
    assert {one["steps_per_sample"] for one in case["loop"]["contenders"].values()} == {1}


@pytest.mark.usefixtures("_without_peers")
def test_ratios_are_medians_over_rounds(tmp_path: Path) -> None:
    options = (*QUICKEST, "thalweg", "numpy", "--rounds", "3")
    case = only_case(data_of(*options, path=tmp_path / "bench.json"))
    for samples in (case["loop"], case["repeated"]):
        (flat,) = samples["limits"]
        baseline, other = samples["contenders"].values()
        spent, streamed = (np.array(one["sample_seconds"]) for one in (other, flat))
        assert other["of_limit"] == pytest.approx(np.median(streamed / spent))
        assert other["best_of_limit"] == pytest.approx(streamed.min() / spent.min())
        assert other["of_baseline"] == pytest.approx(np.median(spent / baseline["sample_seconds"]))
        assert baseline["of_baseline"] == 1
        assert flat["bytes_per_element"] == 28
    baseline = case["contenders"][0]
    assert (baseline["bytes_per_element"], baseline["limit_bytes_per_element"]) == (32, 28)


@pytest.mark.usefixtures("_without_peers")
def test_large_steps_are_compared_with_the_limit_of_their_own_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "OWN_MINIMUM", 4096)
    options = (*QUICKEST, "thalweg", "thalweg-sgd", "numpy", "reference", "--rounds", "3")
    case = only_case(data_of(*options, path=tmp_path / "bench.json"))
    *own, reference = case["repeated"]["contenders"].values()
    for one in own:
        spent, streamed = (np.array(of["sample_seconds"]) for of in (one, one["own_limit"]))
        assert one["of_limit"] == pytest.approx(np.median(streamed / spent))
    assert "own_limit" not in reference
    assert reference["of_limit"] > 0


@pytest.mark.parametrize(
    "name",
    [
        *("thalweg", "thalweg-amsgrad", "thalweg-float64", "thalweg-sgd", "numpy"),
        *("thalweg-bfloat16", "thalweg-compact", "thalweg-split"),
    ],
)
def test_the_limit_of_own_memory_writes_each_array_of_a_step_and_restores_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contender = CONTENDERS[name]
    case = cases.large(5_120)
    stepper = contender.build(cases.convert(cases.draw_parameters(case), contender.dtype))
    grads = cases.convert(cases.draw_gradients(case), contender.dtype)
    stepper.bind(grads).run()
    (key,) = grads
    arrays = [array.view(np.float32) for array in stepper.written()[key]]
    # An exclusive or with a word that is not zero changes the other.
    grads[key].view(np.uint32)[...] |= 1
    before = [array.copy() for array in arrays]
    read = 0
    stream = limit._core.stream
    half: list[bool] = []

    def count(written: list[Any], words: Any) -> None:
        nonlocal read
        stream(written, words)
        read += words.nbytes
        if read == grads[key].nbytes:
            half.extend(bool((a != b).all()) for a, b in zip(arrays, before, strict=True))

    monkeypatch.setattr(limit._core, "stream", count)
    limit.of(stepper, grads).run()
    assert half == [True] * len(arrays)
    assert read == 2 * grads[key].nbytes
    assert all(
        np.array_equal(a.view(np.uint32), b.view(np.uint32))
        for a, b in zip(arrays, before, strict=True)
    )
    assert sum(array.nbytes for array in arrays) == 5_120 * contender.traffic.written


def test_a_stream_moves_the_bytes_of_its_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []

    def count(written: list[Any], read: Any) -> None:
        moved.append(2 * sum(array.nbytes for array in written) + read.nbytes)

    monkeypatch.setattr(limit._core, "stream", count)
    names = ["thalweg", "thalweg-float64", "thalweg-bfloat16", "thalweg-compact", "thalweg-split"]
    for step in limit.build([CONTENDERS[name].traffic for name in names], 2**20).values():
        step.run()
    least = [moved_bytes / 2**20 for moved_bytes in moved]
    assert least == pytest.approx([28, 56, 20, 18 + 1 / 32, 16 + 1 / 32], rel=1e-5)


@pytest.mark.filterwarnings("default")  # of libraries about each other
@pytest.mark.parametrize("package", PEERS)
def test_an_installed_peer_passes_its_check(package: str, tmp_path: Path) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    names = [name for name, contender in CONTENDERS.items() if contender.package == package]
    # torchao compiles each shape, which takes many seconds.
    shapes = ("large",) if package == "torchao" else ("large", "mlp")
    options = (*TINY, "--cases", *shapes, "--contenders", *names)
    data = data_of(*options, path=tmp_path / "bench.json")
    assert package in data["machine"]["versions"]
    for case in data["cases"]:
        assert [contender["name"] for contender in case["contenders"]] == names
        for contender in case["contenders"]:
            assert contender["passed"], contender["error"] or contender["deviation"]
        for samples in (case["loop"], case["repeated"]):
            assert [len(one["sample_seconds"]) for one in samples["contenders"].values()] == [
                2
            ] * len(names)


@pytest.mark.usefixtures("_without_peers")
def test_peers_that_are_not_installed_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICKEST, "numpy", "thinc", "torch-loop", "torch-fused"]) == 0
    printed = capsys.readouterr().out
    assert "not installed, so not measured: torch, thinc\n" in printed
    assert "NumPy loop" in printed
    assert main([*QUICKEST, "optax"]) == 2
    assert "nothing to measure: optax not installed" in capsys.readouterr().err


def test_a_quick_run_omits_slow_compilation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contenders, "find_spec", lambda _: True)
    assert main([*TINY, "--cases", "many", "--contenders", "optax", "torchao", "thalweg"]) == 0
    printed = capsys.readouterr().out
    assert "optax adamw, jit is not measured: compilation" in printed
    assert "torchao AdamW8bit is not measured: compilation for more than 10 shapes" in printed


def test_thalweg_must_equal_the_reference_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sabotage(monkeypatch, "thalweg", NumpyLoop)
    options = (*QUICKEST, "thalweg", "numpy", "--plot", str(tmp_path / "bench.svg"))
    case = only_case(data_of(*options, path=tmp_path / "bench.json", code=1))
    wrong, right = case["contenders"]
    assert (wrong["passed"], right["passed"]) == (False, True)
    assert 0 < wrong["deviation"] == right["deviation"] <= right["deviation_allowed"]
    for samples in (case["loop"], case["repeated"]):
        assert list(samples["contenders"]) == ["numpy"]
        assert samples["contenders"]["numpy"]["of_baseline"] is None
    printed = capsys.readouterr().out
    assert "\nthalweg AdamW failed its check and is not timed: deviates from" in printed


@pytest.mark.parametrize(
    "wrong",
    [{"weight_decay": 0.0}, {"betas": (0.9, 0.99)}, {"betas": (0.89, 0.999)}, {"eps": 3e-7}],
    ids=str,
)
def test_the_check_of_others_detects_wrong_hyperparameters(
    wrong: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = partial(thalweg.AdamW, **{"lr": 1e-3, "weight_decay": 1e-2, **wrong})
    sabotage(monkeypatch, "numpy", partial(Thalweg, optimizer))
    options = (*QUICKEST, "numpy", "--plot", str(tmp_path / "bench.png"))
    case = only_case(data_of(*options, path=tmp_path / "bench.json"))
    (contender,) = case["contenders"]
    assert contender["deviation"] > 5 * contender["deviation_allowed"]
    assert not contender["passed"]


@pytest.mark.parametrize("kind", ["bfloat16", "compact", "split"])
def test_smaller_formats_are_checked_bit_by_bit(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"thalweg-{kind}"
    data = data_of(*QUICKEST, name, f"{name}-ignore", path=tmp_path / "right.json")
    for contender in only_case(data)["contenders"]:
        assert (contender["deviation"], contender["deviation_allowed"]) == (0, 0)
        assert contender["passed"]
    for samples in (only_case(data)["loop"], only_case(data)["repeated"]):
        float32, *_ = samples["limits"]
        assert float32["bytes_per_element"] == 28
        streamed = np.array(float32["sample_seconds"])
        for one in samples["contenders"].values():
            shares = streamed / one["sample_seconds"]
            assert one["of_float32_limit"] == pytest.approx(np.median(shares))
    options = {"bfloat16": "*"} if kind == "split" else {}
    full = partial(thalweg.AdamW, lr=1e-3, weight_decay=1e-2, **options)
    sabotage(monkeypatch, name, partial(Thalweg, full))
    case = only_case(data_of(*QUICKEST, name, path=tmp_path / "wrong.json", code=1))
    (wrong,) = case["contenders"]
    assert wrong["deviation"] > 0
    assert not wrong["passed"]


@pytest.mark.parametrize(
    ("wrong", "passes"),
    [({}, True), ({"weight_decay": 0.0}, False), ({"eps": 3e-7}, False), ({"lr": 2e-3}, False)],
    ids=str,
)
def test_rounded_state_is_checked_exactly_first_and_on_average_later(
    wrong: dict[str, Any], passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = partial(
        thalweg.AdamW, **{"lr": 1e-3, "weight_decay": 1e-2, "state": "compact", **wrong}
    )
    sabotage(monkeypatch, "numpy", partial(Thalweg, optimizer), rounded=True)
    case = only_case(data_of(*QUICKEST, "numpy", path=tmp_path / "bench.json"))
    (contender,) = case["contenders"]
    assert contender["passed"] == passes
    assert 0 < contender["deviation_allowed"] <= 2e-5


class Broken(NumpyLoop):
    """A contender that leaves NaN in the parameters."""

    def bind(self, grads: Any) -> Step:
        nothing = {name: np.full_like(g, np.nan) for name, g in grads.items()}
        return super().bind(nothing)


def unusable(_: Any) -> Any:
    raise ImportError("libomp.so: no such file")


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (Broken, "deviates from thalweg.reference by nan"),
        (unusable, "ImportError: libomp.so: no"),
    ],
)
def test_a_failing_contender_is_reported_and_the_others_are_timed(
    build: Callable[[Any], Any],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sabotage(monkeypatch, "numpy", build)
    case = only_case(data_of(*QUICKEST, "numpy", "thalweg", path=tmp_path / "bench.json"))
    assert [contender["passed"] for contender in case["contenders"]] == [True, False]
    assert f"NumPy loop failed its check and is not timed: {reason}" in capsys.readouterr().out


def test_the_option_sets_the_number_of_threads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICKEST, "thalweg", "--threads", "1"]) == 0
    assert "\n1 threads (" in capsys.readouterr().out
    assert thalweg.get_num_threads() == 1


@pytest.mark.usefixtures("_without_peers")
def test_a_tensor_too_large_for_memory_is_made_smaller_or_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**20)
    options = ("bench", "--rounds", "1", "--cases", "large", "--contenders", "thalweg")
    assert main([*options]) == 0
    printed = capsys.readouterr().out
    # Bytes per element: parameter and state 12, gradient 4, original 4, memory limit 16.
    assert "\none tensor of 8,192, not 67,108,864: they would need more than half" in printed
    assert main([*options, "--elements", "30000"]) == 2
    assert "30,000 elements need 0.0 GiB for all contenders" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cases", "tiny"], "--cases: invalid choice: 'tiny'"),
        (["--contenders", "adagrad"], "--contenders: invalid choice: 'adagrad'"),
        (["--elements", "0"], "--elements: must be a whole number of at least 1, got '0'"),
        (["--rounds", "0"], "--rounds: must be a whole number of at least 1, got '0'"),
        (["--threads", "all"], "--threads: must be a whole number from 1 to 1024, got 'all'"),
        (["--plot", "bench.txt"], "--plot: must end in .png, .pdf or .svg, got 'bench.txt'"),
    ],
)
def test_wrong_options_are_refused_with_the_reason(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", *options])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--markdown", "--plot"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*QUICKEST, "thalweg", option, str(tmp_path / "missing" / "bench.png")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "thalweg bench: error: cannot write" in captured.err


@pytest.mark.parametrize("module", ["matplotlib", "rich"])
def test_a_missing_extra_is_named_with_its_remedy(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As in a new interpreter, where these are not imported yet.
    for name in ("session", "display", "figure"):
        monkeypatch.delattr(bench, name)
        monkeypatch.delitem(sys.modules, f"thalweg.cli.bench.{name}")
    monkeypatch.setitem(sys.modules, module, None)
    for submodule in [name for name in sys.modules if name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, submodule)
    assert main(["bench"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"thalweg bench: error: the module {module!r} is missing; pip install 'thalweg[bench]'\n"
    )


def test_an_interrupt_ends_the_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "measure", interrupted)
    assert main([*QUICKEST, "thalweg"]) == 130


class Clock:
    """A clock that only steps advance."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.taken: list[str] = []
        monkeypatch.setattr(rounds, "perf_counter", lambda: self.now)

    def spend(self, name: str, seconds: float) -> None:
        self.now += seconds
        self.taken.append(name)

    def entry(self, name: str, seconds: float, *, always: bool = False, idle: float = 0) -> Entry:
        prepare = partial(self.spend, "prepare", idle) if idle else None
        return Entry(Step(partial(self.spend, name, seconds), prepare), always)


def test_slow_contenders_take_part_in_a_few_evenly_spread_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    entries = {
        "limit": clock.entry("limit", 0.125, always=True),
        "fast": clock.entry("fast", 0.25),
        "slow": clock.entry("slow", 8.0),
    }
    measurement = Measurement(entries, Effort(12.0, 15, 51))
    assert measurement.samples == {"limit": 32, "fast": 16, "slow": 3}
    samples = measurement.run(lambda: None)
    assert {name: len(series.seconds) for name, series in samples.items()} == measurement.samples
    gaps = [later - earlier for earlier, later in pairwise(samples["slow"].seconds)]
    assert gaps == [11, 10]
    assert samples["limit"].ratio(samples["slow"]) == 0.125 / 8


def test_contenders_take_turns_in_changing_order(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    entries = {name: clock.entry(name, 0.1, always=True) for name in "abcd"}
    measurement = Measurement(entries, Effort(1.0, 8, 8))
    clock.taken.clear()
    measurement.run(lambda: None)
    turns = [tuple(clock.taken[start : start + 4]) for start in range(0, 32, 4)]
    assert all(sorted(turn) == list("abcd") for turn in turns)
    assert len(set(turns)) > 1


def test_short_steps_are_timed_in_batches_without_their_preparation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    entries = {
        "short": clock.entry("short", 2**-17, always=True),
        "prepared": clock.entry("prepared", 2**-13, always=True, idle=5.0),
    }
    effort = Effort(1.0, 3, 3, sample_seconds=1e-3)
    samples = Measurement(entries, effort).run(lambda: None)
    assert {name: series.steps for name, series in samples.items()} == {
        "short": math.ceil(1e-3 * 2**17),
        "prepared": math.ceil(1e-3 * 2**13),
    }
    assert samples["short"].median == 2**-17
    assert samples["prepared"].best == 2**-13


def test_a_sample_in_a_loop_is_one_step_after_work_that_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    entry = clock.entry("step", 2**-13, always=True, idle=0.25)
    looped = replace(entry, step=entry.step.after(partial(clock.spend, "work", 0.5)))
    measurement = Measurement({"": looped}, Effort(6.0, 2, 9).one_by_one)
    assert measurement.rounds == 7  # in 6 s, with preparation and work
    clock.taken.clear()
    (series,) = measurement.run(lambda: None).values()
    assert clock.taken == 7 * ["prepare", "work", "step"]
    assert series.steps == 1
    assert series.seconds == dict.fromkeys(range(7), 2**-13)


def test_settling_precedes_each_sample_and_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    step = Step(partial(clock.spend, "step", 2**-4), settle=partial(clock.spend, "settle", 5.0))
    (series,) = rounds.race({"": step}, rounds=3).values()
    assert series.seconds == dict.fromkeys(range(3), 2**-4)
    assert clock.taken == 5 * ["settle", "step"]  # 2 to find the pace, 3 rounds


def test_a_large_matrix_is_checked_on_its_first_rows() -> None:
    assert cases.Case("", "", ((4_096, 4_096),)).small_copy().shapes == ((32, 4_096),)


def test_a_table_is_whole_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    display.print_table("title", ("name", "a long heading"), [("a name of some length", "12345")])
    assert capsys.readouterr().out.split() == [
        *("title", "a", "long", "name", "heading"),
        "─" * len("a name of some length  heading"),
        *("a", "name", "of", "some", "length", "12345"),
    ]
