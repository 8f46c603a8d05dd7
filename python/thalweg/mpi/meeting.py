"""Agreement of all ranks: either each of them goes on, or each of them raises the same error."""

from __future__ import annotations

import builtins
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from thalweg import errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self

    from thalweg.mpi.transport import Transport

__all__ = ["Meeting"]

GOOD, BAD = b"\0", b"\1"


class Meeting:
    """One call that every rank makes: a context manager.

    Ranks meet in `agree` and `gather`. An error on a rank between two meetings is told in the next
    one, and all ranks raise it. An error in `apart`, or after `end`, is raised on its rank alone:
    others may wait for messages of this rank, so only the end of all processes helps them.
    """

    def __init__(self, transport: Transport, what: str, unchanged: str = "") -> None:
        self.transport = transport
        self.what = what
        self.unchanged = unchanged
        """A clause for errors that come before the first change."""
        self.is_over = False
        self.count = 0
        """Number of times that the ranks have met without an error."""

    def end(self) -> None:
        """Declare that the ranks do not meet again in this call."""
        self.is_over = True

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Context manager in which ranks send messages, so that they cannot meet."""
        was_over, self.is_over = self.is_over, True
        yield
        self.is_over = was_over

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes of every rank, unless one of them has failed."""
        return self._meet(GOOD + data, None)

    def agree(self, data: Any = None) -> list[Any]:
        """As `gather`, for values of JSON; refuses if another rank makes another call."""
        told = [json.loads(one) for one in self.gather(json.dumps([self.what, data]).encode())]
        for rank, (what, _) in enumerate(told):
            if what != told[0][0]:
                self.end()
                raise RuntimeError(
                    f"rank {rank} calls {what} while rank 0 calls {told[0][0]}: these calls are "
                    "collective, every rank makes the same ones in the same order"
                )
        return [given for _, given in told]

    def same(self, data: Any, what: str) -> None:
        """As `agree`; refuses if a rank has other data than rank 0, called `what`."""
        told = self.agree(data)
        for rank, given in enumerate(told):
            if given != told[0]:
                self.end()
                raise ValueError(f"rank {rank} has {what} than rank 0{self.unchanged}")

    def _meet(self, mine: bytes, error: BaseException | None) -> list[bytes]:
        try:
            told = self.transport.allgather(mine)
        except BaseException:
            self.end()
            raise
        failed = {rank: one[1:] for rank, one in enumerate(told) if one[:1] != GOOD}
        if failed:
            self.end()
            self._raise(failed, error)
        self.count += 1
        return [one[1:] for one in told]

    def _raise(self, failed: dict[int, bytes], error: BaseException | None) -> NoReturn:
        """Raise the error of the first rank that failed, named; or `error`, if each rank has it."""
        if error is not None and not isinstance(error, Exception):
            raise error
        texts = set(failed.values())
        if error is not None and len(texts) == 1 and len(failed) == self.transport.size:
            raise error
        rank, text = next(iter(failed.items()))
        kind, said = json.loads(text)
        others = ", ".join(str(other) for other, theirs in failed.items() if theirs != text)
        more = f" (another error on rank {others})" if others else ""
        raise _made(kind, f"rank {rank}: {said}{more}{self.unchanged}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is not None and not self.is_over:
            text = json.dumps([type(error).__name__, str(error) or type(error).__name__])
            self._meet(BAD + text.encode(), error)


def _made(kind: str, message: str) -> Exception:
    """An exception of the named kind, if it is one that takes a message; else a RuntimeError."""
    found = getattr(errors, kind, None) or getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            return found(message)
        except TypeError:  # it is made of more than a message
            return RuntimeError(message)
    return RuntimeError(message)
