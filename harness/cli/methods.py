"""The commands for who writes a method: `new-method` and `check-method`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.completion import one_method
from harness.cli.flags import Plugins, Quiet, Threads
from harness.progress import at_work, print_table, say


def new_method_command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the method, e.g. my-method.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the two files.")] = Path(),
) -> None:
    """Write a small method that works, and its test.

    A plugin file to start from.
    """
    from harness.conformance.scaffold import next_commands, write_method

    method, test = write_method(name, out)
    say(f"wrote {method} and {test}; next:")
    for command in next_commands(method):
        say(f"    {command}")


def check_method_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=one_method,
            help="A method, with options if wanted: mamp or mamp:decoder=cross.",
        ),
    ],
    plugin: Plugins = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Run the conformance suite on a method.

    What passes and what fails; exit code 1 where something does.
    """
    with at_work(announced=False, quiet=quiet) as reporter:
        with reporter.task("loading torch and the methods"):
            from harness.conformance.suite import examine_all, find_specimen, summary
            from harness.machine import use_threads
            from harness.registry import Registry

            registry = Registry(plugin)
        use_threads(threads)
        specimen = find_specimen(name, registry)
        with reporter.task(f"checking {name}", "check") as task:
            results = examine_all(specimen, task)
        rows = [(result.check, result.outcome, result.reason) for result in results]
        print_table(
            reporter.console, ["check", "result", "reason"], rows, [f"{name}: {summary(results)}"]
        )
    if not all(result.passed for result in results):
        raise typer.Exit(1)
