"""``--config FILE``: a study as a file, whose entries are the flags of a command written down.

A file holds what is typed after ``--`` (``methods: gfp,amr``, ``seeds: 0-5``), sections of settings
as `show-config` prints them (``train: {lr: 3e-4}``), and where a study has several parts,
``parts:`` with the same by name; what stands outside them goes for all. ``study:`` is its plan in
words and numbers (question, thresholds, wanted half-width, core-hours): read by people, part of the
file's hash, which every record then names. What is typed counts before what is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from harness.errors import UsageError, nearest, shortened
from harness.spec.model import SECTIONS
from harness.spec.yaml_text import read_yaml

_CONFIG, _PART, _STUDY = "--config", "--part", "--study"
_OURS = ("study", "parts")
"""Keys of a file that are no flags."""
Kind = Literal["switch", "value", "repeatable"]
"""Of an option: without a value, with one, with one each time that it is typed."""
Options = Mapping[str, Mapping[str, Kind]]
"""Of each command its options by name."""


def expanded(
    words: Sequence[str], options_of: Callable[[], Options], main: str = "run"
) -> list[list[str]]:
    """The command lines that a typed one stands for: itself, or with ``--config`` one for each part
    of the file.

    Args:
        words: what was typed after ``python -m harness``.
        options_of: gives, for each command that takes a file, its long options without dashes.
        main: the command whose options a file may hold; another takes those of them that it has.

    A `UsageError` for a file that cannot be read, an unknown key or part, and a value that no flag
    can hold.
    """
    command, *typed = words or [""]
    typed, file = _taken(typed, _CONFIG)
    typed, part = _taken(typed, _PART)
    if file is None and part is None:
        return [list(words)]
    options = options_of()
    if file is None or command not in options:
        beside = "" if file else f", beside {_CONFIG} FILE"
        raise UsageError(
            f"{_CONFIG if file else _PART}: expected with {', '.join(options)}{beside}"
        )
    path = Path(file)
    plan, study = _read(path)
    parts = plan.pop("parts", None) or {}
    known = {**options[main], **options[command]}
    if part is not None and part not in parts:
        raise UsageError(
            f"{path}: no part {part!r}{nearest(part, parts)} (parts: {', '.join(parts) or 'none'})"
        )
    chosen = [parts[part]] if part is not None else list(parts.values()) or [{}]
    common = list(_words(plan, known, options[command], path))
    named = [_STUDY, study] if _STUDY.lstrip("-") in options[command] else []
    return [
        [command, *common, *_words(one, known, options[command], path), *named, *typed]
        for one in chosen
    ]


def parts_of(path: Path) -> list[str]:
    """Names of the parts of a file."""
    return list(_read(path)[0].get("parts") or {})


def _taken(words: Sequence[str], option: str) -> tuple[list[str], str | None]:
    """The words without an option, and its value; None where it is not there."""
    left, value, rest = list[str](), None, iter(words)
    for word in rest:
        name, equals, given = word.partition("=")
        if name != option:
            left.append(word)
            continue
        value = given if equals else next(rest, "")
        if not value:
            raise UsageError(f"{option}: expected a value, found none")
    return left, value


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """A file's entries without its plan in words,
    and its name with the first 16 digits of its SHA-256.
    """
    try:
        raw = path.read_bytes()
        found = read_yaml(raw.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{_CONFIG} {path}: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: expected YAML; {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise UsageError(
            f"{path}: expected flags by name, as show-config prints, found {shortened(repr(found))}"
        )
    parts = found.get("parts") or {}
    if not isinstance(parts, dict) or not all(isinstance(one, dict) for one in parts.values()):
        raise UsageError(f"{path}: parts: expected the flags of each part by its name")
    found.pop("study", None)
    return found, f"{path.name} {hashlib.sha256(raw).hexdigest()[:16]}"


def _words(
    entries: Mapping[Any, Any], known: Mapping[str, Kind], own: Mapping[str, Kind], path: Path
) -> Iterator[str]:
    """Entries of a file as words of a command line;
    what another command alone knows is left out.
    """
    for key, value in entries.items():
        if isinstance(value, dict) and key in SECTIONS:
            for name, one in value.items():
                if one is not None:
                    yield from ("--set", f"{key}.{name}={_flow(one)}")
        elif key not in known or key == _STUDY.lstrip("-"):
            raise UsageError(f"{path}: unknown key {key!r}{nearest(str(key), [*known, *SECTIONS])}")
        elif isinstance(value, dict):
            raise UsageError(f"{path}: {key}: expected a value, found a mapping")
        elif key not in own or value is None or value is False:
            continue
        elif known[key] == "switch":
            if value is not True:
                raise UsageError(
                    f"{path}: {key}: expected true or false, found {shortened(repr(value))}"
                )
            yield f"--{key}"
        else:
            values = value if isinstance(value, list) else [value]
            texts = [one if isinstance(one, str) else _flow(one) for one in values]
            for text in texts if known[key] == "repeatable" else [",".join(texts)]:
                yield from (f"--{key}", text)


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**9).removesuffix("...\n").strip()
