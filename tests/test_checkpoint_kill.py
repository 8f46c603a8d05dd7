"""A run killed at any moment continues from a complete checkpoint, with the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import crash
from runs import Run

if TYPE_CHECKING:
    from pathlib import Path


class Undisturbed:
    """Fingerprints of an uninterrupted run after each micro-step."""

    def __init__(self) -> None:
        self._run = Run("adamw")
        self._looks = {0: self._run.fingerprint()}

    def after(self, micro_steps: int) -> str:
        while micro_steps not in self._looks:
            self._run.advance(1)
            number = crash.position(self._run)
            if number >= micro_steps - 1:  # earlier ones are never requested
                self._looks[number] = self._run.fingerprint()
        return self._looks[micro_steps]


class Trained:
    """A program that forks a child on request, and the messages of its children."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, str(crash.HERE), "train", str(directory)]
        self.process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.saves = self.last = 0
        self.between = 0.05
        """Approximate seconds from one save to the next."""
        self._undisturbed = Undisturbed()

    def begin(self, steps: int) -> int:
        """Start a child that trains up to micro-step `steps`, and return its process id."""
        assert self.process.stdin
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return int(self.until("child"))

    def until(self, key: str) -> Any:
        """The value of `key` in the next message that has it; checks all messages before."""
        assert self.process.stdout
        while True:
            message = json.loads(self.process.stdout.readline())
            if "loaded" in message:
                # The interrupted save may have completed.
                assert self.last <= message["loaded"] <= self.last + 1
                assert message["fingerprint"] == self._undisturbed.after(message["loaded"])
                self.last = message["loaded"]
            if "saved" in message:
                assert message["saved"] == self.last + 1
                self.last += 1
                self.saves += 1
            if key in message:
                return message[key]
            assert "ended" not in message

    def wait(self, saves: int) -> None:
        """Wait for `saves` saves of the child."""
        for _ in range(saves):
            before = time.perf_counter()
            self.until("saved")
            self.between += 0.1 * (time.perf_counter() - before - self.between)

    def matches(self, path: Path) -> bool:
        """Whether the file holds the state of an uninterrupted run at the last save."""
        run = Run("adamw")
        run.load(path)
        same = run.fingerprint() == self._undisturbed.after(self.last)
        return same and crash.position(run) == self.last


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
@pytest.mark.parametrize(
    ("trials", "least"), [(40, 1), pytest.param(200, 25, marks=pytest.mark.slow)]
)
def test_a_run_killed_repeatedly_has_the_bits_of_an_uninterrupted_run(
    tmp_path: Path, trials: int, least: int
) -> None:
    trained, chance = Trained(tmp_path), random.Random(0)  # noqa: S311
    path, partial = tmp_path / "run.safetensors", tmp_path / "run.safetensors.partial"
    caught = 0
    with trained.process:
        for _ in range(trials):
            child = trained.begin(1_000_000)
            trained.wait(chance.choice([0, 1, 1]))
            time.sleep(chance.uniform(0, 1.2 * trained.between))
            os.kill(child, signal.SIGKILL)
            assert trained.until("ended") == -signal.SIGKILL
            assert {*tmp_path.iterdir()} <= {path, partial}
            caught += partial.exists()
        # The last child is not killed, and no other file is left.
        trained.begin(trained.last + 4)
        assert trained.until("ended") == 0
    assert [*tmp_path.iterdir()] == [path]
    assert trained.matches(path)
    # Some kills came during the write of a file, and some between saves.
    assert least <= caught < trials
    assert trained.saves > trials // 2
