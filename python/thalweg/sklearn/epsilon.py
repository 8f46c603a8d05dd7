"""Conversion of the ε of scikit-learn and of Adam's paper, added before bias correction."""

from __future__ import annotations

import math
from dataclasses import dataclass

from thalweg.reference import one_minus_power
from thalweg.schedule import Schedule, checks

__all__ = ["epsilon_hat"]


@dataclass(frozen=True, repr=False)
class epsilon_hat(Schedule):  # noqa: N801 - the constructor of a schedule reads like a function call
    """scikit-learn's ``epsilon`` as a schedule of thalweg.

    scikit-learn adds ε̂ to the root before bias correction; thalweg, like torch and optax, adds ε
    after it. With ``ε = ε̂/√(1 - beta_2^step)`` both are equal::

        lr·√(1-β2^t)/(1-β1^t) · m / (√v + ε̂)  =  lr/(1-β1^t) · m / (√v/√(1-β2^t) + ε)

    Parameters
    ----------
    epsilon : float, default 1e-8
        scikit-learn's ``epsilon``, above 0.
    beta_2 : float, default 0.999
        The estimator's ``beta_2``, in [0, 1).

    References
    ----------
    Kingma and Ba, *Adam: A Method for Stochastic Optimization*, the end of section 2.

    Examples
    --------
    >>> from thalweg.sklearn import epsilon_hat
    >>> epsilon = epsilon_hat(1e-8, beta_2=0.99)
    >>> round(epsilon(1), 12), round(epsilon(1000), 12)  # ten times as much, and the same
    (1e-07, 1e-08)
    """

    epsilon: float = 1e-8
    beta_2: float = 0.999

    def __post_init__(self) -> None:
        checks.number(self, "epsilon", 0, above=True)
        checks.number(self, "beta_2", 0, 1, below=True)

    def _at(self, step: int) -> float:
        return self.epsilon / math.sqrt(one_minus_power(self.beta_2, step))
