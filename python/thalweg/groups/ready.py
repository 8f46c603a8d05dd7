"""Ready groups: common settings, expanded into groups once the parameters are known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thalweg import _core
from thalweg.errors import typed
from thalweg.groups.matching import Match, Matching, Names, compiled, some

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thalweg.numbers import Real

    Layer = Callable[[str], int | None]

__all__ = ["layerwise_lr", "no_decay"]


class ReadyGroup(Protocol):
    """Object that expands into group specifications once the parameters are known."""

    def expand(self, params: Mapping[str, Any], decay: str) -> list[dict[str, Any]]:
        """Group specifications; `decay` is the key of the rule's decay, weight_decay or l2."""


@dataclass(frozen=True)
class NoDecay:
    """See `no_decay`."""

    max_ndim: int = 1

    def expand(self, params: Mapping[str, Any], decay: str) -> list[dict[str, Any]]:
        """One group specification, for the parameters of at most `max_ndim` dimensions."""
        names = tuple(name for name, array in params.items() if np.ndim(array) <= self.max_ndim)
        if not names:
            raise ValueError(
                f"no_decay(max_ndim={self.max_ndim}) matches nothing: every parameter has more "
                "dimensions"
            )
        return [{"match": Names(names), "name": "no_decay", decay: 0.0}]


def no_decay(max_ndim: int = 1) -> NoDecay:
    """Ready group: no decay for parameters of at most `max_ndim` dimensions.

    Biases and normalisation scales are vectors or scalars, and decay only harms them. The group
    sets the decay of the optimizer, ``weight_decay`` or ``l2``, to zero.

    Only the number of dimensions counts. Biases with one dimension more, such as those of layers
    stacked to ``(layers, n)`` or of shape ``(n, 1)``, still decay: match them in a further group.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> params = {"w": np.ones((2, 2)), "b": np.ones(2)}
    >>> opt = thalweg.AdamW(params, groups=[thalweg.no_decay()])
    >>> opt.resolve("w")["weight_decay"], opt.resolve("b")["weight_decay"]
    (0.01, 0.0)

    >>> stacked = {"w": np.ones((12, 2, 2)), "b": np.ones((12, 2)), "scale": np.ones(2)}
    >>> biases = {"match": ["*b"], "weight_decay": 0.0}
    >>> opt = thalweg.AdamW(stacked, groups=[thalweg.no_decay(), biases])
    >>> [opt.resolve(name)["weight_decay"] for name in stacked]
    [0.01, 0.0, 0.0]
    """
    return NoDecay(max_ndim)


@dataclass(frozen=True)
class LayerwiseLR:
    """See `layerwise_lr`."""

    pattern: str
    decay: float
    below: Match | None = None

    def expand(self, params: Mapping[str, Any], decay: str) -> list[dict[str, Any]]:  # noqa: ARG002 - `lr_scale` is the same for every rule
        """One group specification per layer, from the input to the output."""
        layer = self._reader()
        layers = self._layers(params, layer)
        numbers = sorted(layers)
        members = [(self._title(number), layers[number]) for number in numbers]
        if self.below is not None:
            below = self._below(params, self.below, layer)
            members.insert(0, (f"below {self._title(numbers[0])}", below))
        scales = [1.0]
        for _ in members[1:]:
            scales.append(scales[-1] * self.decay)
        return [
            {"match": Names(tuple(names)), "name": title, "lr_scale": scale}
            for (title, names), scale in zip(members, reversed(scales), strict=True)
        ]

    def _title(self, number: int) -> str:
        return self.pattern.replace("{}", str(number))

    def _layers(self, params: Mapping[str, Any], layer: Layer) -> dict[int, list[str]]:
        """Names of the parameters of each layer, by the number of the layer."""
        layers: dict[int, list[str]] = {}
        for name in params:
            number = layer(name)
            if number is not None:
                layers.setdefault(number, []).append(name)
        if not layers:
            raise ValueError(
                f"layerwise_lr({self.pattern!r}) matches nothing: it fits none of "
                f"{some(params)} ({{}} stands for a whole number)"
            )
        return layers

    def _reader(self) -> Layer:
        """Function from a parameter's name to the number of its layer, or None."""
        before, after = self.pattern.split("{}")
        begins, ends = compiled(before), re.compile(translate(after)).match

        def layer(name: str) -> int | None:
            for digits in re.finditer("[0-9]+", name):
                if begins(name[: digits.start()]) and ends(name[digits.end() :]):
                    return int(digits[0])
            return None

        return layer

    def _below(self, params: Mapping[str, Any], match: Match, layer: Layer) -> list[str]:
        what = f"below of layerwise_lr({self.pattern!r})"
        names = [name for name in Matching(params).select(match, what) if layer(name) is None]
        if not names:
            raise ValueError(f"{what} must match parameters other than the layers, got {match!r}")
        return names


def layerwise_lr(pattern: str, decay: Real, *, below: Match | None = None) -> LayerwiseLR:
    """Ready group: learning rates that fall by the factor `decay` per layer, from output to input.

    Fine-tuning changes the layers near the input less than those near the output. With `L` layers,
    counted from the input as `i` = 0 ... L-1, layer `i` has ``lr_scale = decay**(L-1-i)``: the
    last layer trains at the full rate, the first at ``decay**(L-1)`` of it, and parameters `below`
    the first at ``decay**L``. All other parameters, such as the head, keep their rate.

    Parameters
    ----------
    pattern : str
        A glob with one ``{}`` for the number of the layer: ``"layers.{}.*"`` matches
        ``layers.0.w`` and ``layers.11.attn.q``. As in a group, it is compared with the name and
        with the name with a dot in front. If several numbers in a name fit, the first one counts.
    decay : float
        Above 0 and at most 1.
    below : str, sequence of str or callable, optional
        Parameters before the first layer, such as embeddings; a match as in a group. A parameter
        that belongs to a layer stays in its layer.

    Returns
    -------
    LayerwiseLR
        For `groups`. It expands into one group per layer, from the input to the output, named after
        the pattern (``layers.0.*``), preceded by one for `below` (``below layers.0.*``).

    Raises
    ------
    TypeError, ValueError
        For a pattern without ``{}`` or a decay out of range; raised by the optimizer's constructor
        if the pattern or `below` matches nothing.

    Notes
    -----
    Layers are sorted by number and counted without gaps: 0, 2 and 4 are three layers. Scales are
    products of `decay`, without the platform's ``pow``; those of several matching groups multiply.

    Sources agree on the ratio of neighbours and differ at the top. Here the last layer trains at
    the full rate, as in ULMFiT. In BEiT the head trains at the full rate and the last layer at
    ``decay`` of it, in ELECTRA at ``decay**2``: a further group with that ``lr_scale``, for all
    layers and parameters below, has the same effect.

    References
    ----------
    Howard and Ruder, *Universal Language Model Fine-tuning for Text Classification*, 2018, section
    3.2 (discriminative fine-tuning). Clark et al., *ELECTRA*, 2020, and Bao et al., *BEiT*, 2022,
    with their published code.

    Examples
    --------
    >>> import numpy as np, thalweg
    >>> w = np.ones(2)
    >>> params = {"embed": w, "layers": [{"w": w.copy()} for _ in range(3)], "head": w.copy()}
    >>> ready = thalweg.layerwise_lr("layers.{}.*", decay=0.5, below="embed")
    >>> opt = thalweg.AdamW(params, lr=0.1, groups=[ready])
    >>> {name: opt.resolve(name)["lr_scale"] for name in opt.params}
    {'embed': 0.125, 'layers.0.w': 0.25, 'layers.1.w': 0.5, 'layers.2.w': 1.0, 'head': 1.0}
    """
    if not isinstance(pattern, str):
        raise TypeError(f"pattern must be a string, got {typed(pattern)}")
    if pattern.count("{}") != 1:
        raise ValueError(
            "pattern must have one {} for the number of the layer, as in 'layers.{}.*', got "
            f"{pattern!r}"
        )
    decay = _core.check_number("decay", decay)
    if not 0.0 < decay <= 1.0:
        raise ValueError(f"decay must be greater than 0 and at most 1, got {decay}")
    return LayerwiseLR(pattern, decay, below)
