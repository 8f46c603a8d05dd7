"""The quick study from the command to the page, once, with everything real."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from thalweg_study.claim import Setting
from thalweg_study.claims import CLAIMS
from thalweg_study.grids import Grid, size_of
from thalweg_study.statistics import mean_interval
from thalweg_study.training import Training
from thalweg_study.typography import typeset
from thalweg_study.wording import points

if TYPE_CHECKING:
    from pathlib import Path

    from browser import Browser

QUICK = Setting("digits", thorough=False)


class Ended(NamedTuple):
    out: Path
    printed: str


def study(out: Path, *options: str) -> Ended:
    command = [sys.executable, "-X", "utf8", "-m", "thalweg_study", *options, "--out", str(out)]
    ended = subprocess.run(  # noqa: S603 - our own command
        command, capture_output=True, encoding="utf-8", check=False
    )
    assert ended.returncode == 0, ended.stderr
    return Ended(out, ended.stdout)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return study(tmp_path_factory.mktemp("study"), "--quick")


def stored(out: Path) -> list[dict[str, dict[str, object]]]:
    lines = (out / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def trainings(out: Path) -> list[dict[str, str]]:
    with (out / "runs" / "training.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_claim_has_its_verdicts_in_the_terminal_and_on_the_page(quick: Ended) -> None:
    page = (quick.out / "report.html").read_text(encoding="utf-8")
    for name, claim in CLAIMS.items():
        line = re.compile(rf"^ {name} .* (holds|does not hold|undecided) *$", re.MULTILINE)
        assert line.search(quick.printed)
        assert f'id="{name}"' in page
        assert claim.TITLE in page
    assert str(quick.out / "report.html") in quick.printed


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_in_a_browser_and_every_picture_shows(
    quick: Ended, browser: Browser, width: int
) -> None:
    page = browser.inspect(quick.out / "report.html", width)
    assert page.images == len([*quick.out.glob("pictures/*.png")]) >= 12
    assert (page.broken, page.errors, page.requests, page.overflow) == ((), (), (), 0)


def test_every_picture_is_a_png_and_an_svg(quick: Ended) -> None:
    names = {path.stem for path in quick.out.glob("pictures/*.png")}
    assert names == {path.stem for path in quick.out.glob("pictures/*.svg")}
    assert {"heat-maps", "heat-maps-pair"} <= names


def test_every_run_is_stored_and_a_row(quick: Ended) -> None:
    rows = sum(
        len(path.read_text(encoding="utf-8").splitlines()) - 1
        for path in quick.out.glob("runs/*.csv")
    )
    assert rows == len(stored(quick.out)) > 2000


def test_a_second_time_nothing_is_run_and_all_is_the_same(quick: Ended) -> None:
    before = (quick.out / "runs.jsonl").read_bytes()
    page = (quick.out / "report.html").read_text(encoding="utf-8")
    again = study(quick.out, "--jobs", "1")
    assert again.printed == quick.printed
    assert (quick.out / "runs.jsonl").read_bytes() == before
    facts = page.index('id="settings"')
    assert (again.out / "report.html").read_text(encoding="utf-8")[:facts] == page[:facts]


def test_a_run_that_is_repeated_finds_what_is_stored(quick: Ended) -> None:
    runs = [run for run in stored(quick.out) if run["kind"] == "training"]
    with threadpool_limits(1):
        for run in runs[:: len(runs) // 7]:
            found = Training(**run["settings"]).perform()
            seconds = {name: 0.0 for name in found if name.endswith("_seconds")}
            assert {**found, **seconds} == {**run["record"], **seconds}


def test_the_figures_follow_from_the_table_of_runs(quick: Ended) -> None:
    errors = {
        method: np.array(
            [
                float(row["test_error"])
                for row in trainings(quick.out)
                if row["method"] == method and row["model"] == "mlp" and int(row["seed"]) >= 1000
                if "generalisation" in row["claims"].split()
            ]
        )
        for method in ("adam", "adamw")
    }
    assert len(errors["adam"]) >= 10
    difference = mean_interval(errors["adam"] - errors["adamw"])
    page = (quick.out / "report.html").read_text(encoding="utf-8")
    text = typeset(f"Adam + L2 minus AdamW: {points(difference)} percentage points of test error.")
    assert text in page


def test_what_is_tuned_is_the_best_of_the_table_of_runs(quick: Ended) -> None:
    grid = Grid("digits", "mlp", "adamw", size_of(QUICK, "mlp"))
    means: dict[tuple[float, float], list[float]] = {}
    for row in trainings(quick.out):
        if row["method"] == "adamw" and "heat-maps" in row["claims"].split():
            pair = float(row["lr"]), float(row["decay"])
            means.setdefault(pair, []).append(float(row["validation_error"]))
    assert set(means) == {(lr, decay) for lr in grid.lrs for decay in grid.decays}
    lr, decay = min(means, key=lambda pair: np.mean(means[pair]))
    page = (quick.out / "report.html").read_text(encoding="utf-8")
    assert f"AdamW is best with learning rate {lr:g} and decay {decay:g}" in page


def test_what_is_proved_holds_on_every_machine(quick: Ended) -> None:
    page = re.sub(r"\s+", " ", (quick.out / "report.html").read_text(encoding="utf-8"))
    summary = page[: page.index("Rule:")]
    assert "the average regret is 0.273 and 0.083 at the end" in summary
    equivalence = quick.printed[: quick.printed.index("heat-maps")]
    assert equivalence.count(" holds ") == 4
    assert "undecided" not in equivalence


def test_the_share_of_the_optimizer_is_shown(quick: Ended) -> None:
    page = (quick.out / "report.html").read_text(encoding="utf-8")
    shares = page[page.index('id="shares"') : page.index('id="settings"')]
    assert re.search(r"AdamW.*%", re.sub(r"\s+", " ", shares))
