"""The user's callback in SciPy's two forms, which `minimize` does not unify for custom methods."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from scipy.optimize import OptimizeResult

if sys.version_info >= (3, 14):
    from annotationlib import Format

    def _parameters(function: Callable[..., Any]) -> set[str]:
        """Names of parameters; annotations that exist for type checkers only are not evaluated."""
        signature = inspect.signature(function, annotation_format=Format.FORWARDREF)
        return set(signature.parameters)
else:

    def _parameters(function: Callable[..., Any]) -> set[str]:
        """Names of parameters."""
        return set(inspect.signature(function).parameters)


def make_callback(callback: Any) -> Callable[[OptimizeResult], bool] | None:
    """A function that calls `callback` and returns whether it stops the run; None for None.

    Raises
    ------
    TypeError
        If `callback` is not callable.
    """
    if callback is None:
        return None
    if not callable(callback):
        raise TypeError(
            "callback must be a function: callback(xk) or callback(intermediate_result), got "
            f"{callback!r}"
        )
    by_keyword = _parameters(callback) == {"intermediate_result"}

    def call(result: OptimizeResult) -> bool:
        try:
            if by_keyword:
                callback(intermediate_result=result)
            else:
                callback(result.x)
        except StopIteration:
            return True
        return False

    return call
