"""The `thalweg` command: its output and its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import thalweg
from thalweg import _core
from thalweg.cli import main


def test_no_subcommand_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert "usage: thalweg" in printed
    assert all(command in printed for command in ("bench", "demo", "info", "inspect"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"thalweg {thalweg.__version__}\n"


def test_unknown_subcommand_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["dmeo"])
    assert end.value.code == 2
    assert "dmeo" in capsys.readouterr().err


def test_info_prints_versions_cpu_level_and_threads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts["thalweg"] == thalweg.__version__
    assert thalweg.get_cpu_level() in facts["CPU"]
    assert all(level in facts["CPU"] for level in thalweg.cpu_levels())
    assert facts["threads"] == f"{thalweg.get_num_threads()} ({_core.num_threads_source()})"
    assert facts["NumPy"] == np.__version__


def test_info_needs_no_extra() -> None:
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['sklearn', 'matplotlib', 'rich']))\n"
        "from thalweg.cli import main\n"
        "sys.exit(main(['info']))"
    )
    ended = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_package_runs_as_a_module() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "thalweg", "info"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert thalweg.__version__ in ended.stdout


def test_a_closed_output_ends_the_command_without_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        ended = subprocess.run(
            [sys.executable, "-m", "thalweg", "info"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, "")
