"""The optimizers as methods of `scipy.optimize.minimize`.

``scipy.optimize.minimize(fun, x0, jac=True, method=thalweg.scipy.adamw)``; `adam`, `sgdw` and `sgd`
in the same way. Each can be called by itself too: ``thalweg.scipy.adamw(fun, x0, jac=True)``.
"""

try:
    import scipy.optimize as _  # noqa: F401 - whether it is there is the question
except ModuleNotFoundError as error:
    raise ImportError("thalweg.scipy needs SciPy: pip install 'thalweg[scipy]'") from error

from thalweg.scipy.methods import adam, adamw, sgd, sgdw

__all__ = ["adam", "adamw", "sgd", "sgdw"]
