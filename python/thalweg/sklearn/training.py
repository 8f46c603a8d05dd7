"""Connection of scikit-learn's training loop to thalweg.

Only this module uses the internals of the loop. scikit-learn's loop over passes and batches, its
losses, gradients, stopping and checks run unchanged. The loop calls three methods of
``self._optimizer``, which is a `Loop` here; programs read its `learning_rate` after a fit. `_fit`
runs the loop, `_fit_stochastic`, if ``self.solver`` is one of its stochastic solvers. The loop
first makes an optimizer if ``self.solver`` is a name that it knows. So ``self.solver`` is `RUNS` in
the former and `MAKES_NONE` in the latter.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import sklearn.exceptions
from sklearn.utils.validation import check_is_fitted

from thalweg.errors import NonFiniteError
from thalweg.rules.adam import Adam
from thalweg.rules.adamw import AdamW
from thalweg.rules.sgd import SGD, SGDW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from thalweg.groups.specified import Groups
    from thalweg.numbers import Number
    from thalweg.optimizer import Optimizer

__all__ = ["ThalwegMixin"]

RUNS = "adam"
"""Value of ``solver`` for which scikit-learn runs its loop."""

MAKES_NONE = "thalweg"
"""Value of ``solver`` for which the loop makes no optimizer."""

PLAIN: dict[str, Callable[..., Optimizer]] = {"adam": Adam, "sgd": SGD}
DECOUPLED: dict[str, Callable[..., Optimizer]] = {"adamw": AdamW, "sgdw": SGDW}

NO_DECAY = {"match": "intercepts.*", "weight_decay": 0.0, "name": "intercepts"}

SMALLEST_RATE = 1e-6
"""Rate at which ``learning_rate="adaptive"`` stops, as in scikit-learn."""


class ThalwegMixin:
    """Mixin of the estimators; it precedes scikit-learn's class among the bases."""

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
    """Set during a fit only."""
    _held: Any
    """The optimizer. In a copy or pickle, its `__reduce__` tuple: `optimizer_` makes it on first
    access, because the arrays may be read-only."""

    def _store(self, arguments: Mapping[str, Any]) -> None:
        """Store the arguments of a constructor unchanged, as scikit-learn requires."""
        vars(self).update({name: value for name, value in arguments.items() if name != "self"})

    @property
    def optimizer_(self) -> Optimizer:
        """The optimizer of thalweg that trains the arrays of `coefs_` and `intercepts_`."""
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
        """The `Loop` that scikit-learn's loop calls; outside a fit, for its `learning_rate`."""
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
            if loop.rate is None:  # before the first step, an error leaves the estimator unchanged
                vars(self).clear()
                vars(self).update(before)
            raise
        finally:
            self.solver = before["solver"]
            vars(self).pop("_loop", None)

    def _score(self, *arguments: Any, **weights: Any) -> float:
        if self._optimizer.diverged:  # the score of non-finite weights
            return float("nan")
        score: float = super()._score(*arguments, **weights)  # type: ignore[misc]  # the next base
        return score

    def _fit_stochastic(self, *arguments: Any) -> None:
        coefs, intercepts = self.coefs_, self.intercepts_
        self._optimizer.start()
        self.solver = MAKES_NONE
        super()._fit_stochastic(*arguments)  # type: ignore[misc]  # the next base
        if self.coefs_ is not coefs:  # early stopping put copies of the best weights there
            best = self.coefs_ + self.intercepts_
            for array, value in zip(coefs + intercepts, best, strict=True):
                array[...] = value
            self.coefs_, self.intercepts_ = coefs, intercepts


class Loop:
    """One call of `fit` or `partial_fit`, in the role of scikit-learn's optimizer."""

    rate: float | None = None
    """Learning rate of the last step; None before the first."""

    diverged = False
    """Whether, with early stopping, a gradient was not finite; then no further step is made."""

    def __init__(self, estimator: ThalwegMixin, *, continues: bool) -> None:
        self._estimator = estimator
        self._continues = continues
        self._solver = estimator.solver

    def start(self) -> None:
        """Make the optimizer, or continue with the present one."""
        estimator = self._estimator
        if not (self._continues and "_held" in vars(estimator)):
            vars(estimator)["_held"] = optimizer(estimator, self._solver)
        self._optimizer = estimator.optimizer_
        self._names = list(self._optimizer.params)

    def update_params(self, _params: Sequence[NDArray[Any]], grads: Sequence[NDArray[Any]]) -> None:
        """Take a step; `grads` has the gradients of all coefs, then those of all intercepts."""
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
        """Raise scikit-learn's error; with early stopping, only warn: it has the best weights."""
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
        """The rate of the last step, with later changes of ``lr`` and ``lr_scale``."""
        step, group = max(self._optimizer.step_count, 1), self._optimizer.groups[0]
        rate, scale = (
            float(value(step) if callable(value) else value)
            for value in (group.lr, getattr(group, "lr_scale", 1.0))
        )
        return rate * scale

    def iteration_ends(self, _time_step: int) -> None:
        """Stop a run that diverged. Schedules need nothing here: they follow the steps."""
        if self.diverged:
            enough = self._estimator.n_iter_no_change + 1
            self._estimator._no_improvement_count = enough  # noqa: SLF001 - scikit-learn's loop reads it

    def trigger_stopping(self, msg: str, verbose: bool) -> bool:
        """Whether training stops after a period without improvement."""
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
            print(msg, outcome)  # noqa: T201 - requested by `verbose`
        return outcome.endswith("Stopping.")


def tree(estimator: ThalwegMixin) -> dict[str, Any]:
    """The arrays of a network as a tree, with the names ``coefs.0`` and so on."""
    return {"coefs": estimator.coefs_, "intercepts": estimator.intercepts_}


def optimizer(estimator: ThalwegMixin, solver: str) -> Optimizer:
    """An optimizer over the arrays of a network, from the estimator's parameters."""
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
    if groups:  # checked alone first, so that messages number them from 0
        DECOUPLED[solver](params, groups=groups, **options)
    return DECOUPLED[solver](params, groups=[NO_DECAY, *groups], **options)
