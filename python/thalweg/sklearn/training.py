"""Where scikit-learn's training meets thalweg: all that is known of its inner workings is here.

Its loop over passes and batches, losses, gradients, stopping and checks are used as they are. The
loop calls three methods of ``self._optimizer``, which is a `Loop` here; its `learning_rate` is what
programs read after a fit. `_fit` runs the loop for a ``self.solver`` that it knows to be
stochastic, and the loop, `_fit_stochastic`, first makes an optimizer for a solver that it knows by
name; so ``solver`` reads differently in each of them.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import sklearn.exceptions
from sklearn.utils.validation import check_is_fitted

from thalweg.errors import NonFiniteError
from thalweg.optimizers import SGD, SGDW, Adam, AdamW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from thalweg.groups.specified import Groups
    from thalweg.numbers import Number
    from thalweg.optimizer import Optimizer

__all__ = ["ThalwegMixin"]

RUNS = "adam"
"""A solver for which scikit-learn runs its loop."""

MAKES_NONE = "thalweg"
"""A solver for which it makes no optimizer of its own."""

PLAIN: dict[str, Callable[..., Optimizer]] = {"adam": Adam, "sgd": SGD}
DECOUPLED: dict[str, Callable[..., Optimizer]] = {"adamw": AdamW, "sgdw": SGDW}

NO_DECAY = {"match": "intercepts.*", "weight_decay": 0.0, "name": "intercepts"}

SMALLEST_RATE = 1e-6
"""What ``learning_rate="adaptive"`` goes down to, as in scikit-learn."""


class ThalwegMixin:
    """What the estimators share; it goes before scikit-learn's class among the bases."""

    solver: str
    learning_rate: str
    learning_rate_init: Number
    weight_decay: Number
    momentum: Number
    nesterovs_momentum: bool
    beta_1: Number
    beta_2: Number
    epsilon: Number
    amsgrad: bool
    groups: Groups
    max_norm: float | None
    early_stopping: bool
    n_iter_no_change: float
    coefs_: list[NDArray[Any]]
    intercepts_: list[NDArray[Any]]

    _no_improvement_count: float
    _loop: Loop
    """Only during a fit."""
    _held: Any
    """The optimizer; in a copy, or from a file, what makes it, as the arrays may be read-only."""

    def _store(self, arguments: Mapping[str, Any]) -> None:
        """Keep the arguments of a constructor as they are."""
        vars(self).update({name: value for name, value in arguments.items() if name != "self"})

    @property
    def optimizer_(self) -> Optimizer:
        """One of thalweg's optimizers, over the arrays of `coefs_` and `intercepts_` themselves."""
        check_is_fitted(self, "_held")
        if isinstance(self._held, tuple):
            make, arguments, state = self._held
            made = make(*arguments)
            made.__setstate__(state)
            self._held = made
        optimizer: Optimizer = self._held
        network = self.coefs_ + self.intercepts_
        bound = [*optimizer.params.values()]
        if [*map(id, network)] != [*map(id, bound)]:
            optimizer.rebind(tree(self))
        return optimizer

    @property
    def _optimizer(self) -> Loop:
        """What scikit-learn's loop steps with, and where its `learning_rate` is read."""
        if "_loop" in vars(self):
            return self._loop
        check_is_fitted(self, "_held")
        loop = Loop(self, continues=True)
        loop.start()
        return loop

    def __getstate__(self) -> dict[str, Any]:
        kept: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]  # that of the next base
        state = dict(kept)
        if "_held" in state and not isinstance(state["_held"], tuple):
            state["_held"] = self.optimizer_.__reduce__()
        return state

    def _check_solver(self) -> bool:
        return True

    def _fit(
        self,
        X: Any,  # noqa: N803 - scikit-learn's name
        y: Any,
        sample_weight: Any = None,
        incremental: bool = False,
    ) -> Any:
        if self.learning_rate == "invscaling":
            raise ValueError(
                "learning_rate='invscaling' is not supported: pass a schedule as "
                "learning_rate_init, such as 0.1 * thalweg.schedule.inverse_sqrt(warmup=100)"
            )
        before = dict(vars(self))
        self._loop = loop = Loop(self, continues=incremental)
        self.solver = RUNS
        try:
            return super()._fit(X, y, sample_weight, incremental)  # type: ignore[misc]  # the next base
        except BaseException:
            if loop.rate is None:  # no step was made, so the estimator is what it was
                vars(self).clear()
                vars(self).update(before)
            raise
        finally:
            self.solver = before["solver"]
            vars(self).pop("_loop", None)

    def _score(self, *arguments: Any, **weights: Any) -> float:
        if self._optimizer.diverged:  # as what weights that are not finite predict
            return float("nan")
        score: float = super()._score(*arguments, **weights)  # type: ignore[misc]  # the next base
        return score

    def _fit_stochastic(self, *arguments: Any) -> None:
        coefs, intercepts = self.coefs_, self.intercepts_
        self._optimizer.start()
        self.solver = MAKES_NONE
        super()._fit_stochastic(*arguments)  # type: ignore[misc]  # the next base
        if self.coefs_ is not coefs:  # early stopping: these are copies of the best weights
            best = self.coefs_ + self.intercepts_
            for array, value in zip(coefs + intercepts, best, strict=True):
                array[...] = value
            self.coefs_, self.intercepts_ = coefs, intercepts


class Loop:
    """One call of `fit` or `partial_fit`, as scikit-learn's loop sees it."""

    rate: float | None = None
    """Learning rate of the last step; None before the first."""

    diverged = False
    """Whether a gradient was not finite, with early stopping; no further step is made then."""

    def __init__(self, estimator: ThalwegMixin, *, continues: bool) -> None:
        self._estimator = estimator
        self._continues = continues
        self._solver = estimator.solver

    def start(self) -> None:
        """Make the optimizer, or go on with the one there is."""
        estimator = self._estimator
        if not (self._continues and "_held" in vars(estimator)):
            vars(estimator)["_held"] = optimizer(estimator, self._solver)
        self._optimizer = estimator.optimizer_
        self._names = list(self._optimizer.params)

    def update_params(self, _params: Sequence[NDArray[Any]], grads: Sequence[NDArray[Any]]) -> None:
        """Make a step; the gradients are those of the coefs, then those of the intercepts."""
        if self.diverged:
            return
        named = dict(zip(self._names, grads, strict=True))
        try:
            report = self._optimizer.step(named, max_norm=self._estimator.max_norm)
        except NonFiniteError as error:
            self._diverges(error)
        else:
            self.rate = report.lr

    def _diverges(self, error: NonFiniteError) -> None:
        """Raise what scikit-learn raises; where it takes the best weights instead, only warn."""
        arrays = ", ".join(f"{name} ({count})" for name, count in error.nonfinite.items())
        if not self._estimator.early_stopping:
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed. It was stopped just before: the gradients of "
                f"step {error.step} are non-finite or too large in {arrays}, and the step was not "
                "made. Scale the input, lower learning_rate_init, or limit the gradients with "
                "max_norm"
            ) from error
        self.diverged = True
        warnings.warn(
            f"training diverged: the gradients of step {error.step} are non-finite or too large in "
            f"{arrays}, so it stops, with the weights of the best validation score. Scale the "
            "input, lower learning_rate_init, or limit the gradients with max_norm",
            sklearn.exceptions.ConvergenceWarning,
            stacklevel=2,
        )

    @property
    def learning_rate(self) -> float:
        """The rate in force: of the last step, with what was lowered or assigned since."""
        step, group = max(self._optimizer.step_count, 1), self._optimizer.groups[0]
        rate, scale = (
            float(value(step) if callable(value) else value)
            for value in (group.lr, getattr(group, "lr_scale", 1.0))
        )
        return rate * scale

    def iteration_ends(self, _time_step: int) -> None:
        """Have it stop where it diverged; schedules follow the steps and need nothing."""
        if self.diverged:
            enough = self._estimator.n_iter_no_change + 1
            self._estimator._no_improvement_count = enough  # noqa: SLF001 - what its loop reads

    def trigger_stopping(self, msg: str, verbose: bool) -> bool:
        """Whether training stops, now that it has not got better for a while."""
        if self.diverged:
            return True
        adaptive = self._estimator.learning_rate == "adaptive"
        rate = self.rate or 0.0
        if adaptive and rate > SMALLEST_RATE:
            group = self._optimizer.groups[0]
            group.lr_scale = getattr(group, "lr_scale", 1.0) / 5.0
            outcome = f"Setting learning rate to {rate / 5.0:f}"
        else:
            outcome = "Learning rate too small. Stopping." if adaptive else "Stopping."
        if verbose:
            print(msg, outcome)  # noqa: T201 - what `verbose` asks for
        return outcome.endswith("Stopping.")


def tree(estimator: ThalwegMixin) -> dict[str, Any]:
    """The arrays of a network, which are called ``coefs.0`` and so on."""
    return {"coefs": estimator.coefs_, "intercepts": estimator.intercepts_}


def optimizer(estimator: ThalwegMixin, solver: str) -> Optimizer:
    """An optimizer over the arrays of a network, as the estimator's parameters ask for."""
    options: dict[str, Any]
    if solver.startswith("adam"):
        betas = (estimator.beta_1, estimator.beta_2)
        options = {"betas": betas, "eps": estimator.epsilon, "amsgrad": estimator.amsgrad}
    else:
        nesterov = bool(estimator.nesterovs_momentum and estimator.momentum != 0)
        options = {"momentum": estimator.momentum, "nesterov": nesterov}
    options["lr"] = estimator.learning_rate_init
    params, groups = tree(estimator), estimator.groups
    if solver in PLAIN:
        return PLAIN[solver](params, groups=groups, **options)
    options["weight_decay"] = estimator.weight_decay
    if groups:  # checked by themselves, so that a refusal counts them from 0
        DECOUPLED[solver](params, groups=groups, **options)
    return DECOUPLED[solver](params, groups=[NO_DECAY, *groups], **options)
