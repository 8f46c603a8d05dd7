"""Parameter groups: which parameter gets which hyperparameters."""

from thalweg.groups.group import Group, Kept, Match, Number, Real

__all__ = ["Group", "Kept", "Match", "Number", "Real"]
