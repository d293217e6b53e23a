"""The commands for who writes a method: `new-method` and `check-method`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.flags import Plugins, Threads
from harness.progress import at_work, print_table, say


def new_method_command(
    name: Annotated[str, typer.Argument(help="Name of the method, e.g. my-method.")],
    out: Annotated[Path, typer.Option(help="Folder for the two files.")] = Path(),
) -> None:
    """Write a small method that works, as a plugin file to start from, and its test."""
    from harness.conformance.scaffold import next_commands, write_method

    method, test = write_method(name, out)
    say(f"wrote {method} and {test}; next:")
    for command in next_commands(method):
        say(f"    {command}")


def check_method_command(
    name: Annotated[
        str, typer.Argument(help="A method, with options if wanted: mamp or mamp:decoder=cross.")
    ],
    plugin: Plugins = None,
    threads: Threads = None,
) -> None:
    """Run the conformance suite on a method and print what passes and what fails."""
    with at_work(announced=False) as report:
        with report.task("loading torch and the methods"):
            from harness.conformance.suite import examine_all, find_specimen, summary
            from harness.machine import use_threads
            from harness.registry import Registry

            registry = Registry(plugin)
        use_threads(threads)
        specimen = find_specimen(name, registry)
        with report.task(f"checking {name}", "check") as task:
            results = examine_all(specimen, task)
        rows = [(result.check, result.outcome, result.reason) for result in results]
        print_table(
            report.console, ["check", "result", "reason"], rows, [f"{name}: {summary(results)}"]
        )
    if not all(result.passed for result in results):
        raise typer.Exit(1)
