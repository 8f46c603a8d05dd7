"""Opens pages in headless Chromium, and reports what a visitor would notice.

The DevTools protocol runs over a pair of pipes: messages of JSON, each followed by a zero byte. So
no free port is needed, and no package but the browser.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import tempfile
from base64 import b64decode
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import F_DUPFD_CLOEXEC, fcntl
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60
"""Seconds of silence from the browser after which a test fails."""

OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # as root, usual in a container, Chromium cannot start one
    "--disable-dev-shm-usage",  # /dev/shm is small in a container
    "--disable-gpu",
    "--disable-background-networking",  # the browser's requests; pages' are recorded
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
)
LOCAL = ("file:", "data:", "about:", "blob:")

LOOK = """(async () => {
    const images = [...document.images];
    await Promise.all(images.map(image => image.decode().catch(() => {})));
    const root = document.documentElement;
    return {
        title: document.title,
        images: images.length,
        broken: images.filter(image => image.naturalWidth === 0).map(image => image.alt),
        overflow: Math.max(root.scrollWidth, document.body.scrollWidth) - root.clientWidth,
        height: root.scrollHeight,
    };
})()"""


@dataclass(frozen=True)
class Page:
    """Findings about a page that a visitor would notice."""

    title: str
    images: int
    """Number of images."""

    broken: tuple[str, ...]
    """Descriptions of images that are not shown."""

    errors: tuple[str, ...]
    """Errors and warnings in the console, and exceptions of scripts."""

    requests: tuple[str, ...]
    """Addresses that the page requests, other than local ones."""

    overflow: int
    """Pixels by which the page is wider than its window."""


class Browser:
    """A running browser."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to_browser = to_browser
        self._from_browser = from_browser
        self._received = b""
        self._sent = 0
        self._events: list[dict[str, Any]] = []

    def inspect(self, path: Path, width: int, *, screenshot: Path | None = None) -> Page:
        """Open a file in a window of `width` pixels; save a picture to `screenshot` if given."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        try:
            return self._inspect(session, path, width, screenshot)
        finally:
            self.call("Target.closeTarget", targetId=target)

    def _inspect(self, session: str, path: Path, width: int, screenshot: Path | None) -> Page:
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", session, **size)
        self._events = []
        self.call("Page.navigate", session, url=path.absolute().as_uri())
        self._wait("Page.loadEventFired")
        answer = self.call(
            "Runtime.evaluate", session, expression=LOOK, awaitPromise=True, returnByValue=True
        )
        seen = answer["result"]["value"]
        if screenshot is not None:
            size["height"] = seen["height"]
            self.call("Emulation.setDeviceMetricsOverride", session, **size)
            picture = self.call("Page.captureScreenshot", session)["data"]
            screenshot.write_bytes(b64decode(picture))
        return Page(
            title=seen["title"],
            images=seen["images"],
            broken=tuple(seen["broken"]),
            errors=tuple(filter(None, map(_complaint, self._events))),
            requests=tuple(filter(None, map(_address, self._events))),
            overflow=seen["overflow"],
        )

    def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Call a method of the protocol and return its result; keep events that arrive first."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._sent:
            self._events.append(answer)
        assert "result" in answer, f"{method}: {answer}"
        return answer["result"]

    def close(self) -> None:
        """Ask the browser to exit, and wait until all its processes have."""
        self.call("Browser.close")
        while self._read():
            pass

    def _wait(self, event: str) -> None:
        while not any(known.get("method") == event for known in self._events):
            self._events.append(self._receive())

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            part = self._read()
            assert part, "the browser has gone"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        return dict(json.loads(message))

    def _read(self) -> bytes:
        """Return the next bytes; none if the browser has exited."""
        ready, _, _ = select.select([self._from_browser], [], [], PATIENCE)
        assert ready, f"the browser says nothing for {PATIENCE} seconds"
        return os.read(self._from_browser, 2**16)


def program() -> str:
    """Return the path of the browser; skip the test if there is none."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    return pytest.skip(f"none of {', '.join(NAMES)} is on PATH; apt-get install chromium")


@contextmanager
def running() -> Iterator[Browser]:
    """Start a browser with a new profile, and end it after the block."""
    path = program()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        read_end, to_browser = map(_moved_up, os.pipe())
        from_browser, write_end = map(_moved_up, os.pipe())
        process = os.posix_spawn(
            path,
            [path, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                # The descriptors at which the browser expects its pipes.
                (os.POSIX_SPAWN_DUP2, read_end, 3),
                (os.POSIX_SPAWN_DUP2, write_end, 4),
            ],
        )
        os.close(read_end)
        os.close(write_end)
        try:
            browser = Browser(to_browser, from_browser)
            yield browser
            browser.close()
        finally:
            os.close(to_browser)
            os.close(from_browser)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def inspect(path: Path, width: int) -> Page:
    """Open a file in a new browser."""
    with running() as browser:
        return browser.inspect(path, width)


def _moved_up(descriptor: int) -> int:
    """Move a descriptor to 10 or above, where no `DUP2` action of the spawn overwrites it."""
    moved = fcntl(descriptor, F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


def _complaint(event: dict[str, Any]) -> str | None:
    params = event.get("params", {})
    if event.get("method") == "Log.entryAdded" and params["entry"]["level"] in {"warning", "error"}:
        return str(params["entry"]["text"])
    if event.get("method") == "Runtime.exceptionThrown":
        return str(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
    if event.get("method") == "Runtime.consoleAPICalled" and params["type"] in {"warning", "error"}:
        return " ".join(str(argument.get("value", "")) for argument in params["args"])
    return None


def _address(event: dict[str, Any]) -> str | None:
    if event.get("method") != "Network.requestWillBeSent":
        return None
    url = str(event["params"]["request"]["url"])
    return None if url.startswith(LOCAL) else url
