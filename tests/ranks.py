"""Ranks in the threads of one process: a transport for tests, which can lose a rank."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.mpi import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 60.0


class Lost(Exception):  # noqa: N818 - as the end of a launcher, not an error of thalweg
    """Another rank has ended with an error, so a launcher would end this one."""


class World:
    """What the ranks share."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.queues = {(a, b): queue.SimpleQueue() for a in range(size) for b in range(size)}
        self.barrier = threading.Barrier(size)
        self.gathered: list[bytes] = [b""] * size
        self.is_lost = threading.Event()

    def lose(self) -> None:
        self.is_lost.set()
        self.barrier.abort()


class Done:
    def Wait(self) -> None:  # noqa: N802 - the name in mpi4py
        pass


class Arriving:
    def __init__(self, world: World, waiting: Any, data: Any) -> None:
        self.world, self.waiting, self.data = world, waiting, data

    def Wait(self) -> None:  # noqa: N802
        while True:
            if self.world.is_lost.is_set():
                raise Lost
            try:
                message = self.waiting.get(timeout=0.05)
            except queue.Empty:
                continue
            assert len(message) <= len(self.data)
            self.data[: len(message)] = np.frombuffer(message, np.uint8)
            return


class Thread(Transport):
    """One rank. `fault` is called with the name and number of each call, and may raise."""

    def __init__(
        self, world: World, rank: int, fault: Callable[[str, int], None] | None = None
    ) -> None:
        self.world, self.rank, self.size = world, rank, world.size
        self.fault, self.calls = fault, 0
        self.sent = 0

    def _count(self, name: str) -> None:
        self.calls += 1
        if self.fault is not None:
            self.fault(name, self.calls)
        if self.world.is_lost.is_set():
            raise Lost

    def isend(self, data: Any, rank: int) -> Done:
        self._count("isend")
        assert data.flags.c_contiguous
        self.sent += data.nbytes
        self.world.queues[self.rank, rank].put(data.tobytes())
        return Done()

    def irecv(self, data: Any, rank: int) -> Arriving:
        self._count("irecv")
        assert data.flags.c_contiguous
        return Arriving(self.world, self.world.queues[rank, self.rank], data)

    def allgather(self, data: bytes) -> list[bytes]:
        self._count("allgather")
        self.world.gathered[self.rank] = data
        try:
            self.world.barrier.wait(TIMEOUT)
            told = list(self.world.gathered)
            self.world.barrier.wait(TIMEOUT)
        except threading.BrokenBarrierError:
            raise Lost from None
        return told

    def close(self) -> None:
        pass


def run(
    size: int,
    program: Callable[[Thread], Any],
    faults: dict[int, Callable[[str, int], None]] | None = None,
) -> list[Any]:
    """Results of a program on each rank, or the exceptions that it raised."""
    world = World(size)
    results: list[Any] = [None] * size

    def work(rank: int) -> None:
        try:
            results[rank] = program(Thread(world, rank, (faults or {}).get(rank)))
        except BaseException as error:  # noqa: BLE001 - the caller looks at it
            results[rank] = error
            world.lose()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive(), "a rank waits for ever"
    return results


def results_of(size: int, program: Callable[[Thread], Any]) -> list[Any]:
    """As `run`, for a program that raises nothing."""
    results = run(size, program)
    raised = [result for result in results if isinstance(result, BaseException)]
    for error in sorted(raised, key=lambda error: isinstance(error, Lost)):
        raise error
    return results
