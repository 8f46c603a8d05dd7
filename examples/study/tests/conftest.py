"""One browser for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from browser import Browser, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running() as browser:
        yield browser
