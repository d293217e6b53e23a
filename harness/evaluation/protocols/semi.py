"""Fine-tuning with few labels: a share of the training clips of every class,
the same for all methods and processes.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
from pydantic import Field

from harness.evaluation.probes import Labels
from harness.evaluation.protocol import AboutProtocol, Subject
from harness.evaluation.protocols.finetune import Finetune, FinetuneOptions

VERSION = 1

_PROCESSES = 2
"""That MAMP's script_semi.sh starts, each with a seed of its own."""


class SemiOptions(FinetuneOptions):
    """Options; ``ratio`` of the training clips are labelled, ``draw`` numbers the subsets.

    ``published=mamp-2gpu`` draws as MAMP's released code does: two subsets, one a process, classes
    unbalanced.
    """

    ratio: float = Field(default=0.1, gt=0, le=1)
    draw: int = Field(default=0, ge=0, lt=2**31)
    published: Literal["", "mamp-2gpu"] = ""


class Semi(Finetune[SemiOptions]):
    """`Finetune` on a subset of the training side."""

    about = AboutProtocol(
        title="Fine-tuning with few labels",
        source=(
            "trained as `finetune`; class-balanced subsets as in AimCLR (Levigty/AimCLR 6cd7376,"
            " ntu_feeder.py); published=mamp-2gpu: MAMP, feeder/feeder_ntu_semi.py and"
            " script_semi.sh (maoyunyao/MAMP 09e6252)"
        ),
        deviations=(
            *Finetune.about.deviations,
            "one subset per draw, written down as a hash; AimCLR's is unseeded",
        ),
        choices=(
            *Finetune.about.choices,
            (
                "max(1, round(ratio * clips)) of every class, from a permutation that follows from"
                " the data's fingerprint, the ratio and the draw"
            ),
            (
                "published=mamp-2gpu: each of two processes draws int(ratio * clips) of all, so"
                " that up to twice the ratio is labelled; both are trained on every epoch, clips in"
                " both twice"
            ),
            "published=mamp-2gpu: neighbouring draws share one of their two subsets",
        ),
    )
    Options = SemiOptions

    def labelled(self, subject: Subject) -> tuple[Labels, tuple[str, ...]]:
        """The subset, and how large it is."""
        options, side = self.options, subject.training_side
        if options.published:
            clips = drawn_by_processes(side, options.ratio, options.draw)
            distinct = len(np.unique(clips))
            return clips, (
                (
                    f"union of {_PROCESSES} unbalanced draws of {len(clips) // _PROCESSES}:"
                    f" {distinct} distinct clips, {distinct / len(side):.2%} of the training side"
                ),
            )
        clips = balanced_subset(
            subject.labels, side, options.ratio, subject.fingerprint, options.draw
        )
        return clips, (f"{len(clips) / len(side):.2%} of the training side, balanced by class",)


def balanced_subset(
    labels: Labels, side: Labels, ratio: float, fingerprint: str, draw: int
) -> Labels:
    """``max(1, round(ratio * n_c))`` clips of every class c with n_c clips on the training side,
    ascending.

    Drawn once for a data set: by whom and where makes no difference.
    """
    seed = hashlib.sha256(f"{fingerprint} {ratio!r} {draw}".encode()).digest()[:4]
    random = np.random.RandomState(int.from_bytes(seed, "big"))  # its stream is frozen for good
    chosen = []
    for label in np.unique(labels[side]):
        clips = side[labels[side] == label]
        chosen.append(random.permutation(clips)[: max(1, round(ratio * len(clips)))])
    return np.sort(np.concatenate(chosen))


def drawn_by_processes(side: Labels, ratio: float, draw: int) -> Labels:
    """What MAMP's two processes train on in an epoch: a subset each, shuffled under seeds ``draw``
    and ``draw + 1``.

    Clips of both subsets stand there twice.
    """
    subsets = []
    for process in range(_PROCESSES):
        order = np.arange(len(side))
        np.random.RandomState(draw + process).shuffle(order)
        subsets.append(side[order[: max(1, int(len(side) * ratio))]])
    return np.concatenate(subsets)
