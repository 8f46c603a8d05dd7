"""What a sharded optimizer needs of a message passing library: two numbers and four calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from thalweg.errors import type_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["Communicator", "Request", "Transport", "transport_of", "wait"]


class Request(Protocol):
    """A message on its way."""

    def Wait(self) -> Any:  # noqa: N802 - the name in mpi4py
        """Return when the bytes were sent or have arrived."""


class Transport(ABC):
    """Messages between the ranks of one sharded optimizer.

    Messages from one rank to another arrive in the order in which they were sent. A subclass makes
    another engine than mpi4py usable.
    """

    rank: int
    """Number of this process, from 0."""
    size: int
    """Number of processes."""

    @abstractmethod
    def isend(self, data: NDArray[Any], rank: int) -> Request:
        """Begin to send the bytes of a contiguous array of uint8."""

    @abstractmethod
    def irecv(self, data: NDArray[Any], rank: int) -> Request:
        """Begin to receive into a contiguous array of uint8; a message may be shorter than it."""

    @abstractmethod
    def allgather(self, data: bytes) -> list[bytes]:
        """The bytes of every rank, in order. Every rank calls it."""

    @abstractmethod
    def close(self) -> None:
        """Release what the transport holds; every rank calls it."""


class Communicator(Transport):
    """A communicator of mpi4py, duplicated so that its messages meet no others."""

    def __init__(self, comm: Any) -> None:
        if comm.Is_inter():
            raise ValueError("comm must be an intracommunicator, such as MPI.COMM_WORLD")
        self._comm = comm.Dup()
        self.rank = self._comm.Get_rank()
        self.size = self._comm.Get_size()

    def isend(self, data: NDArray[Any], rank: int) -> Request:
        """Point to point, because MPI's own collectives differ in bits and in speed."""
        sent: Request = self._comm.Isend(data, rank)
        return sent

    def irecv(self, data: NDArray[Any], rank: int) -> Request:
        """As `isend`."""
        received: Request = self._comm.Irecv(data, rank)
        return received

    def allgather(self, data: bytes) -> list[bytes]:
        """Small messages only."""
        gathered: list[bytes] = self._comm.allgather(data)
        return gathered

    def close(self) -> None:
        """Free the duplicate."""
        self._comm.Free()


def transport_of(comm: Any) -> Transport:
    """A transport over `comm`, which may be one.

    Raises
    ------
    TypeError
        If it is neither a communicator of mpi4py nor a `Transport`.
    """
    if isinstance(comm, Transport):
        return comm
    if not all(hasattr(comm, name) for name in ("Dup", "Isend", "Irecv", "Is_inter")):
        raise TypeError(
            f"comm must be a communicator of mpi4py, such as MPI.COMM_WORLD, got {type_name(comm)}"
        )
    return Communicator(comm)


def wait(requests: Iterable[Request]) -> None:
    """Wait for all requests."""
    for request in requests:
        request.Wait()
