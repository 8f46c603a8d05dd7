"""`thalweg demo`: reproducible numbers and clear refusals."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from thalweg.cli import main
from thalweg.cli.demo import network
from thalweg.cli.demo.schedules import SCHEDULES

if TYPE_CHECKING:
    from pathlib import Path

for library in ("matplotlib", "rich", "sklearn"):
    pytest.importorskip(library)

LABELS = ("AdamW", "Adam + L2", "SGD + momentum")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-X", "utf8", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "thalweg", *arguments)


def results(printed: str) -> dict[str, tuple[str, str]]:
    """Train loss and test accuracy of each finished run, from the printed table."""
    row = r"^ *(.+?)  +\S+  +\S+  +(\S+)  +([\d.]+)% "
    return {
        label: (loss, accuracy) for label, loss, accuracy in re.findall(row, printed, re.MULTILINE)
    }


def test_the_demo_prints_a_table_and_saves_the_picture_it_names(tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    ended = run_command("demo", "--epochs", "2", "--output", str(picture))
    assert ended.returncode == 0, ended.stderr
    assert list(results(ended.stdout)) == list(LABELS)
    assert all(label in ended.stderr for label in LABELS), "every run has a progress bar"
    assert f"saved {picture}" in ended.stdout.splitlines()
    assert picture.read_bytes().startswith(PNG_SIGNATURE)


def test_gradients_of_the_network_agree_with_finite_differences() -> None:
    """In float64, along a direction that changes every element of a leaf."""
    generator = np.random.default_rng(3)
    parameters = {
        name: {kind: generator.standard_normal(leaf.shape) / 8 for kind, leaf in layer.items()}
        for name, layer in network.initial(generator).items()
    }
    inputs, labels = generator.standard_normal((4, 64)), generator.integers(0, 10, 4)
    gradients = network.gradients(parameters, inputs, labels)
    assert list(gradients) == list(parameters)
    for name, layer in parameters.items():
        for kind, leaf in layer.items():
            nudge = 1e-6 * generator.standard_normal(leaf.shape)
            above, below = (
                network.cross_entropy(
                    network.log_probabilities(
                        {**parameters, name: {**layer, kind: leaf + sign * nudge}}, inputs
                    ),
                    labels,
                )
                for sign in (1, -1)
            )
            change = 2 * np.vdot(gradients[name][kind], nudge)
            assert above - below == pytest.approx(change, rel=1e-6), f"{name}.{kind}"


def test_adamw_reaches_97_percent_by_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--optimizer", "adamw", "--output", str(tmp_path / "demo.png")]) == 0
    _, accuracy = results(capsys.readouterr().out)["AdamW"]
    assert float(accuracy) >= 97


def test_a_seed_gives_the_same_numbers_with_any_number_of_threads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("demo", "--epochs", "2", "--output", str(tmp_path / "demo.png"), "--seed")
    assert main([*options, "5"]) == 0
    first = results(capsys.readouterr().out)
    assert first.keys() == set(LABELS)
    assert results(run_command(*options, "5", "--threads", "1").stdout) == first
    assert main([*options, "6"]) == 0
    assert results(capsys.readouterr().out) != first


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_learning_rate_follows_a_schedule_over_the_whole_run(
    schedule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--schedule", schedule, "--epochs", "8", "--optimizer", "adamw"]
    assert main(["demo", *options, "--output", str(tmp_path / "demo.png")]) == 0
    printed = capsys.readouterr().out
    factor = SCHEDULES[schedule](8 * 43)
    assert f"learning rate: peak * {factor!r}" in printed.splitlines()
    _, accuracy = results(printed)["AdamW"]
    assert float(accuracy) >= 95
    assert (tmp_path / "demo.png").read_bytes().startswith(PNG_SIGNATURE)


def test_too_few_steps_for_a_schedule_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--epochs", "1", "--batch-size", "9999", "--output", str(tmp_path / "demo.png")]
    assert main(["demo", "--schedule", "cosine", *options]) == 2
    assert "error: total must be a whole number from 2" in capsys.readouterr().err


def test_each_chosen_optimizer_runs_once_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--epochs", "1", "--output", str(tmp_path / "demo.svg")]
    assert main(["demo", "--optimizer", "sgd", "adam", "--optimizer", "sgd", *options]) == 0
    assert list(results(capsys.readouterr().out)) == ["SGD + momentum", "Adam + L2"]
    assert "<svg" in (tmp_path / "demo.svg").read_text(encoding="utf-8")


def test_a_run_that_diverges_is_reported_and_the_others_continue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "demo.png"
    assert main(["demo", "--lr", "1e4", "--epochs", "1", "--output", str(picture)]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"^SGD \+ momentum stopped at step \d+: .*hidden1\.w", printed, re.MULTILINE)
    assert "Adam + L2" in results(printed)
    assert picture.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lr", "-0.1"], "--lr: must be finite and at least 0, got '-0.1'"),
        (["--lr", "nan"], "--lr: must be finite and at least 0, got 'nan'"),
        (["--decay", "inf"], "--decay: must be finite and at least 0, got 'inf'"),
        (["--decay", "much"], "--decay: must be finite and at least 0, got 'much'"),
        (["--epochs", "0"], "--epochs: must be a whole number of at least 1, got '0'"),
        (["--epochs", "2.5"], "--epochs: must be a whole number of at least 1, got '2.5'"),
        (["--batch-size", "0"], "--batch-size: must be a whole number of at least 1, got '0'"),
        (["--seed", "-1"], "--seed: must be a whole number from 0 to 4294967295, got '-1'"),
        (["--threads", "0"], "--threads: must be a whole number from 1 to 1024, got '0'"),
        (["--schedule", "cubic"], "--schedule: invalid choice: 'cubic'"),
        (["--optimizer", "lion"], "--optimizer: invalid choice: 'lion'"),
        (
            ["--output", "picture.doc"],
            "--output: must end in .png, .pdf or .svg, got 'picture.doc'",
        ),
    ],
)
def test_wrong_options_are_refused_with_the_reason(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["demo", *options])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["missing/demo.png", "directory.png"])
def test_an_output_that_cannot_be_written_is_refused_before_training(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "directory.png").mkdir()
    assert main(["demo", "--output", str(tmp_path / name)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "thalweg demo: error: cannot write" in captured.err


@pytest.mark.parametrize("module", ["sklearn", "matplotlib", "rich"])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(module: str) -> None:
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from thalweg.cli import main; sys.exit(main(['demo']))"
    )
    ended = run_python("-c", program)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"thalweg demo: error: the module {module!r} is missing; pip install 'thalweg[demo]'\n"
    )
