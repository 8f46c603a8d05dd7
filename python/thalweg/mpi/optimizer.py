"""`Sharded`: an optimizer whose state is shared out over the processes of a communicator."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from thalweg import _core
from thalweg.errors import type_name
from thalweg.mpi import files
from thalweg.mpi.compared import compare, description
from thalweg.mpi.held import ShardedHeld
from thalweg.mpi.meeting import Meeting
from thalweg.mpi.products import digest_of_products
from thalweg.mpi.steps import Steps
from thalweg.mpi.transport import transport_of
from thalweg.optimizer import Optimizer
from thalweg.rules.schedule_free import ScheduleFreeAdamW

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thalweg.averages.tree_sum import TreeSum
    from thalweg.checkpoint.files import Path
    from thalweg.numbers import Real
    from thalweg.state.report import LoadReport

__all__ = ["Sharded", "sharded"]


class Sharded(Optimizer):
    """An optimizer whose state is shared out; made by `sharded`, as a subclass of its class too.

    Each rank has all parameters, and state for its share of them. `step`, `save`, `load`,
    `state_dict`, `load_state_dict` and `close` are collective: every rank calls them, in the same
    order. If one rank cannot, none of them does, and all raise the error of that rank. Changes of
    groups and of ``lr``, `reset` and ``EMA.update`` are local, and every rank makes the same ones;
    a step at which hyperparameters differ is refused.

    ``opt.state`` has this rank's share of the state, flat.
    """

    _steps: Steps

    @property
    def leaves(self) -> range:
        """Numbers of the micro-batches of this rank."""
        return self._steps.leaves

    def sums(self) -> TreeSum:
        """An empty sum for the gradients of this rank's micro-batches.

        Returns
        -------
        TreeSum
            ``total.add(grads, weight=1.0)`` adds the gradients of the next leaf in `leaves`.
            A step empties it, so that it can be used again; after a step that raises, ``clear()``
            does.
        """
        return self._steps.sums()

    def step(  # type: ignore[override] # a sum too, and nothing partial
        self,
        grads: Any,
        *,
        max_norm: Real | None = None,
        max_tensor_norm: Real | None = None,
        max_value: Real | None = None,
        scale: Real = 1.0,
        stats: bool = False,
    ) -> _core.StepReport:
        """Update every parameter that trains, once, in place, on all ranks. Collective.

        Parameters
        ----------
        grads : TreeSum, or tree of ndarray
            A result of `sums` with all leaves of this rank; or, where each rank has one leaf, its
            gradients, as for `thalweg.Optimizer.step`.
        max_norm, max_tensor_norm, max_value, scale, stats
            As for `thalweg.Optimizer.step`, and for the sum of all leaves.

        Returns
        -------
        StepReport
            The same on every rank.

        Raises
        ------
        NonFiniteError, ValueError, TypeError, BusyError
            As for `thalweg.Optimizer.step`, on every rank; the message names the rank. Nothing is
            changed on any of them.
        RuntimeError
            If ranks make different calls, or an earlier step stopped midway.
        """
        arguments = {
            "max_norm": max_norm,
            "max_tensor_norm": max_tensor_norm,
            "max_value": max_value,
            "scale": scale,
            "stats": stats,
        }
        return self._steps.step(grads, arguments)

    def open_step(self) -> NoReturn:
        """Refused: the ranks meet once a step."""
        raise ValueError("a sharded optimizer has no open_step; add gradients to opt.sums()")

    def state_dict(  # type: ignore[override] # None on other ranks
        self, *, copy: bool = True
    ) -> dict[str, Any] | None:
        """The state dict of the whole, as of one process, on rank 0; None elsewhere. Collective.

        Parameters
        ----------
        copy : bool, default True
            Only True: the whole is a copy.
        """
        return files.state_dict(self._steps, copy=copy)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any] | None,
        *,
        hyperparameters: Literal["saved", "current"] = "saved",
        strict: bool = True,
        convert: bool = False,
    ) -> LoadReport:
        """Load the state dict of rank 0; others may pass None. Collective.

        Parameters and errors are those of `thalweg.Optimizer.load_state_dict`, without `convert`. A
        state dict of any number of processes fits.
        """
        return files.load_state(
            self._steps,
            state_dict,
            hyperparameters=hyperparameters,
            strict=strict,
            convert=convert,
        )

    def save(self, path: Path, extra: Any = None, *, params: bool = True) -> None:
        """Write one file, byte for byte that of one process. Collective.

        Rank 0 writes it, as `thalweg.Optimizer.save`, with its `extra`; the other ranks need no
        access to it. The file has parameters, state and groups; it can be loaded by any number of
        processes, and by an ordinary optimizer.

        Raises
        ------
        OSError, TypeError, ValueError, BusyError
            As for `thalweg.Optimizer.save`, on every rank.
        """
        files.save(self._steps, path, extra, params=params)

    def load(
        self,
        path: Path,
        *,
        hyperparameters: Literal["saved", "current"] = "saved",
        strict: bool = True,
        params: bool = True,
        convert: bool = False,
    ) -> LoadReport:
        """Load a file of any number of processes, in place. Collective.

        Rank 0 reads it; the other ranks need no access to it. Parameters and errors are those of
        `thalweg.Optimizer.load`, without `convert`.
        """
        return files.load(
            self._steps,
            path,
            hyperparameters=hyperparameters,
            strict=strict,
            params=params,
            convert=convert,
        )

    def close(self) -> None:
        """Free the communicator. Collective."""
        self._steps.transport.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sharded optimizer cannot be copied or pickled; save it to a file")


class ShardedScheduleFree(Sharded):
    """With the averaged points of `thalweg.ScheduleFreeAdamW`."""

    @contextmanager
    def averaged(self) -> Iterator[Any]:
        """Context manager in which the parameters hold their averaged points. Collective.

        As `thalweg.ScheduleFreeAdamW.averaged`. Leaving the block is local: each rank keeps a copy
        of the parameters meanwhile.
        """
        steps, held = self._steps, self._steps.held
        before: dict[str, Any] = {}
        with Meeting(steps.transport, "averaged") as meeting:
            steps.check_whole()
            held.check_current(held.cascade.trains())
            before = {name: array.copy() for name, array in held.trained().items()}
            swapped = _core.Swapped.found(held.updater, held.tree)
            meeting.agree()
            tree = swapped.__enter__()
            try:
                meeting.agree()
                meeting.end()
            except BaseException:
                swapped.__exit__(None, None, None)
                raise
        try:
            steps.distribute(list(before), all_from_first=False)
            yield tree
        finally:
            swapped.__exit__(None, None, None)
            for name, array in before.items():
                held.params[name][...] = array


def sharded(
    cls: type[Optimizer], params: Any, comm: Any, *, leaves: int | None = None, **options: Any
) -> Sharded:
    """An optimizer of which every process has a share of the state. Collective.

    Each process computes gradients of some micro-batches, the leaves. The gradients of all leaves
    are added in one fixed tree, so that the result has **the same bits for any number of
    processes**, one included. Parameters are those of rank 0, from the start on; frozen ones that
    cannot be written stay those of each rank, and must have the same bytes.

    Parameters
    ----------
    cls : type
        Class of the optimizer, such as `thalweg.AdamW`.
    params : tree of ndarray
        The parameters, with the same names, shapes and dtypes on every rank; updated in place.
    comm : mpi4py.MPI.Comm or Transport
        The processes, such as ``MPI.COMM_WORLD``.
    leaves : int, optional
        Number of micro-batches a step, over all processes; the number of processes by default, one
        each. Rank `r` of `R` has leaves ``leaves·r // R`` to ``leaves·(r+1) // R``. The bits of a
        run depend on this number.
    **options
        Arguments of the constructor of `cls`, the same on every rank.

    Returns
    -------
    Sharded
        An object of a subclass of `cls`.

    Raises
    ------
    ValueError, TypeError
        As the constructor, and if trees, options or groups differ between ranks; on every rank.

    Warns
    -----
    RuntimeWarning
        If a product of matrices has other bits on another rank: then gradients have too, and a run
        depends on which rank computes which leaf.

    Notes
    -----
    Memory a rank, for float32 and AdamW on `R` ranks: 4 bytes a parameter, 4 of gradients, ``12/R``
    of state and summed gradients, and some 8 MiB for messages. A rank whose number of leaves is no
    power of two keeps a sum for each one in its binary form. Each rank sends ``8·(R-1)/R`` bytes a
    parameter and step.

    Examples
    --------
    Run by ``mpiexec -n 4 python -m mpi4py train.py``; ``-m mpi4py`` ends all ranks if one fails::

        from mpi4py import MPI

        opt = thalweg.mpi.sharded(thalweg.AdamW, params, MPI.COMM_WORLD, leaves=12, lr=1e-3)
        total = opt.sums()
        for batch in batches:
            for leaf in opt.leaves:
                total.add(gradients(params, batch[leaf]))
            report = opt.step(total, scale=1 / 12)
        opt.save("run.safetensors")
    """
    transport = transport_of(comm)
    with Meeting(transport, "sharded") as meeting:
        if not (isinstance(cls, type) and issubclass(cls, Optimizer)) or issubclass(cls, Sharded):
            given = type_name(cls) if isinstance(cls, type) else f"an object of {type_name(cls)}"
            raise TypeError(f"cls must be a class of optimizers, such as AdamW, got {given}")
        count = transport.size if leaves is None else _core.check_whole("leaves", leaves, 1)
        made = _class_of(cls)
        opt = made.__new__(made)
        held = ShardedHeld(opt, opt._updater, transport)  # noqa: SLF001 - of a new object
        opt.__dict__["_held"] = held
        opt.__init__(params, **options)  # type: ignore[misc] # of the class given
        compare(meeting.agree(description(held, count)))
        opt._steps = Steps(held, count)  # noqa: SLF001 - of a new object
        digests = meeting.agree(digest_of_products())
        meeting.end()
        names = list(held.arrays(writeable=True))
        opt._steps.distribute(names, all_from_first=True)  # noqa: SLF001 - of a new object
    others = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if others:
        warnings.warn(
            f"products of matrices have other bits on rank {', '.join(map(str, others))} than on "
            "rank 0 (another processor, NumPy or number of threads), so gradients have too, and a "
            "run depends on which rank computes which leaf; set the same number of threads, such "
            "as OPENBLAS_NUM_THREADS=1, on machines of one kind",
            RuntimeWarning,
            stacklevel=2,
        )
    return opt


def _class_of(cls: type[Optimizer]) -> type[Sharded]:
    """The sharded subclass of a class of optimizers."""
    base = ShardedScheduleFree if issubclass(cls, ScheduleFreeAdamW) else Sharded
    return type(f"Sharded{cls.__name__}", (base, cls), {"__module__": __name__})
