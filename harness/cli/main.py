"""The command line: which command is which function, and how every command ends (``--help`` lists
them).

Exit codes: 0 everything ran; 1 a run failed, diverged or ran out of memory, a method failed a
check, or a folder does not hold together or contradicts another; 2 the request cannot be done (one
line says why); 130 stopped by the user, 143 by SIGTERM, 129 by SIGHUP, 138 by SIGUSR1.
"""

from __future__ import annotations

import errno
import importlib.metadata
import io
import os
import platform
import sys
import time
import tomllib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from datasets.files import CACHE_VARIABLE, STORES_VARIABLE
from harness import ROOT
from harness.cli import (
    across,
    data,
    encoders,
    evaluation,
    folders,
    listing,
    methods,
    report,
    run,
    status,
    studies,
    submit,
)
from harness.cli.config import Kind, expanded, named
from harness.cli.flags import RUNS_VARIABLE
from harness.cli.help import CONTEXT, HelpCommand, HelpGroup
from harness.errors import UsageError, first_few, one_line
from harness.isolation import launched
from harness.isolation.outliving import strays, told
from harness.isolation.stopping import RankLost, Stopped, stoppable
from harness.progress import say, say_lines, warn

if TYPE_CHECKING:
    from pathlib import Path

    from harness.runs.plan import Plan

_INTERRUPTED = 130
"""What some versions of typer return for Ctrl-C, which they swallow."""

# typer brings its own copy of click in some versions; its exception for a bad command line is found
# by name.
_COMMAND_LINE_ERROR: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)

_ALONE = 20.0
"""Seconds after which a rank that has failed is the only one."""
_ON_RANKS = ("run", "plan", "speed")
"""Commands that several processes do together, started by torchrun."""
_CONTINUED = (["run"], ["submit"], ["evaluate"], ["data"])
"""Commands that keep what was done when they are stopped."""
COMMANDS: dict[str, dict[str, tuple[Callable[..., object], str]]] = {
    "Train and measure": {
        "run": (run.run_command, "run --methods gfp,mamp --budget 5min --out runs/first"),
        "plan": (run.plan_command, "plan --methods gfp,mamp --budget 2h --seeds 0-2"),
        "show-config": (
            run.show_config_command,
            "show-config --methods gfp,mamp --seeds 0-2 > study.yaml",
        ),
        "submit": (submit.submit_command, "submit --config study.yaml --gpus 1 --time 300"),
        "speed": (run.speed_command, "speed --methods gfp,mamp --processes 3"),
        "evaluate": (
            evaluation.evaluate_command,
            "evaluate runs/first --protocols linear,finetune",
        ),
        "explain": (studies.explain_command, "explain gfp mamp --out runs/why"),
        "claim": (studies.claim_command, "claim gfp-6.2x --dataset ntu60-sized"),
    },
    "Look at folders": {
        "status": (status.status_command, "status runs/first --watch"),
        "table": (folders.table_command, "table runs/first --wide"),
        "compare": (folders.compare_command, "compare runs/first"),
        "report": (report.report_command, "report runs/first --out first.html"),
        "diff": (across.diff_command, "diff runs/first runs/second"),
        "leaderboard": (across.leaderboard_command, "leaderboard here=runs/a there=runs/b"),
        "verify": (studies.verify_command, "verify runs/first"),
        "merge": (folders.merge_command, "merge runs/here runs/there --out runs/both"),
        "shelve": (folders.shelve_command, "shelve runs/first --to shelf/first"),
        "trends": (studies.trends_command, "trends runs/first"),
        "tuning": (studies.tuning_command, "tuning runs/tuned"),
        "ranking": (studies.ranking_command, "ranking runs/budgets"),
        "target": (studies.target_command, "target runs/first --freeze mamp.yaml"),
    },
    "Methods, data and encoders": {
        "ls": (listing.ls_command, "ls methods"),
        "check-method": (methods.check_method_command, "check-method plain --plugin plain.py"),
        "new-method": (methods.new_method_command, "new-method plain"),
        "import-encoder": (encoders.import_encoder_command, "import-encoder mamp.pth"),
    },
}
"""Under their headings in the order of ``--help``, each with the example of its help page."""
_FOLDERS = (
    f"Environment: {RUNS_VARIABLE}, the default of --out; {STORES_VARIABLE}, where prepared data"
    f" sets lie; {CACHE_VARIABLE}, for what is made from data and can be made again."
)
_PROGRAM, _COMPLETES = "harness", "_HARNESS_COMPLETE"
_COMPLETION = ("--install-completion", "--show-completion")
"""What shells complete behind, which is no ``python -m``; the variable in which they ask for it,
and typer's options that make them ask.
"""
_SHELLS = ("bash", "zsh", "fish")

app = typer.Typer(
    cls=HelpGroup,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    help="Masked skeleton pre-training methods side by side: one encoder, one budget, one clock.",
    epilog=_FOLDERS,
)


def print_version(asked: bool) -> None:
    """``masked-skeleton-benchmark 0.1.0, torch 2.15.0, Python 3.11.7``,
    of the checkout and without loading torch.
    """
    if asked:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        torch = importlib.metadata.version("torch")
        say(
            f"{project['name']} {project['version']}, torch {torch}, Python"
            f" {platform.python_version()}"
        )
        raise typer.Exit


_ASKS_VERSION = ("--version", "-V")
Version = Annotated[
    bool,
    typer.Option(*_ASKS_VERSION, help="Print the versions.", callback=print_version, is_eager=True),
]


@app.callback()
def before_any_command(version: Version = False) -> None:
    """What goes without a command."""


for heading, commands in COMMANDS.items():
    for name, (command, example) in commands.items():
        app.command(name, cls=HelpCommand, epilog=example, rich_help_panel=heading)(command)
app.command("exchange", hidden=True, deprecated=True)(studies.ranking_command)
app.add_typer(data.data_app, name="data", rich_help_panel=[*COMMANDS][-1])


def main() -> None:
    """Entry point: every expected failure is one line on stderr and an exit code."""
    _prepare_streams()
    if not sys.argv[1:]:
        sys.argv.append("--help")
    if set(_ASKS_VERSION) & set(sys.argv[1:]):  # people ask for it behind a command too
        sys.argv[1:] = [_ASKS_VERSION[0]]
    typed = sys.argv[1:]
    with stoppable() as stops, told(warn):
        try:
            _prepare_ranks(sys.argv[1])
            code = _do_all(expanded(sys.argv[1:], file_options))
        except UsageError as error:
            code = _fail(named(str(error), sys.argv[1:], typed), 2)
        except _COMMAND_LINE_ERROR as error:
            code = _misread(error, typed)
        except (KeyboardInterrupt, typer.Abort):
            code = _stopped(stops.asked)
        except MemoryError:
            code = _fail(
                "not enough memory; choose smaller data or a smaller batch, or close other"
                " programs",
                2,
            )
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
            then = "free space or choose another --out" if full else "look at what is there"
            code = _fail(f"{error.strerror or error}: {error.filename or 'output'}; {then}", 2)
        except Exception as error:
            if isinstance(error, ImportError) and stops.asked:
                code = _stopped(stops.asked)  # what a stop becomes in a library being loaded
            elif launched.rank():  # nobody would see its traceback
                code = _fail(one_line(error), 1)
            else:
                raise
    leave(code or 0)


def _do_all(lines: list[list[str]]) -> int:
    """Carry out command lines, one after the other; the worst exit code. Their plans get a sum."""
    done = [_command_of(words) for words in lines]
    if plans := [plan for _, found in done for plan in found] if len(done) > 1 else []:
        from harness.report.plan import together

        say(together(plans))
    return max(code for code, _ in done)


def _command_of(words: list[str]) -> tuple[int, list[tuple[Path, Plan]]]:
    """Carry out one command line; its exit code, and the plans that it made."""
    sys.argv[1:] = words
    if words[0] in _COMPLETION and words[1:]:
        _complete_for(words[0], " ".join(words[1:]))
        return 0, []
    completes = _COMPLETES in os.environ or words[0] in _COMPLETION
    try:
        result = app(standalone_mode=False, prog_name=_PROGRAM if completes else None)
    except typer.Exit as ended:  # of a callback
        result = ended.exit_code
    if isinstance(result, list):
        return 0, result
    if result == _INTERRUPTED:
        raise KeyboardInterrupt
    return int(result or 0), []


def _complete_for(option: str, shell: str) -> None:
    """``--show-completion zsh``: typer's options take no shell, and mean the one they run in."""
    from typer.completion import get_completion_script, install

    if shell not in _SHELLS:
        raise UsageError(
            f"{option} {shell}: expected one of {', '.join(_SHELLS)}; none is the shell that this"
            " runs in"
        )
    if option == "--show-completion":
        say_lines(get_completion_script(prog_name=_PROGRAM, complete_var=_COMPLETES, shell=shell))
    else:
        _, path = install(shell=shell, prog_name=_PROGRAM, complete_var=_COMPLETES)
        say(f"{shell} completion installed in {path}; start the shell again")


def file_options() -> dict[str, dict[str, Kind]]:
    """The long options of every command that takes ``--config``."""
    found: dict[str, dict[str, Kind]] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        options: dict[str, Kind] = {
            parameter.opts[0].removeprefix("--"): (
                "switch" if parameter.is_flag else "repeatable" if parameter.multiple else "value"
            )
            for parameter in command.params
            if parameter.opts[0].startswith("--")
        }
        if options.pop("config", None):
            options.pop("part")
            found[name] = options
    return found


def _prepare_streams() -> None:
    """No table is lost to an encoding without the sign of a deviation."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _prepare_ranks(command: str) -> None:
    """Of several ranks the first speaks for all; a `UsageError` where they would do side by side
    what one process does, or are no ranks of one command.
    """
    launched.check_environment()
    if launched.world_size() > 1:  # that a method has no unused parameters is no warning to anybody
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if launched.rank():
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end

    if launched.world_size() > 1 and command not in _ON_RANKS:
        raise UsageError(
            f"torchrun: expected one of {', '.join(_ON_RANKS)}, found {command}; start it with"
            " python -m harness"
        )


def leave(code: int) -> NoReturn:
    """End the process; without waiting for threads of a method that go on,
    which may be for ever.
    """
    if stuck := [thread.name for thread in strays() if not thread.daemon]:
        warn(f"warning: not waited for what a method left running: {first_few(stuck)}")
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _misread(error: Any, typed: list[str]) -> int:
    """Say what is wrong with a command line, and which help shows what it may hold."""
    if type(error).__name__ == "NoArgsIsHelpError":  # `data` alone: the message is the help
        say_lines(error.format_message())
        return 2
    names, context = list[str](), error.ctx
    while context and context.parent:
        names.insert(0, context.info_name)
        context = context.parent
    message = " ".join(error.format_message().split()).removesuffix(".")
    message = named(message, sys.argv[1:], typed)
    return _fail(f"{message}; see `{' '.join(['python -m harness', *names, '-h'])}`", 2)


def _stopped(asked: Stopped | None) -> int:
    if isinstance(asked, RankLost):
        return _lost(asked)
    by = f" by {asked.signal.name}" if asked and asked.exit_code != _INTERRUPTED else ""
    then = (
        "; the same command continues with what is missing" if sys.argv[1:2] in _CONTINUED else ""
    )
    return _end(f"stopped{by}{then}", asked.exit_code if asked else _INTERRUPTED)


def _lost(stop: RankLost) -> int:
    """The line of the one rank that says why all end."""
    if not stop.told:
        sys.stderr = sys.__stderr__
        then = (
            "; the same command continues with what is missing"
            if sys.argv[1:2] in _CONTINUED
            else ""
        )
        return _end(f"{stop.reason}{then}", stop.exit_code)
    return stop.exit_code


def _fail(message: str, code: int) -> int:
    """Say why, on another rank than the first only where that has not failed too."""
    if rank := launched.rank():
        try:
            time.sleep(_ALONE)
        except KeyboardInterrupt:  # torchrun ends the others of a rank that has failed
            return code
        sys.stderr = sys.__stderr__
        message = f"rank {rank} of {launched.world_size()}: {message}"
    return _end(message, code)


def _end(message: str, code: int) -> int:
    warn(f"error: {message}")
    return code
