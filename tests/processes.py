"""Forked children for tests."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 60

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")


def in_fork(work: Callable[[], str]) -> str:
    """Result of `work` in a forked child; fails if the child hangs or dies."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # warns of a fork beside threads
        child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            said = work()
        except BaseException as error:  # noqa: BLE001 - reported to the parent
            said = repr(error)
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        alarm = threading.Timer(TIMEOUT, os.kill, (child, signal.SIGKILL))
        alarm.start()
        said = told.read()
        alarm.cancel()
    assert os.waitpid(child, 0)[1] == 0, f"the child died or hung; it said {said!r}"
    return said
