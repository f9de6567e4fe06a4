"""The command line of the machine: `python -m tests.machine --schedules 10000`."""

from __future__ import annotations

import sys

import click

from tests.machine.running import BATCH, PAGE, Result, run_all, run_alone, write_page


@click.command(context_settings={"show_default": True})
@click.option("--schedules", default=10_000, help="How many schedules to run.")
@click.option("--seed", default=0, help="What all of them follow from.")
@click.option("--workers", default=2, help="In how many processes.")
@click.option("--minutes", default=60.0, help="Begin nothing new after so many minutes.")
@click.option("--batch", type=int, help="Run one batch again, of as many schedules as --schedules says.")
@click.option("--page/--no-page", default=True, help=f"Write the result to {PAGE.parent.name}/{PAGE.name}.")
def main(schedules: int, seed: int, workers: int, minutes: float, batch: int | None, page: bool) -> None:
    """Run random schedules against a little project; ends with 1 where one fails, and says how to run it again."""
    result = Result()
    if batch is not None:
        result, page = run_alone(seed, batch, schedules), False
        _tell(result, min(schedules, BATCH))
    else:
        for result in run_all(schedules, seed, workers, minutes):
            _tell(result, schedules)
    if page:
        write_page(result, schedules, seed, workers)
    if result.failure:
        click.echo(result.failure)
        sys.exit(1)


def _tell(result: Result, schedules: int) -> None:
    done = f"{result.schedules} of {schedules} schedules, {sum(result.steps.values())} steps"
    click.echo(f"{done}, {result.seconds:.0f} s, {result.schedules / result.seconds:.1f} schedules a second")


if __name__ == "__main__":
    main()
