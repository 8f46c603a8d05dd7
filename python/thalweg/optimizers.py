"""The optimizers: constructors, groups, state. The step itself is native (`thalweg._core`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

import numpy as np

from thalweg import _core
from thalweg import state as state_dicts
from thalweg.groups import (
    Cascade,
    Group,
    Match,
    Number,
    ReadyGroup,
    Rule,
    check_value,
    matching_names,
    resolve,
    unknown_key,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SGD", "SGDW", "Adam", "AdamW", "Optimizer"]

NonFinite = Literal["raise", "skip", "ignore"]
Groups = Sequence[Mapping[str, Any] | ReadyGroup]

DEFAULT_WEIGHT_DECAY = 1e-2


class Optimizer(_core.Optimizer):
    """What the optimizers have in common. Make one of `AdamW`, `Adam`, `SGDW` and `SGD`.

    Parameters and state keep their identity: they are updated in place, for ever the same arrays.
    """

    rule: ClassVar[Rule]
    """Name and hyperparameters of the update rule."""

    _tree: Any
    _params: dict[str, Any]
    _groups: tuple[Group, ...]
    _cascade: Cascade
    _options: dict[str, Any]

    def _start(
        self, params: Any, groups: Groups, values: dict[str, Any], options: dict[str, Any]
    ) -> None:
        """Take in parameters, groups and options; the constructors end here."""
        values = {key: check_value(self.rule, key, value) for key, value in values.items()}
        if isinstance(groups, Mapping | str) or not isinstance(groups, Sequence):
            raise TypeError(f"groups must be a sequence of mappings, got {groups!r}")
        leaves = dict(self._bind(params, **_native_options(self.rule, options)))
        self._options = options
        self._tree = params
        self._params = leaves
        made = [Group(self, "*", leaves, values)]
        for position, given in enumerate(groups, start=1):
            if isinstance(given, Mapping):
                specifications = [dict(given)]
            elif hasattr(given, "expand"):
                specifications = given.expand(leaves, self.rule.decay)
            else:
                raise TypeError(f"groups[{position - 1}] must be a mapping, got {given!r}")
            made += [self._group(specification) for specification in specifications]
        self._adopt(made)

    def _group(self, specification: dict[str, Any]) -> Group:
        if "match" not in specification:
            raise TypeError(f"a group needs 'match', got {specification!r}")
        match = specification.pop("match")
        values = {key: check_value(self.rule, key, v) for key, v in specification.items()}
        return Group(self, match, matching_names(match, self._params), values)

    def _adopt(self, groups: Sequence[Group]) -> None:
        """Make these the groups, or change nothing."""
        cascade = Cascade(groups, self._params)
        self._configure(cascade.values(), cascade.assignment())
        self._groups = tuple(groups)
        self._cascade = cascade

    def _edit(self, group: Group, values: dict[str, Any]) -> None:
        """Give a group other values, or change nothing."""
        self._configure(self._cascade.values(group, values))
        object.__setattr__(group, "_values", values)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Parameter groups; the first holds the constructor's values and matches everything."""
        return self._groups

    @property
    def lr(self) -> Any:
        """Learning rate of group 0: a number, or a callable of the step."""
        return self._groups[0].lr

    @lr.setter
    def lr(self, value: Number) -> None:
        self._groups[0].lr = value

    @property
    def params(self) -> Mapping[str, NDArray[Any]]:
        """Live parameter arrays by name, in the order of the tree; a read-only mapping."""
        return MappingProxyType(self._params)

    @property
    def state(self) -> Mapping[str, Mapping[str, Any]]:
        """Live state by parameter: ``opt.state["w"]["exp_avg"]``, and ``["step"]``, an int.

        The arrays are ``exp_avg``, ``exp_avg_sq`` and ``max_exp_avg_sq`` (Adam), or
        ``momentum_buffer`` (SGD with momentum). A parameter that was never trained has none.
        """
        states = {name: self._state(name) for name in self._params}
        return MappingProxyType(
            {
                name: _LeafState(self, name, arrays)
                for name, arrays in states.items()
                if arrays is not None
            }
        )

    def resolve(self, name: str) -> dict[str, Any]:
        """What applies to a parameter, all groups considered.

        Returns
        -------
        dict
            Every hyperparameter, ``lr_scale`` (the product, or the tuple of them where one is a
            callable), ``frozen``, and ``groups``, the positions of the groups that match.

        Raises
        ------
        KeyError
            If there is no such parameter.
        """
        matching = self._cascade.matching[name]
        resolved = resolve([self._groups[i]._values for i in matching])
        scales = resolved["lr_scale"]
        if not any(callable(scale) for scale in scales):
            resolved["lr_scale"] = float(np.prod(scales))
        return {**resolved, "groups": matching}

    def reset(self, match: Match | None = None) -> None:
        """Forget the history: state zero, parameters as they are.

        Parameters
        ----------
        match : str, sequence of str, callable or None
            Which parameters, as in a group. None means all, and sets `step_count` to zero too.
        """
        names = list(self._params) if match is None else matching_names(match, self._params)
        step_count = 0 if match is None else self.step_count
        self._set_steps(step_count, [(name, 0) for name in names])
        for name in names:
            for array in (self._state(name) or {}).values():
                array[...] = 0.0

    def rebind(self, params: Any) -> None:
        """Adopt other arrays under the same names, and keep the state.

        For a program that replaced arrays instead of assigning into them.

        Raises
        ------
        ValueError
            If names, shapes or dtypes differ; nothing is changed.
        """
        self._params = dict(self._rebind(params))
        self._tree = params
        self._adopt([_with_owner(group, self) for group in self._groups])

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """Everything but the parameters, as plain dicts, lists, numbers and arrays.

        Parameters
        ----------
        copy : bool, default True
            False gives the live state arrays instead of copies.

        Returns
        -------
        dict
            ``format``, ``rule``, ``options``, ``step_count``, ``groups`` and ``state``. Callables
            are recorded by name, matchers as the names they matched; frozen parameters are left
            out.
        """
        return state_dicts.state_dict(self, copy=copy)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        *,
        hyperparameters: Literal["saved", "current"] = "saved",
        strict: bool = True,
    ) -> state_dicts.LoadReport:
        """Take over a state dict. Everything is checked before anything is changed.

        Parameters
        ----------
        state_dict : mapping
            As `state_dict` returns it.
        hyperparameters : {"saved", "current"}
            Whose hyperparameters and groups count from now on. With ``"saved"`` a warning lists
            what changed; callables of this optimizer's groups stay.
        strict : bool, default True
            False loads what fits and reports the rest.

        Returns
        -------
        LoadReport
            What was loaded, missing, unexpected, mismatched and changed.

        Raises
        ------
        ValueError
            If it does not fit, listing every difference; nothing is loaded then.
        """
        return state_dicts.load_state_dict(
            self, state_dict, hyperparameters=hyperparameters, strict=strict
        )

    def __repr__(self) -> str:
        frozen = {name for name in self._params if self.resolve(name)["frozen"]}
        trains = [array for name, array in self._params.items() if name not in frozen]
        size = sum(array.size for array in trains)
        values = ", ".join(f"{key}={self._groups[0]._values[key]!r}" for key in self.rule.keys)
        rest = f", {len(frozen)} frozen" if frozen else ""
        return (
            f"{self.rule.name}({values}; {len(trains)} arrays, {size:,} parameters train{rest}, "
            f"step {self.step_count})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _new, (type(self),), state_dicts.pickled(self)

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        state_dicts.unpickle(self, pickled)


def _new(cls: type[Optimizer]) -> Optimizer:
    return cls.__new__(cls)


def _with_owner(group: Group, owner: Optimizer) -> Group:
    return Group(owner, group.match, group.names, group._values)


def _native_options(rule: Rule, options: Mapping[str, Any]) -> dict[str, Any]:
    for key in ("amsgrad", "nesterov", "independent", "maximize"):
        if not isinstance(options[key], bool):
            raise TypeError(f"{key} must be True or False, got {options[key]!r}")
    if not isinstance(options["nonfinite"], str):
        raise TypeError(f"nonfinite must be a string, got {options['nonfinite']!r}")
    return {"adam": "betas" in rule.keys, **options}


def _refuse(rule: Rule, unsupported: Mapping[str, Any]) -> None:
    for key in unsupported:
        raise TypeError(unknown_key(rule, key))


def default_weight_decay(weight_decay: Number | None, independent: bool) -> Number:
    """The default, unless `independent` asks for a decay of its own scale.

    Raises
    ------
    TypeError
        For ``independent=True`` without `weight_decay`.
    """
    if weight_decay is not None:
        return weight_decay
    if independent:
        raise TypeError(
            "independent=True needs an explicit weight_decay: it is not multiplied by lr, so the "
            f"default of {DEFAULT_WEIGHT_DECAY} would be far too strong"
        )
    return DEFAULT_WEIGHT_DECAY


class _LeafState(Mapping[str, Any]):
    """Live state of one parameter."""

    def __init__(self, owner: Optimizer, name: str, arrays: dict[str, NDArray[Any]]) -> None:
        self._owner = owner
        self._name = name
        self._arrays = arrays

    def __getitem__(self, key: str) -> Any:
        return self._owner._leaf_step(self._name) if key == "step" else self._arrays[key]

    def __iter__(self) -> Iterator[str]:
        yield "step"
        yield from self._arrays

    def __len__(self) -> int:
        return 1 + len(self._arrays)

    def __repr__(self) -> str:
        return repr(dict(self))


class Adam(Optimizer):
    """Adam, with an L2 penalty in the gradient; AMSGrad with ``amsgrad=True``.

    At step `t` of a parameter, with gradient ``g <- scale·clip·g + l2·p``::

        m <- β1·m + (1-β1)·g
        v <- β2·v + (1-β2)·g²
        p <- p - lr/(1-β1^t) · m / ( √v/√(1-β2^t) + eps )

    AMSGrad takes the running maximum of `v` in place of `v`. `thalweg.reference.adam` is the exact
    definition.

    Parameters
    ----------
    params : tree of ndarray
        Writable float32 or float64 arrays, in mappings, lists, tuples; updated in place.
    lr : float or callable, default 1e-3
        Learning rate, at least 0.
    betas : tuple of two floats or callables, default (0.9, 0.999)
        Decay of the first and second moment, each in [0, 1).
    eps : float or callable, default 1e-8
        Added to the root; at least 1e-15 for float32 parameters, 1e-120 for float64.
    l2 : float or callable, default 0
        Penalty, at least 0: the gradient of ``l2·Σp²/2`` is added to the gradient, and Adam divides
        it by the gradient's history like the rest. For decay that does not depend on that history
        see `AdamW`.
    amsgrad : bool, default False
        Keep the running maximum of the second moment.
    groups : sequence of mappings
        Parameter groups; see `AdamW`.
    maximize : bool, default False
        Ascend instead of descend.
    nonfinite : {"raise", "skip", "ignore"}
        What to do about gradients that are NaN, infinite or too large; see `AdamW`.

    Notes
    -----
    `eps` is outside the bias-corrected root (torch, optax), not the papers' ε̂ (Keras,
    scikit-learn, thinc): ``eps = ε̂/√(1-β2^t)``. AMSGrad takes the maximum of the raw `v` (torch,
    Keras); optax takes it of the corrected one, and the AMSGrad paper corrects nothing.

    References
    ----------
    Kingma and Ba, *Adam: A Method for Stochastic Optimization*, algorithm 1. Reddi, Kale and Kumar,
    *On the Convergence of Adam and Beyond*, algorithm 2.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.array([1.0, -2.0])
    >>> opt = thalweg.Adam(w, lr=0.1)
    >>> for _ in range(200):
    ...     report = opt.step(2 * w)  # the gradient of w·w
    >>> bool(np.abs(w).max() < 0.01), report.step
    (True, 200)
    """

    rule = Rule("Adam", ("lr", "betas", "eps", "l2"))

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-3,
        *,
        betas: Sequence[Number] = (0.9, 0.999),
        eps: Number = 1e-8,
        l2: Number = 0.0,
        amsgrad: bool = False,
        groups: Groups = (),
        maximize: bool = False,
        nonfinite: NonFinite = "raise",
        **unsupported: NoReturn,
    ) -> None:
        _refuse(self.rule, unsupported)
        values = {"lr": lr, "betas": betas, "eps": eps, "l2": l2}
        self._start(params, groups, values, _options(maximize, nonfinite, amsgrad=amsgrad))


class AdamW(Optimizer):
    """Adam with decoupled weight decay; AMSGrad with ``amsgrad=True``.

    At step `t` of a parameter, with gradient ``g <- scale·clip·g``::

        m <- β1·m + (1-β1)·g
        v <- β2·v + (1-β2)·g²
        p <- p - ( d·p + lr/(1-β1^t) · m / ( √v/√(1-β2^t) + eps ) )
        d  = lr·weight_decay, or weight_decay if independent

    The decay shrinks a weight whatever its gradients were, where `Adam`'s ``l2`` passes through
    the division by their history. `thalweg.reference.adam` is the exact definition.

    Parameters
    ----------
    params : tree of ndarray
        Writable float32 or float64 arrays, in mappings, lists, tuples; updated in place.
    lr : float or callable, default 1e-3
        Learning rate, at least 0.
    betas : tuple of two floats or callables, default (0.9, 0.999)
        Decay of the first and second moment, each in [0, 1).
    eps : float or callable, default 1e-8
        Added to the root; at least 1e-15 for float32 parameters, 1e-120 for float64.
    weight_decay : float or callable, default 1e-2
        Decay, at least 0.
    independent : bool, default False
        True shrinks by `weight_decay` itself, the paper's ``η_t·λ``, and needs an explicit
        `weight_decay`; False by ``lr·weight_decay`` (torch, optax, Keras).
    amsgrad : bool, default False
        Keep the running maximum of the second moment.
    groups : sequence of mappings
        Parameter groups, which cascade: every later group that matches a parameter wins key by
        key. Each has ``match`` (a glob such as ``"*.b"``, a list of globs, or a callable of name
        and array) and any hyperparameters, ``lr_scale``, ``frozen``, ``name``; or is a ready group
        such as `thalweg.no_decay`. A group that matches nothing is an error.
    maximize : bool, default False
        Ascend instead of descend.
    nonfinite : {"raise", "skip", "ignore"}
        What to do about gradients that are NaN, infinite, or overflow once scaled (for Adam: once
        squared). They never reach finite parameters or state, except under ``"ignore"``, which
        saves the pass that looks for them.

    Raises
    ------
    TypeError
        For parameters that are no float32 or float64 ndarrays, unknown keys, wrong types.
    ValueError
        For values out of range, arrays that are read-only or overlap, groups that match nothing.

    Notes
    -----
    A hyperparameter that is a callable is called with the 1-based number of the step.
    Decay uses the old `p`; decay and step are added up before `p` is rounded.

    References
    ----------
    Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, algorithm 2.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> params = {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
    >>> opt = thalweg.AdamW(params, lr=0.1, groups=[{"match": "b", "weight_decay": 0.0}])
    >>> opt
    AdamW(lr=0.1, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01;
          2 arrays, 9 parameters train, step 0)
    >>> opt.step({"w": np.ones((2, 3)), "b": None}).step
    1
    >>> params["w"][0]
    array([0.899, 0.899, 0.899], dtype=float32)
    """

    rule = Rule("AdamW", ("lr", "betas", "eps", "weight_decay"))

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-3,
        *,
        betas: Sequence[Number] = (0.9, 0.999),
        eps: Number = 1e-8,
        weight_decay: Number | None = None,
        independent: bool = False,
        amsgrad: bool = False,
        groups: Groups = (),
        maximize: bool = False,
        nonfinite: NonFinite = "raise",
        **unsupported: NoReturn,
    ) -> None:
        _refuse(self.rule, unsupported)
        weight_decay = default_weight_decay(weight_decay, independent)
        values = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        options = _options(maximize, nonfinite, amsgrad=amsgrad, independent=independent)
        self._start(params, groups, values, options)


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and an L2 penalty in the gradient.

    At step `t` of a parameter, with gradient ``g <- scale·clip·g + l2·p``::

        b <- g at t = 1, else momentum·b + (1-dampening)·g
        p <- p - lr·b, or p - lr·(g + momentum·b) with nesterov

    Without momentum no buffer is kept and ``p <- p - lr·g``. `thalweg.reference.sgd` is the exact
    definition.

    Parameters
    ----------
    params : tree of ndarray
        Writable float32 or float64 arrays, in mappings, lists, tuples; updated in place.
    lr : float or callable
        Learning rate, at least 0.
    momentum : float or callable, default 0
        In [0, 1). It cannot be edited from zero to non-zero later.
    dampening : float or callable, default 0
        In [0, 1]; ignored without momentum.
    nesterov : bool, default False
        Nesterov's form; needs momentum above 0 and dampening 0.
    l2 : float or callable, default 0
        Penalty, at least 0: the gradient of ``l2·Σp²/2`` is added to the gradient.
    groups, maximize, nonfinite
        As for `AdamW`.

    Notes
    -----
    The learning rate is outside the momentum buffer, as in torch; inside in the paper of `SGDW`.

    References
    ----------
    Sutskever et al., *On the importance of initialization and momentum in deep learning*.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.array([1.0, -2.0])
    >>> report = thalweg.SGD(w, lr=0.25).step(2 * w)
    >>> w
    array([ 0.5, -1. ])
    """

    rule = Rule("SGD", ("lr", "momentum", "dampening", "l2"))

    def __init__(
        self,
        params: Any,
        lr: Number,
        *,
        momentum: Number = 0.0,
        dampening: Number = 0.0,
        nesterov: bool = False,
        l2: Number = 0.0,
        groups: Groups = (),
        maximize: bool = False,
        nonfinite: NonFinite = "raise",
        **unsupported: NoReturn,
    ) -> None:
        _refuse(self.rule, unsupported)
        values = {"lr": lr, "momentum": momentum, "dampening": dampening, "l2": l2}
        self._start(params, groups, values, _options(maximize, nonfinite, nesterov=nesterov))


class SGDW(Optimizer):
    """Stochastic gradient descent with momentum and decoupled weight decay.

    As `SGD`, with gradient ``g <- scale·clip·g`` and ``p <- p - (d·p + lr·b)``, where `d` is
    ``lr·weight_decay``, or ``weight_decay`` if independent. Without momentum it is the same as
    `SGD` with ``l2`` of that value; with momentum it is not, because the penalty would then enter
    the buffer.

    Parameters
    ----------
    params, lr, momentum, dampening, nesterov
        As for `SGD`.
    weight_decay : float or callable, default 1e-2
        Decay, at least 0.
    independent : bool, default False
        True shrinks by `weight_decay` itself, the paper's ``η_t·λ``, and needs an explicit
        `weight_decay`; False by ``lr·weight_decay``.
    groups, maximize, nonfinite
        As for `AdamW`.

    Notes
    -----
    The paper keeps the learning rate inside the momentum buffer; torch and we outside.

    References
    ----------
    Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, algorithm 1.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.array([1.0, -2.0])
    >>> report = thalweg.SGDW(w, lr=0.25, weight_decay=0.4).step(2 * w)
    >>> w
    array([ 0.4, -0.8])
    """

    rule = Rule("SGDW", ("lr", "momentum", "dampening", "weight_decay"))

    def __init__(
        self,
        params: Any,
        lr: Number,
        *,
        momentum: Number = 0.0,
        dampening: Number = 0.0,
        nesterov: bool = False,
        weight_decay: Number | None = None,
        independent: bool = False,
        groups: Groups = (),
        maximize: bool = False,
        nonfinite: NonFinite = "raise",
        **unsupported: NoReturn,
    ) -> None:
        _refuse(self.rule, unsupported)
        weight_decay = default_weight_decay(weight_decay, independent)
        values = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
        }
        options = _options(maximize, nonfinite, nesterov=nesterov, independent=independent)
        self._start(params, groups, values, options)


def _options(
    maximize: bool,
    nonfinite: str,
    *,
    amsgrad: bool = False,
    nesterov: bool = False,
    independent: bool = False,
) -> dict[str, Any]:
    return {
        "amsgrad": amsgrad,
        "nesterov": nesterov,
        "independent": independent,
        "maximize": maximize,
        "nonfinite": nonfinite,
    }
