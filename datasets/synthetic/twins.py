"""Synthetic clips with near-doubles among the classes:
for questions about order and phase in time.
"""

from __future__ import annotations

from dataclasses import replace

from datasets.clips import ClipSet
from datasets.synthetic import generation as synthetic
from datasets.synthetic.motion import EVERY


def load() -> ClipSet:
    """`synthetic` and six near-doubles of its actions (backwards, out of phase, sideways):
    22 classes.
    """
    return replace(synthetic.load(actions=tuple(EVERY)), name="synthetic-twins")
