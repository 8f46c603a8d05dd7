"""Progress on stderr while runs are made: a bar in a terminal, else a line now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from thalweg_study.account import Account
    from thalweg_study.task import Task

LINES = 10
"""Most lines where there is no bar, apart from one a claim."""


class Progressing:
    """A context that shows the progress of the study."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._made = 0
        console = Console(stderr=True, highlight=False)
        bar = console.is_terminal and not console.is_dumb_terminal
        self._display: _Display = _Bar(console, account) if bar else _Lines(console)

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            self._account.finish()
            self._show()
        self._display.stop()

    def begin(self, name: str) -> None:
        """Begin a claim."""
        self._account.begin(name)
        self._display.begin(name)
        self._show()

    def notice(self, task: Task, /, *, made: bool) -> None:
        """Count a task."""
        self._account.count(task)
        self._made += made
        self._show()

    def _show(self) -> None:
        self._display.show(self._account.done, self._account.total, self._made)


class _Display(Protocol):
    def start(self) -> None: ...

    def begin(self, name: str) -> None: ...

    def show(self, done: float, total: float, made: int) -> None: ...

    def stop(self) -> None: ...


class _Bar:
    def __init__(self, console: Console, account: Account) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[made]:,} runs"),
            console=console,
        )
        # Where there is nothing to do, it is done.
        self._task = self._bars.add_task("", total=account.total or 1.0, made=0)

    def start(self) -> None:
        self._bars.start()

    def begin(self, name: str) -> None:
        self._bars.update(self._task, description=name)

    def show(self, done: float, total: float, made: int) -> None:
        self._bars.update(self._task, completed=done if total else 1.0, made=made)

    def stop(self) -> None:
        self._bars.stop()


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = 0
        self._name = ""

    def start(self) -> None:
        """Show nothing yet."""

    def begin(self, name: str) -> None:
        self._name = name
        self._print(f"{name} ...")

    def show(self, done: float, total: float, made: int) -> None:
        reached = int(LINES * done / total) if total else 0
        if reached > self._shown:
            self._shown = reached
            self._print(f"{self._name}: {done / total:.0%} of all work, {made:,} runs")

    def stop(self) -> None:
        """Every line is whole."""

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)
