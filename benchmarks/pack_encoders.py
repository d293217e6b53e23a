"""Puts the encoders of an output folder into one archive beside its records, from which `harness
evaluate` reads them.

python benchmarks/pack_encoders.py runs/study
"""

from __future__ import annotations

import sys
from pathlib import Path

import harness  # noqa: F401 - makes its neighbours importable  # isort: split
from harness.encoders.stored import pack

if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        if not folder.is_dir():
            sys.exit(f"pack_encoders: expected an output folder of `run`, found none at {folder}")
        archive = pack(folder)
        print(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB")
