from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

__all__ = [
    "Checkpoint",
    "OpenStep",
    "Optimizer",
    "StepReport",
    "Stored",
    "Swapped",
    "TensorStats",
    "__version__",
    "apply_adam",
    "apply_sgd",
    "check_hyperparameter",
    "check_number",
    "check_whole",
    "checkpoint_header",
    "clip_by_global_norm",
    "close",
    "cpu_levels",
    "decay",
    "flatten",
    "get_cpu_level",
    "get_num_threads",
    "global_norm",
    "half_cosine",
    "num_threads_source",
    "power",
    "set_cpu_level",
    "set_num_threads",
    "stream",
    "write_checkpoint",
]
__version__: str

_Counts: TypeAlias = tuple[int, int, int, float]

def apply_adam(
    p: Any,
    g: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    step: int,
    *,
    lr: float,
    betas: Sequence[float],
    eps: float,
    l2: float,
    weight_decay: Any,
    independent: bool,
    max_exp_avg_sq: Any,
    maximize: bool,
    scale: float,
    nonfinite: str,
    threads: int | None,
) -> bool: ...
def apply_sgd(
    p: Any,
    g: Any,
    momentum_buffer: Any,
    step: int,
    *,
    lr: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    l2: float,
    weight_decay: Any,
    independent: bool,
    maximize: bool,
    scale: float,
    nonfinite: str,
    threads: int | None,
) -> bool: ...
def check_hyperparameter(name: str, value: Any) -> float: ...
def check_number(name: str, value: Any) -> float: ...
def check_whole(name: str, value: Any, least: int) -> int: ...
def checkpoint_header(
    path: str,
) -> tuple[dict[str, str], list[tuple[str, str, tuple[int, ...], int, int]]]: ...
def clip_by_global_norm(grads: Any, max_norm: float) -> float: ...
def close() -> None: ...
def cpu_levels() -> list[str]: ...
def decay(params: Any, rate: float) -> None: ...
def flatten(tree: Any) -> dict[str, Any]: ...
def get_cpu_level() -> str: ...
def get_num_threads() -> int: ...
def global_norm(grads: Any) -> float: ...
def half_cosine(done: float, left: float) -> float: ...
def num_threads_source() -> str: ...
def power(base: float, exponent: float) -> float: ...
def set_cpu_level(level: str) -> None: ...
def set_num_threads(n: int) -> None: ...
def write_checkpoint(
    path: str,
    metadata: Mapping[str, str],
    tensors: Sequence[tuple[str, str, NDArray[Any]]],
) -> None: ...
def stream(written: Sequence[NDArray[Any]], read: NDArray[Any]) -> None: ...

@final
class Checkpoint:
    def __new__(cls, path: str) -> Self: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def tensors(self) -> dict[str, Stored]: ...

@final
class OpenStep:
    def __call__(
        self,
        grads: Any,
        *,
        max_norm: float | None = None,
        max_tensor_norm: float | None = None,
        max_value: float | None = None,
        scale: float = 1.0,
        stats: bool = False,
    ) -> StepReport: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_error: object) -> None: ...

@disjoint_base
class Optimizer:
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    @property
    def consecutive_skips(self) -> int: ...
    @property
    def skip_count(self) -> int: ...
    @property
    def step_count(self) -> int: ...
    def open_step(self) -> OpenStep: ...
    def step(
        self,
        grads: Any,
        *,
        max_norm: float | None = None,
        max_tensor_norm: float | None = None,
        max_value: float | None = None,
        scale: float = 1.0,
        partial: bool = False,
        stats: bool = False,
    ) -> StepReport: ...
    def _average(self, params: Any, owner: Optimizer | None = None) -> None: ...
    def _bind(
        self,
        params: Any,
        *,
        adam: bool,
        amsgrad: bool,
        nesterov: bool,
        independent: bool,
        maximize: bool,
        nonfinite: str,
    ) -> list[tuple[str, Any]]: ...
    def _bind_averages(self, averages: Any, bias_correction: bool) -> list[tuple[str, Any]]: ...
    def _bind_sums(self, sums: Any) -> list[tuple[str, Any]]: ...
    def _check_current(self) -> None: ...
    def _check_ready(self) -> None: ...
    def _configure(
        self,
        classes: Sequence[dict[str, Any]],
        assignment: Sequence[int] | None = None,
        trained: Mapping[str, int] = ...,
        restored: tuple[_Counts, dict[str, Any]] | None = None,
        attached: Sequence[tuple[Optimizer, _Counts, dict[str, Any]]] = ...,
    ) -> None: ...
    def _extend(
        self, params: Any, classes: Sequence[dict[str, Any]], assignment: Sequence[int]
    ) -> list[tuple[str, Any]]: ...
    def _leaf_names(self) -> list[str]: ...
    def _leaf_step(self, name: str) -> int: ...
    def _leaf_steps(self) -> list[int]: ...
    def _rebind(self, params: Any) -> list[tuple[str, Any]]: ...
    def _reset(self, names: Sequence[str] | None = None) -> None: ...
    def _restore(
        self,
        counts: _Counts,
        states: dict[str, Any],
        attached: Sequence[tuple[Optimizer, _Counts, dict[str, Any]]] = ...,
    ) -> None: ...
    def _together(
        self,
        others: Sequence[Optimizer],
        work: Callable[[list[tuple[_Counts, dict[str, Any]]]], Any],
        current: bool,
    ) -> Any: ...
    def _snapshot(self, names: Sequence[str], copy: bool) -> tuple[_Counts, dict[str, Any]]: ...
    def _state(self, name: str) -> dict[str, NDArray[Any]] | None: ...
    @property
    def _weight(self) -> float: ...

@final
class Stored:
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def kind(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def read(self) -> NDArray[Any]: ...

@final
class StepReport:
    def __new__(
        cls,
        step: int,
        lr: float,
        grad_norm: float | None,
        clip: float,
        skipped: bool,
        nonfinite: Mapping[str, int],
        stats: Mapping[str, TensorStats] | None = None,
    ) -> Self: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    @property
    def step(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def grad_norm(self) -> float | None: ...
    @property
    def clip(self) -> float: ...
    @property
    def skipped(self) -> bool: ...
    @property
    def nonfinite(self) -> Mapping[str, int]: ...
    @property
    def stats(self) -> Mapping[str, TensorStats] | None: ...

@final
class Swapped:
    def __new__(
        cls, average: Optimizer, owner: Optimizer | None, params: dict[str, Any], tree: Any
    ) -> Self: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, *_error: object) -> None: ...

@final
class TensorStats:
    def __new__(cls, grad_norm: float, param_norm: float, update_norm: float) -> Self: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    @property
    def grad_norm(self) -> float: ...
    @property
    def param_norm(self) -> float: ...
    @property
    def update_norm(self) -> float: ...
    @property
    def update_ratio(self) -> float: ...
