"""`thalweg-study` with tasks that take no time: what it writes, how it is interrupted, refusals."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fakes
from thalweg_study.__main__ import main
from thalweg_study.claims import CLAIMS

if TYPE_CHECKING:
    from collections.abc import Iterator

FAKES = Path(__file__).with_name("fakes.py")
TIMEOUT = 120
posix = pytest.mark.skipif(os.name != "posix", reason="signals are needed")


@pytest.fixture
def _faked() -> Iterator[None]:
    with fakes.faked():
        yield


def begin(out: Path, *options: str, **variables: str) -> subprocess.Popen[str]:
    """Start the command with fakes, with a group of processes of its own as in a terminal."""
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-X", "utf8", str(FAKES), "--out", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, **variables},
        start_new_session=True,
    )


def wait_for_the_last(started: subprocess.Popen[str]) -> None:
    """Wait until all runs but the last are finished, and that one will never be."""
    assert started.stdout is not None
    assert started.stdout.readline() == "waiting\n"


def rows(out: Path) -> dict[str, list[dict[str, str]]]:
    """What the CSV files hold, without what differs from one time to the next."""
    found = {}
    for path in sorted(out.glob("runs/*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            found[path.name] = [
                {name: cell for name, cell in row.items() if not name.endswith("_seconds")}
                for row in csv.DictReader(file, strict=True)
            ]
    return found


@posix
def test_a_study_that_was_killed_goes_on_and_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.txt"
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    started = begin(killed, "--jobs", "3", FAKES_HOOK="wait", FAKES_LOG=str(log))
    wait_for_the_last(started)
    os.kill(started.pid, signal.SIGKILL)
    # Ends when the workers have, since they have its ends of the pipes.
    started.communicate(timeout=TIMEOUT)
    with (killed / "runs.jsonl").open("ab") as torn:
        torn.write(b'{"kind":"draw","settings":{"se')
    monkeypatch.setenv(fakes.LOG, str(log))
    with fakes.faked():
        assert main(["--out", str(killed), "--jobs", "1"]) == 0
        assert "1 damaged line" in capsys.readouterr().err
        draws = [int(line.split()[0]) for line in log.read_text(encoding="utf-8").splitlines()]
        assert sorted(draws) == [*range(60), 1000, 1000]
        monkeypatch.delenv(fakes.LOG)
        assert main(["--out", str(whole), "--jobs", "1"]) == 0
    assert rows(killed) == rows(whole)


@posix
def test_ctrl_c_keeps_what_is_finished_and_meanwhile_nobody_else_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = begin(tmp_path, "--jobs", "2", FAKES_HOOK="wait")
    wait_for_the_last(started)
    with fakes.faked():
        assert main(["--out", str(tmp_path)]) == 2
    assert f"is locked by process {started.pid}" in capsys.readouterr().err
    os.killpg(started.pid, signal.SIGINT)
    printed, errors = started.communicate(timeout=TIMEOUT)
    assert (started.returncode, printed) == (130, "")
    assert "67 finished runs are kept in" in errors
    assert errors.endswith("and the same command continues from there\n")
    assert "Traceback" not in errors
    # No terminal: plain lines.
    assert not {"\x1b", "\r"} & set(errors)
    with (tmp_path / "runs.jsonl").open("rb") as file:
        assert sum(1 for _ in file) == 67


@posix
def test_a_full_disk_is_told_and_what_is_there_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = (
        "import resource, sys; sys.path.insert(0, sys.argv.pop(1)); import fakes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))\n"
        "sys.exit(fakes.main())"
    )
    options = ["--jobs", "1", "--out", str(tmp_path)]
    ended = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", program, str(FAKES.parent), *options],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ended.returncode == 2
    assert f"error: cannot keep runs in '{tmp_path / 'runs.jsonl'}': " in ended.stderr
    assert "Traceback" not in ended.stderr
    with fakes.faked():
        assert main(options) == 0
    assert "1 damaged line" in capsys.readouterr().err
    assert len(rows(tmp_path)["draw.csv"]) == 61


@pytest.mark.usefixtures("_faked")
def test_it_prints_verdicts_and_writes_all_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["heat-maps", "equivalence", "generalisation", "heat-maps"]
    assert main([*asked, "--full", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    table = printed.partition("the report:")[0].splitlines()
    assert max(map(len, table)) <= 80
    verdicts = [(line.split()[0], line[63:].strip()) for line in table if " says is [so] " in line]
    assert verdicts == [
        ("equivalence", "holds"),
        ("heat-maps", "does not hold"),
        ("generalisation", "undecided"),
    ]
    assert f"the report:   {tmp_path / 'report.html'}\n" in printed
    found = rows(tmp_path)
    assert [row["seed"] for row in found["draw.csv"]] == [*map(str, range(60))]
    assert found["draw.csv"][35]["claims"] == "equivalence heat-maps"
    assert found["draw.csv"][35]["label"] == 'a "label", with a comma'
    assert [row["seed_found"] for row in found["other.csv"]] == ["0", "-1", "-2", "-3"]
    assert [row["stopped"] for row in found["training.csv"]] == [""] * 3
    findings = (tmp_path / "report.html").read_text(encoding="utf-8")
    again = "thalweg-study equivalence heat-maps generalisation --full --data digits --out "
    assert f"Findings(command='{again}{tmp_path}'" in findings
    assert "('Runs', '67, of which 0 were found stored')" in findings
    assert "shares=Table(caption='Time of a step" in findings
    assert "('mlp', 'AdamW', '3', " in findings
    # Another study there: what is known is not run again, and no file of the last one is left.
    assert main(["heat-maps", "--full", "--out", str(tmp_path)]) == 0
    findings = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "('Runs', '34, of which 34 were found stored')" in findings
    assert "shares=None" in findings
    assert [*rows(tmp_path)] == ["draw.csv", "other.csv"]


@pytest.mark.usefixtures("_faked")
@pytest.mark.parametrize(
    ("hook", "message"), [("fail", "the run Draw(seed=1000"), ("die", "has died")]
)
def test_a_study_that_cannot_go_on_says_why_in_a_line(
    hook: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(fakes.HOOK, hook)
    assert main(["schedules", "--out", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"thalweg-study: error: {'the run' if hook == 'fail' else 'a process'}" in captured.err
    assert message in captured.err


@pytest.mark.usefixtures("_faked")
@pytest.mark.parametrize(
    "name", ["file", "file/below", "no-runs", "no-pictures", "no-store", "/dev/null/study"]
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for directory, file in (("no-runs", "runs"), ("no-pictures", "pictures")):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / file).touch()
    (tmp_path / "no-store" / "runs.jsonl").mkdir(parents=True)
    assert main(["--out", str(tmp_path / name)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("thalweg-study: error: ")
    assert str(tmp_path / name) in captured.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["heatmaps"], "'heatmaps' is no claim (did you mean 'heat-maps'?); claims are equiv"),
        (["Heat_Maps"], "(did you mean 'heat-maps'?)"),
        (["equivalence", "xyz"], "'xyz' is no claim; claims are equivalence, heat-maps, "),
        (["--quick", "--full"], "--full: not allowed with argument --quick"),
        (["--data", "cats"], "--data: invalid choice: 'cats'"),
        (["--jobs", "0"], "--jobs: '0' is not an integer from 1 to 1024"),
    ],
)
def test_wrong_options_are_refused_with_the_reason(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*options])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_crash(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        ended = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, str(FAKES), "schedules", "--jobs", "1", "--out", str(tmp_path)],
            stdout=closed,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
    assert (ended.returncode, "Error" in ended.stderr) == (1, False)


def test_help_lists_the_claims(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for name, claim in CLAIMS.items():
        assert f"  {name:<16}  {claim.SUMMARY}" in lines
