"""A raw format of one number a frame, to try preparations with; run as a module it prepares a
folder, to be killed.

A file holds ``label subject`` in its first line and one number per further line: the x of all
joints of that frame.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from datasets.errors import DataError
from datasets.layouts import KINECT20
from datasets.raw.base import BrokenFile, Found, RawClip, Reading, Source, Unit
from datasets.raw.prepare import prepare


class NumberSource(Source):
    version = 1
    title = "Numbers"
    expects = "a folder of .txt files"
    chunk = 3
    layout = KINECT20
    fps = 10.0
    bodies = 2
    class_names = ("up", "down")
    splits = {"halves": "subject:1->*", "twin-free": "subject:1->* without repeats"}  # noqa: RUF012
    expected = {"halves": (4, 3)}  # noqa: RUF012
    pause = 0.0

    def find(self) -> Found:
        paths = sorted(self.raw.glob("*.txt"))
        if not paths:
            raise DataError(f"{self.raw}: expected {self.expects}, found none")
        return Found([Unit(path.stem, path) for path in paths], {"found": len(paths)})

    def read(self, unit: Unit) -> Reading:
        time.sleep(self.pause)
        reading = Reading()
        head, *numbers = unit.path.read_text(encoding="utf-8").splitlines()
        if unit.name.startswith("bug"):
            raise ZeroDivisionError("nobody thought of this")
        label, subject = map(int, head.split())
        joints = np.zeros((len(numbers), 1, 20, 3), np.float32)
        for line, number in enumerate(numbers, 2):
            try:
                joints[line - 2, 0, :, 0] = float(number)
            except ValueError:
                raise BrokenFile(unit.path, f"expected a number, found {number!r}", line) from None
        reading.counts["frames"] += len(joints)
        reading.clips.append(
            RawClip(joints, {"label": label, "subject": subject, "names": unit.name})
        )
        return reading


class SlowSource(NumberSource):
    pause = 0.02


class FatalSource(NumberSource):
    """Files of some names crash the process that reads them, or have it killed."""

    def read(self, unit: Unit) -> Reading:
        if unit.name.startswith("crash"):
            os.kill(os.getpid(), signal.SIGBUS)
        if unit.name.startswith("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(unit)


def write_numbers(folder: Path, **files: str) -> Path:
    """Files of that content; by default seven clips of two classes,
    the fourth a twin of the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = files or {
        f"c{number}": f"{number % 2} {1 + number % 2}\n1\n{2 + number % 3}\n" for number in range(7)
    }
    for name, text in content.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


if __name__ == "__main__":
    prepare(SlowSource(Path(sys.argv[1])), "numbers", Path(sys.argv[2]), workers=2)
