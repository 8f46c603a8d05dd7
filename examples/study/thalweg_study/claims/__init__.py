"""The claims: each a module with its question, experiment, pictures and verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg_study.claims import (
    amsgrad,
    equivalence,
    generalisation,
    heat_maps,
    normalized_decay,
    optimizers,
    schedules,
)

if TYPE_CHECKING:
    from thalweg_study.claim import Claim

_IN_ORDER: tuple[Claim, ...] = (
    equivalence,
    heat_maps,
    generalisation,
    schedules,
    normalized_decay,
    amsgrad,
    optimizers,
)
CLAIMS = {claim.NAME: claim for claim in _IN_ORDER}
"""By the name on the command line, in the order of the report."""
