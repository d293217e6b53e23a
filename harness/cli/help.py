"""Help pages: options and commands under headings, every line whole, one example at the end."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

_WIDTH = 100
"""Columns at most, on a terminal that has so many."""
_FEW = 12
"""So many options of a command stand under one heading."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH}

# typer brings its own copy of click in some versions, so contexts and formatters have no one type.


class HelpCommand(TyperCommand):
    """A command whose many options stand under the headings that they name
    (``rich_help_panel``), in the order of its arguments.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then options."""
        shown = [parameter for parameter in self.get_params(ctx) if parameter.get_help_record(ctx)]
        grouped = sum(parameter.param_type_name == "option" for parameter in shown) > _FEW
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for parameter in shown:
            heading = "Arguments" if parameter.param_type_name == "argument" else "Options"
            panel = getattr(parameter, "rich_help_panel", None)
            name, text = parameter.get_help_record(ctx) or ("", "")
            # what some versions of typer escape for a renderer that is not used here
            row = (name, text.replace(r"\[", "["))
            sections.setdefault(panel if grouped and panel else heading, []).append(row)
        sections["Options"] = sections.pop("Options")  # the rest, `--help` among them, comes last
        _write_sections(formatter, sections)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The example, on one line."""
        if self.epilog:
            with formatter.section("Example"):
                formatter.write(f"{'':{formatter.current_indent}}{example_of(self)}\n")


class HelpGroup(TyperGroup):
    """Commands under the headings that they name (``rich_help_panel``)."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each with one line."""
        shown = {name: command for name, command in self.commands.items() if not command.hidden}
        width = max(map(len, shown))
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in shown.items():
            panel = getattr(command, "rich_help_panel", None)
            line = command.get_short_help_str(formatter.width - width - 6)
            heading = panel if isinstance(panel, str) else "Commands"
            sections.setdefault(heading, []).append((name, line))
        _write_sections(formatter, sections)


def _write_sections(formatter: Any, sections: dict[str, list[tuple[str, str]]]) -> None:
    """Rows of two columns, each list under its heading, the second column at one place."""
    width = max((len(name) for rows in sections.values() for name, _ in rows), default=0)
    for heading, rows in sections.items():
        if rows:
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])


def example_of(command: Any) -> str:
    """The command line that a command's help ends with."""
    return f"python -m harness {command.epilog}"
