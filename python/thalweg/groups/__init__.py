"""Parameter groups: the hyperparameters of each parameter."""

from thalweg.groups.group import Group
from thalweg.groups.matching import Match
from thalweg.numbers import Kept, Number, Real

__all__ = ["Group", "Kept", "Match", "Number", "Real"]
