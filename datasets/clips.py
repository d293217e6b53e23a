"""`ClipSet`: labelled skeleton clips as one packed frame array plus an index; never padded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.layouts import SkeletonLayout


@dataclass(frozen=True)
class ClipSet:
    """N clips of up to M bodies with V joints.

    Attributes:
        name: data set name, e.g. ``"synthetic"``.
        joints: [F, M, V, 3] packed frames of all clips, metres, y up; float32 or float16, may be memory-mapped.
            A body that is absent in a frame is all zeros there.
        offsets: [N + 1] int64; clip i is ``joints[offsets[i]:offsets[i + 1]]``.
        columns: per-clip columns of length N; always ``label`` (int64, index into `class_names`) and ``subject``
            (int64, -1 unknown), others (``view``, ``correct``, ...) where the source has them.
        class_names: class names, index = label.
        layout: the skeleton.
        fps: frames per second.
        default_split: the split used when none is asked for.
    """

    name: str
    joints: NDArray[np.floating]
    offsets: NDArray[np.int64]
    columns: Mapping[str, NDArray]
    class_names: tuple[str, ...]
    layout: SkeletonLayout
    fps: float
    default_split: str = "xsub"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def clip(self, index: int) -> NDArray[np.float32]:
        """Frames of one clip, [T, M, V, 3] float32."""
        return np.asarray(self.joints[self.offsets[index] : self.offsets[index + 1]], dtype=np.float32)
