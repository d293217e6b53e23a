"""The command `ls`, and what it shows, as plain rows. A listing loads what it needs,
and torch only where it must.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.completion import listings
from harness.cli.flags import AsJson, Out, Plugins
from harness.errors import UsageError, nearest
from harness.progress import make_console, print_table, print_texts, say, say_lines, warn
from harness.spec.model import SECTIONS

Rows = list[dict[str, Any]]


def _list_datasets(plugins: list[Path] | None, out: Path) -> Rows:
    """Data sets by name, and how they differ from others' preparation;
    a store or exchange file is given by path.
    """
    from datasets.catalog import about
    from datasets.raw import DEVIATIONS

    return [
        {"dataset": name, "about": text, "deviations": DEVIATIONS.get(name, ())}
        for name, text in about().items()
    ]


def _list_runs(plugins: list[Path] | None, out: Path) -> Rows:
    """Records of an output folder; those that are passed over are named on stderr."""
    from harness.records.store import RecordStore

    store = RecordStore.existing(out)
    rows = [
        {
            "run": record.address,
            "method": record.label,
            "seed": record.spec.seed,
            "data": record.data.name,
            "status": record.status,
            "linear": record.accuracy and record.accuracy.linear_test,
            "knn": record.accuracy and record.accuracy.knn_test,
            "finished": record.finished.isoformat(),
        }
        for record in store.runs()
    ]
    warn(*store.passed_over())
    return rows


def _list_claims(plugins: list[Path] | None, out: Path) -> Rows:
    """Published speed claims, for `harness claim`."""
    from harness.studies.claims import read_claims

    return [
        {"claim": name, **claim.model_dump(include={"statement", "hardware", "source"})}
        for name, claim in read_claims().items()
    ]


def list_methods(plugins: list[Path] | None, out: Path) -> Rows:
    """Methods (`harness.cli.listing_methods`)."""
    from harness.cli import listing_methods

    return listing_methods.list_methods(plugins, out)


def _list_protocols(plugins: list[Path] | None, out: Path) -> Rows:
    """Protocols of evaluation (`harness.cli.listing_protocols`)."""
    from harness.cli import listing_protocols

    return listing_protocols.list_protocols(plugins, out)


def _list_encoders(plugins: list[Path] | None, out: Path) -> Rows:
    """Encoder sizes (`harness.cli.listing_methods`)."""
    from harness.cli import listing_methods

    return listing_methods.list_encoders(plugins, out)


def _list_settings(plugins: list[Path] | None, out: Path) -> Rows:
    """What `--set` takes: each setting with the value that `run` uses without it
    (`--preset quick`), and what it may be, from the types of the spec.
    """
    from harness.spec.presets import PRESETS

    rows = []
    for section, model in SECTIONS.items():
        preset = PRESETS["quick"].get(section, {})
        for name, schema in model.model_json_schema()["properties"].items():
            rows.append(
                {
                    "setting": f"{section}.{name}",
                    "default": preset.get(name, schema.get("default")),
                    "allowed": _allowed(schema),
                }
            )
    return rows


def _allowed(schema: dict[str, Any]) -> str:
    """What a value may be, in words, from its JSON schema: ``number > 0, <= 100``."""
    if "anyOf" in schema:
        return " or ".join(map(_allowed, schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        each = schema.get("prefixItems") or [schema["items"]]
        count = (
            str(len(each))
            if "prefixItems" in schema
            else f"{schema.get('minItems', 0)} to {schema['maxItems']}"
        )
        return f"{count} of {_allowed(each[0])}"
    if "description" in schema:
        return str(schema["description"])
    limits = [f"{sign} {schema[key]:g}" for key, sign in _LIMITS.items() if key in schema]
    return " ".join([str(schema.get("type", "")), ", ".join(limits)]).strip()


_LIMITS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
"""What JSON schema calls the limits of a number."""
LISTINGS: dict[str, Callable[[list[Path] | None, Path], Rows]] = {
    "methods": list_methods,
    "protocols": _list_protocols,
    "datasets": _list_datasets,
    "encoders": _list_encoders,
    "runs": _list_runs,
    "claims": _list_claims,
    "settings": _list_settings,
}

_BRIEF = {
    "methods": ["method", "division", "epochs", "options", "paper"],
    "protocols": ["protocol", "title", "options", "source"],
    "datasets": ["dataset", "about"],
    "claims": ["claim", "statement"],
}
"""Columns of the printed tables that show less than ``--json`` has."""


def ls_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            autocompletion=listings,
            help="methods, protocols, datasets, encoders, runs, claims or settings.",
        ),
    ],
    as_json: AsJson = False,
    plugin: Plugins = None,
    out: Out = Path("runs"),
) -> None:
    """List methods, data sets, protocols, runs and more."""
    if what not in LISTINGS:
        names = ", ".join(LISTINGS)
        raise UsageError(f"ls {what!r}{nearest(what, LISTINGS)} (expected one of {names})")
    rows = LISTINGS[what](plugin, out)
    if as_json:
        say_lines(json.dumps(rows, indent=1))
        return
    if not rows:
        say(f"no {what} in {out}" if what == "runs" else f"no {what}")
        return
    columns = _BRIEF.get(what) or list(rows[0])
    text = _as_set if what == "settings" else _plain
    cells = [[text(row[column]) for column in columns] for row in rows]
    if what in _BRIEF:
        print_texts(columns, cells)
    else:
        print_table(make_console(), columns, cells, [])


def _as_set(value: object) -> str:
    """A value as `--set` takes it: ``true``, ``[0.5,1]``, ``null``; - where it is an empty text."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_as_set, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value) or "-"


def _plain(value: object) -> str:
    """A value in a table's cell."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.3f}"
    return "-" if value is None else str(value)
