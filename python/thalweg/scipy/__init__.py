"""The optimizers as methods of `scipy.optimize.minimize`.

``scipy.optimize.minimize(fun, x0, jac=True, method=thalweg.scipy.adamw)``; likewise `adam`, `sgdw`
and `sgd`. Each can also be called directly: ``thalweg.scipy.adamw(fun, x0, jac=True)``.
"""

try:
    import scipy.optimize as _  # noqa: F401 - tests whether SciPy is installed
except ModuleNotFoundError as error:
    raise ImportError("thalweg.scipy needs SciPy: pip install 'thalweg[scipy]'") from error

from thalweg.scipy.methods import adam, adamw, sgd, sgdw

__all__ = ["adam", "adamw", "sgd", "sgdw"]
