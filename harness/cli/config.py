"""``--config FILE``: a study as a file, whose entries are the flags of a command written down.

A file holds what is typed after ``--`` (``methods: gfp,amr``, ``seeds: 0-5``; a key's dash may be
an underscore), sections of settings as `show-config` prints them (``train: {lr: 3e-4}``), and where
a study has several parts, ``parts:`` with the same by name; what stands outside them goes for all
parts that do not say otherwise. ``study:`` is its plan in words and numbers (question, thresholds,
wanted half-width, core-hours): read by people, part of the file's hash, which every record then
names. What is typed counts before what is written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml

from harness.errors import UsageError, nearest, shortened
from harness.runs.request import PLACES, parse_override
from harness.spec.model import SECTIONS
from harness.spec.yaml_text import read_yaml

_CONFIG, _PART, _STUDY = "--config", "--part", "--study"
_ONE_AT_A_TIME = "show-config"
"""A command that prints a file; several are none."""
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
    plan, study = read_config(path)
    plan.pop("study", None)
    parts = plan.pop("parts", None) or {}
    known = {**options[main], **options[command]}
    if part is not None and part not in parts:
        raise UsageError(
            f"{path}: no part {part!r}{nearest(part, parts)} (parts: {', '.join(parts) or 'none'})"
        )
    if parts and part is None and command == _ONE_AT_A_TIME:
        raise UsageError(f"{path}: expected --part and one of {', '.join(parts)}, found none")
    chosen = [parts[part]] if part is not None else list(parts.values()) or [{}]
    common, given = _entries(plan, known, path), _settings_typed(typed)
    origin = [_STUDY, study] if _STUDY.lstrip("-") in options[command] else []
    lines = []
    for one in chosen:
        entries = {**common, **_entries(one, known, path)}
        entries = {place: entry for place, entry in entries.items() if place not in given}
        lines.append([command, *_words(entries, options[command]), *origin, *typed])
    return lines


def named(message: str, words: Sequence[str], typed: Sequence[str]) -> str:
    """What was wrong with a command line, with file and key where a file gave the value.

    Args:
        words: the command line that `expanded` made of what was ``typed``.
    """
    if words == typed:
        return message
    own, file = _taken(typed, _CONFIG)
    own, _ = _taken(own, _PART)
    quoted = [text for text in re.findall("'([^']+)'", message) if not text.startswith("-")]
    for flag, value in pairwise(words[1 : len(words) - len(own[1:])]):
        key = value.partition("=")[0] if flag == "--set" else flag.removeprefix("--")
        setting = ": ".join(PLACES.get(key.replace("-", "_"), key.split(".")))
        if message.startswith((f"{flag} ", f"{flag}:")):
            return f"{file}: {message.removeprefix('--')}"
        if message.startswith(f"{setting}:"):
            return f"{file}: {message}"
        if f"'{flag}'" in message or any(text in value for text in quoted):
            return f"{file}: {key}: {message}"
    return message


def parts_of(path: Path) -> list[str]:
    """Names of the parts of a file."""
    return list(read_config(path)[0].get("parts") or {})


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


def read_config(path: Path) -> tuple[dict[str, Any], str]:
    """A file's entries, its plan in words among them, and how records name it: its name with the
    first 16 digits of its SHA-256.
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
    return found, f"{path.name} {hashlib.sha256(raw).hexdigest()[:16]}"


def _entries(written: Mapping[Any, Any], known: Mapping[str, Kind], path: Path) -> dict[str, Any]:
    """What a file or a part of it says, by setting (``train.budget``, whichever way it is written)
    or flag.
    """
    found: dict[str, Any] = {}

    def add(place: str, value: Any, key: str) -> None:
        if place in found:
            raise UsageError(f"{path}: {key}: expected once, found a second value for {place}")
        found[place] = value

    for key, value in written.items():
        flag = str(key).replace("_", "-")
        if isinstance(value, dict) and key in SECTIONS:
            for name, one in value.items():
                add(f"{key}.{name}", one, f"{key}: {name}")
        elif flag not in known or flag == _STUDY.lstrip("-"):
            raise UsageError(f"{path}: unknown key {key!r}{nearest(flag, [*known, *SECTIONS])}")
        elif isinstance(value, dict):
            raise UsageError(f"{path}: {key}: expected a value, found a mapping")
        elif known[flag] == "switch" and not isinstance(value, bool | None):
            raise UsageError(
                f"{path}: {key}: expected true or false, found {shortened(repr(value))}"
            )
        elif flag == "set":
            for text in value if isinstance(value, list) else [value]:
                section, name, one = parse_override(str(text))
                add(f"{section}.{name}", one, str(key))
        else:
            add(".".join(PLACES.get(flag.replace("-", "_"), (flag,))), value, str(key))
    return found


def _settings_typed(words: Sequence[str]) -> set[str]:
    """Settings that ``--set`` gives; they count before a file's, also before one under a flag."""
    texts = [value for flag, value in pairwise(words) if flag == "--set"]
    texts += [word.removeprefix("--set=") for word in words if word.startswith("--set=")]
    return {text.partition("=")[0].strip() for text in texts}


def _words(entries: Mapping[str, Any], own: Mapping[str, Kind]) -> Iterator[str]:
    """Entries of a file as words of a command line;
    what another command alone knows is left out.
    """
    flags = {".".join(place): flag.replace("_", "-") for flag, place in PLACES.items()}
    for place, value in entries.items():
        flag = flags.get(place, place)
        if value is None or (value is False and "." not in place):
            continue
        if flag not in own:
            if "." in place and "set" in own:
                yield from ("--set", f"{place}={_flow(value)}")
        elif own[flag] == "switch":
            yield f"--{flag}"
        else:
            values = value if isinstance(value, list) else [value]
            texts = [one if isinstance(one, str) else _flow(one) for one in values]
            for text in texts if own[flag] == "repeatable" else [",".join(texts)]:
                yield from (f"--{flag}", text)


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**9).removesuffix("...\n").strip()
