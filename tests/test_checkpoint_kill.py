"""A run that is killed at any instant goes on from a whole checkpoint, to the same bits."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import crash
from runs import Run

TRIALS = 200


class Undisturbed:
    """What a run that nothing interrupts looks like after each micro-step."""

    def __init__(self) -> None:
        self._run = Run("adamw")
        self._looks = {0: self._run.fingerprint()}

    def after(self, micro_steps: int) -> str:
        while micro_steps not in self._looks:
            self._run.advance(1)
            number = crash.position(self._run)
            if number >= micro_steps - 1:  # others are not asked for
                self._looks[number] = self._run.fingerprint()
        return self._looks[micro_steps]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_a_run_that_is_killed_200_times_is_the_same_run(tmp_path: Path) -> None:
    command = [sys.executable, crash.HERE, "train", tmp_path]
    server = subprocess.Popen(  # noqa: S603
        [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin
    assert server.stdout
    stdin, stdout = server.stdin, server.stdout
    undisturbed, chance = Undisturbed(), random.Random(0)
    last, written, caught, took = 0, 0, 0, 0.05

    def told() -> dict[str, Any]:
        message: dict[str, Any] = json.loads(stdout.readline())
        nonlocal last, written
        if "loaded" in message:
            # The save that was cut short may have been complete.
            assert last <= message["loaded"] <= last + 1
            assert message["fingerprint"] == undisturbed.after(message["loaded"])
            last = message["loaded"]
        if "saved" in message:
            assert message["saved"] == last + 1
            last = message["saved"]
            written += 1
        return message

    def begin(steps: int) -> None:
        stdin.write(f"{steps}\n")
        stdin.flush()

    with server:
        for _ in range(TRIALS):
            begin(1_000_000)
            message: dict[str, Any] = {}
            while "child" not in message:
                message = told()
            child = message["child"]
            # Of the time between two saves any part.
            saves = written + chance.choice([0, 1, 1])
            before = time.perf_counter()
            while written < saves:
                told()
                took = 0.9 * took + 0.1 * (time.perf_counter() - before)
            time.sleep(chance.uniform(0, 1.2 * took))
            os.kill(child, signal.SIGKILL)
            while "ended" not in (message := told()):
                pass
            assert message["ended"] == -signal.SIGKILL
            names = {path.name for path in tmp_path.iterdir()}
            assert names <= {"run.safetensors", "run.safetensors.partial"}
            caught += "run.safetensors.partial" in names
        # At the end nothing disturbs it, and nothing else is there.
        begin(last + 4)
        while "ended" not in (message := told()):
            pass
        assert message["ended"] == 0
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]
    run = Run("adamw")
    run.load(tmp_path / "run.safetensors")
    assert crash.position(run) == last
    assert run.fingerprint() == undisturbed.after(last)
    assert written > TRIALS // 2
    # Many of the kills came while a file was written.
    assert caught > TRIALS // 5
    print(caught, written)  # noqa: T201
