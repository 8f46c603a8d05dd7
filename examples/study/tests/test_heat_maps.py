"""The heat maps judge by their rules: on made-up grids whose basins are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from made_up import performing, record, valley
from thalweg_study.claim import Setting
from thalweg_study.claims import heat_maps
from thalweg_study.grids import size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thalweg_study.claim import Chapter
    from thalweg_study.task import Record
    from thalweg_study.training import Training

QUICK = Setting("digits", thorough=False)
PAPER = {"sgd": -1, "sgdw": -1, "sgdw-independent": 0, "adam": -1, "adamw": 0}
"""Slopes as the paper has them; the rest, as the other independent one, are 0."""


def chapter(slopes: Mapping[str, float], shallow: str) -> Chapter:
    """With the slopes of methods, 0 if not given, and a method whose decay does little."""
    size = size_of(QUICK, "mlp")

    def make(task: Training) -> Record:
        depth = 0.007 if task.method == shallow else 0.02
        return record(valley(task, size, slopes.get(task.method, 0), depth=depth))

    perform, _ = performing(make)
    return heat_maps.study(QUICK, perform)


@pytest.fixture(scope="module")
def as_in_the_paper() -> Chapter:
    return chapter(PAPER, "adam")


def test_all_claims_hold_where_basins_are_as_in_the_paper(as_in_the_paper: Chapter) -> None:
    assert {v.sentence: v.outcome for v in as_in_the_paper.verdicts if v.outcome != "holds"} == {}
    assert len(as_in_the_paper.verdicts) == 8
    for verdict in as_in_the_paper.verdicts:
        assert any(digit in verdict.figures for digit in "0123456789")
        assert "Holds if" in verdict.rule
        assert "undecided" in verdict.rule


def test_no_claim_holds_where_all_is_the_other_way_round() -> None:
    turned = {method: -1 - PAPER.get(method, 0) for method in heat_maps.experiment.SHOWN}
    outcomes = [verdict.outcome for verdict in chapter(turned, "adamw").verdicts]
    assert outcomes == ["does not hold"] * 8


def test_nothing_is_decided_where_decay_does_nothing() -> None:
    generator = np.random.default_rng(0)
    perform, _ = performing(lambda _: record(0.05 + 0.001 * generator.standard_normal()))
    found = heat_maps.study(QUICK, perform)
    assert [verdict.outcome for verdict in found.verdicts[:5]] == ["undecided"] * 5
    assert "learning rates have to count" in found.verdicts[0].figures


def test_what_is_planned_is_what_is_performed() -> None:
    perform, given = performing(lambda _: record(0.05))
    heat_maps.study(QUICK, perform)
    assert given == list(heat_maps.plan(QUICK))
    thorough = heat_maps.plan(Setting("mnist5k", thorough=True))
    assert len(thorough) > len(given)
    assert {task.data for task in thorough} == {"mnist5k"}


def test_pictures_mark_the_best_and_say_where_it_is(as_in_the_paper: Chapter) -> None:
    names = [picture.name for picture in as_in_the_paper.pictures]
    assert names == ["heat-maps", "heat-maps-pair", "heat-maps-slopes"]
    table = {row[0]: row for row in as_in_the_paper.tables[0].rows}
    _, lr, decay, *_ = table["AdamW"]
    pair = as_in_the_paper.pictures[1]
    assert f"AdamW is best with learning rate {lr} and decay {decay}" in pair.caption
    stars = [
        line
        for axes in pair.figure.axes[:2]
        for line in axes.lines
        if line.get_label() == "best of all"
    ]
    assert len(stars) == 2


def test_failed_cells_are_told_from_bad_ones() -> None:
    size = size_of(QUICK, "mlp")

    def make(task):  # noqa: ANN001, ANN202 - a training to its record
        if task.lr > 0.1:
            return record(0.9, stopped=3)
        return record(valley(task, size, 0))

    perform, _ = performing(make)
    cells = heat_maps.study(QUICK, perform).pictures[0].figure.axes[0].collections[0].get_array()
    assert np.ma.is_masked(cells)
