"""What a machine without a network lacks for `gpu.py`, and how it gets there: as wheels, which are
unpacked.

Nothing but Python itself is needed here.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_NEEDED = {"pooch": "no data set can be downloaded", "matplotlib": "no pictures"}
"""Packages that no part needs, and what cannot be done without them."""


def missing(names: Iterable[str]) -> list[str]:
    """Which of these packages are not installed,
    and which of those that the installed ones need.
    """
    waiting, seen, absent = list(names), set(NOT_NEEDED), []
    while waiting:
        if (name := waiting.pop(0)) in seen:
            continue
        seen.add(name)
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            absent.append(name)
        else:
            waiting += [
                package_of(text) for text in needed if ";" not in text
            ]  # the others: on other machines
    return absent


def package_of(text: str) -> str:
    """The package that a requirement, or a wheel's file name, begins with."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]|-\d", text, maxsplit=1)[0]).lower()


def unpack(wheels: Path, into: Path) -> None:
    """Make packages importable that lie there as wheels and are not installed."""
    sys.path.append(str(into))
    for wheel in sorted(wheels.glob("*.whl")):
        if (name := package_of(wheel.name)) in missing([name]):
            with zipfile.ZipFile(wheel) as file:
                file.extractall(into)


def say_missing(wheels: Path) -> list[str]:
    """Say what is missing and how to bring it along;
    the packages that nothing can be done without.
    """
    for name, without in NOT_NEEDED.items():
        if not find_spec(name):
            print(f"without {name}: {without}")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    for what, there in {"a C compiler": shutil.which("cc"), str(header): header.exists()}.items():
        if not there:
            print(f"without {what}: parts that compile may fail")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    absent = missing(package_of(text) for text in project["dependencies"])
    if absent:
        print(
            f"error: missing {', '.join(absent)}; in this folder, where there is a network:\n   "
            " python -m pip download --only-binary=:all: --python-version"
            f" {sysconfig.get_python_version()} --platform manylinux_2_17_x86_64 --platform"
            f" manylinux2014_x86_64 --dest {os.path.relpath(wheels, ROOT)} {' '.join(absent)}\nand"
            " take what it fetched along in that folder, which git ignores: this script unpacks it"
        )
    return absent
