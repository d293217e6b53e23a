"""From flags or keywords to a resolved experiment: the one place where settings come together."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.errors import UsageError, nearest, shortened, usage_errors
from harness.progress import CHECKING, Reporter
from harness.spec.model import SECTIONS, build, parse_methods
from harness.spec.presets import PRESETS
from harness.spec.yaml_text import read_yaml

if TYPE_CHECKING:
    from harness.runs.experiment import Experiment


PLACES = {
    "dataset": ("data", "name"),
    "split": ("data", "split"),
    "label": ("data", "label"),
    "encoder": ("encoder", "size"),
    "budget": ("train", "budget"),
    "batch_size": ("train", "batch_size"),
    "precision": ("train", "precision"),
}
"""Settings that have a flag of their own: section and key of each."""


def resolve_settings(preset: str, overrides: list[str] | None, **flags: Any) -> dict[str, Any]:
    """Preset, then ``--set``, then flags, validated section by section;
    `UsageError` for anything unknown.
    """
    if preset not in PRESETS:
        raise UsageError(
            f"unknown preset {preset!r}{nearest(preset, PRESETS)} (known: {', '.join(PRESETS)})"
        )
    chosen = PRESETS[preset]
    values: dict[str, dict[str, Any]] = {name: dict(chosen.get(name, {})) for name in SECTIONS}
    for text in overrides or []:
        section, key, value = parse_override(text)
        values[section][key] = value
    for flag in flags:
        if flag not in (*PLACES, "methods", "device"):
            raise UsageError(
                f"unknown setting {flag!r}{nearest(flag, PLACES)} (known: {', '.join(PLACES)})"
            )
    for flag, (section, key) in PLACES.items():
        if flags.get(flag) is not None:
            values[section][key] = flags[flag]
    settings: dict[str, Any] = {
        name: build(model, values[name], name) for name, model in SECTIONS.items()
    }
    settings["methods"] = flags.get("methods") or chosen["methods"]
    settings["device"] = flags.get("device") or chosen["device"]
    return settings


def check_early(settings: dict[str, Any], out: Path) -> None:
    """Refuse what can be refused before torch is loaded: an output folder that is a file, and data
    sets that are not here.
    """
    from datasets.catalog import check_known
    from harness.records.store import RecordStore

    RecordStore(out).refuse_file()
    with usage_errors():
        check_known(settings["data"].name)


def prepare_experiment(
    settings: dict[str, Any], plugins: list[Path] | None, reporter: Reporter, **others: Any
) -> Experiment:
    """A resolved experiment from settings and the flags that are no settings."""
    sections = {name: settings[name] for name in SECTIONS}
    methods = parse_methods(settings["methods"])
    check_early(settings, others["out"])
    with reporter.task("loading torch and the methods"):
        from harness.runs.experiment import Request, resolve_request
        from harness.runs.protocols import registry_with_protocols

        registry = registry_with_protocols(plugins, rows=[method.name for method in methods])
    request = Request(methods=methods, device=settings["device"], **sections, **others)
    with reporter.task(f"reading {request.data.name}"), reporter.long_task(CHECKING) as advance:
        return resolve_request(request, registry, advance=advance)


def _meant(name: str) -> str:
    """The setting that a name without its section is nearest to: ``train.lr`` of ``lr``,
    or of ``train.lr``.
    """
    known = {
        f"{section}.{key}": key for section, model in SECTIONS.items() for key in model.model_fields
    }
    close = [name] if name in known.values() else get_close_matches(name, known.values(), n=1)
    found = [full for full, key in known.items() if name == full or key in close]
    return found[0] if found else "train.lr"


def parse_override(text: str) -> tuple[str, str, Any]:
    """``train.lr=1e-3`` to section, key and YAML value."""
    path, equals, value = text.partition("=")
    section, dot, key = path.strip().partition(".")
    if not equals or not dot:
        example = f"{_meant(path.strip())}={value or '...'}"
        raise UsageError(
            f"--set {shortened(repr(text))}: expected section.key=value, e.g. {shortened(example)}"
        )
    if section not in SECTIONS:
        raise UsageError(
            f"--set {shortened(repr(text))}: unknown section"
            f" {section!r}{nearest(section, SECTIONS)} (known: {', '.join(SECTIONS)})"
        )
    try:
        parsed = read_yaml(value)
    except yaml.YAMLError:
        problem = f"{shortened(repr(value))} is not a YAML value"
        raise UsageError(f"--set {shortened(repr(text))}: {problem}") from None
    return section, key, parsed
