"""A run of the demo, from options to picture."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import thalweg
from thalweg.cli.demo import digits, display, figure
from thalweg.cli.demo.recipes import RECIPES, Recipe
from thalweg.cli.demo.training import Plan, Run, train
from thalweg.cli.errors import CommandError
from thalweg.cli.output import check_writable, writing

if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Train, print the table, save the picture; return 1 if a run stopped."""
    check_writable(arguments.output)
    if arguments.threads is not None:
        thalweg.set_num_threads(arguments.threads)
    plan = Plan(arguments.epochs, arguments.batch_size, arguments.seed, arguments.schedule)
    data = digits.load(plan.seed)
    try:
        display.print_setting(data, plan)
        runs = _train_all(_recipes(arguments), data, plan)
    except ValueError as error:
        # The product of two valid rates overflows, or there are fewer steps than parts of the
        # schedule; the message says which.
        raise CommandError(str(error)) from error
    display.print_results(runs)
    with writing(arguments.output):
        figure.draw(runs, plan, data).savefig(arguments.output)
    print(f"saved {arguments.output}")
    return int(any(run.stop is not None for run in runs))


def _recipes(arguments: argparse.Namespace) -> list[Recipe]:
    given = {
        name: value for name in ("lr", "decay") if (value := getattr(arguments, name)) is not None
    }
    names = dict.fromkeys(arguments.optimizer or RECIPES)
    return [replace(RECIPES[name], **given) for name in names]


def _train_all(recipes: list[Recipe], data: digits.Digits, plan: Plan) -> list[Run]:
    with display.progress() as bars:
        tasks = [
            bars.add_task(recipe.label, start=False, total=plan.epochs, note="")
            for recipe in recipes
        ]
        runs = []
        for recipe, task in zip(recipes, tasks, strict=True):
            bars.start_task(task)
            runs.append(train(recipe, data, plan, partial(display.show_epoch, bars, task)))
            display.show_end(bars, task, runs[-1])
        return runs
