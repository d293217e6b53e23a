"""What the doctor says of a clip set: an `Examination`, which can be written as JSON whole."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import BaseModel, ConfigDict

JUMP_SPEED = 20.0
"""Metres per second that no joint of a person reaches; a boxer's hand stays below 15."""
SHORT = 8
"""Frames below which a clip counts as short: two temporal patches of the usual encoder."""
CLEAR = 0.6
"""Share of frames that must agree before an axis is called known."""
CERTAIN = 0.85
"""Share of frames that must agree before a side is called known;
92 % and more do in the recorded sets.
"""
ENOUGH = 0.05
"""Share of frames, or of clips, that must tell something before it is believed."""

Severity = Literal["error", "warning", "note"]
Sides = Literal["right-handed, not mirrored", "mirrored", "cannot tell"]


class _ExaminationPart(BaseModel):
    """Base of all parts of an examination."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Finding(_ExaminationPart):
    """Something to know or to do: ``error`` makes results wrong, ``warning`` may,
    ``note`` is good to know.
    """

    severity: Severity
    text: str


class Lengths(_ExaminationPart):
    """Frames of the clips; ``short`` have fewer than `SHORT`, ``single`` one,
    of which they are part.
    """

    frames: int
    shortest: int
    median: float
    longest: int
    single: int
    short: int


class NamedValue(_ExaminationPart):
    """A clip as messages call it, or a bone, and the number that it is named for."""

    name: str
    value: float


class Gaps(_ExaminationPart):
    """What is not there.

    Attributes:
        not_finite: coordinates that are NaN or infinite, in ``not_finite_clips``;
            ``not_finite_example`` is the first, with its clip, frame, body and joint.
        empty_frames: frames without a body, in ``empty_frame_clips``; ``empty_clips`` have nothing
            else.
        missing_frames: frames in which a present body lacks a joint (it is at the origin), in
            ``missing_clips``.
        missing_joints: the joints that are missing most often, and how often.
        copied_bodies: clips whose second body equals the first.
    """

    not_finite: int
    not_finite_clips: int
    not_finite_example: str
    empty_frames: int
    empty_frame_clips: int
    empty_clips: int
    missing_frames: int
    missing_clips: int
    missing_joints: tuple[NamedValue, ...]
    copied_bodies: int


class Motion(_ExaminationPart):
    """From one frame to the next; distances in the data's own unit.

    Attributes:
        frozen: frames that equal the one before, and ``frozen_share`` of those that have one
            before.
        longest_frozen: longest run of them, in the first of ``frozen_clips``, the worst (frames in
            a row).
        step_999: the 99.9th percentile of the joints' steps; ``largest_step`` of all.
        jumps: joint steps faster than `JUMP_SPEED`, in ``jump_clips``; ``worst_jumps`` the clips
            with the longest.
        shift_clips: clips in which a whole body moves so fast.
    """

    frozen: int
    frozen_share: float
    longest_frozen: int
    frozen_clips: tuple[NamedValue, ...]
    step_median: float
    step_999: float
    largest_step: float
    jumps: int
    jump_share: float
    jump_clips: int
    shift_clips: int
    worst_jumps: tuple[NamedValue, ...]


class Bones(_ExaminationPart):
    """How steady the bones are: the coefficient of variation of their length within a clip and
    body.

    Attributes:
        variation: median over bones of the median over clips; None when every clip is too short to
            tell.
        worst: bones by their median over clips; ``worst_clips`` by their median over bones.
        longest: bones by their median length.
    """

    variation: float | None
    worst: tuple[NamedValue, ...]
    worst_clips: tuple[NamedValue, ...]
    longest: tuple[NamedValue, ...]


class BodyFacts(_ExaminationPart):
    """What the poses tell.

    Attributes:
        stature: from head to foot along the bones, in the data's own unit; None when names do not
            tell.
        height: largest extent from feet to head along the up axis, median over clips.
        unit: of length, empty when none fits.
        up: the direction from feet to head in ``up_share`` of the frames; empty when none is clear.
        upright: people do what nobody does who lies in that direction: walk, crouch, or face all
            ways.
        sides: left and right; ``sides_share`` of the frames agree with "not mirrored", of those in
            which toes (or knees, where there are no toes) stand out enough to tell; ``sides_told``
            is the share of these.
        order: the bones' length over that of the shortest tree through the joints; near 1 in a
            fitting layout.
        uneven: bones that are longer on one side than on the other, with the factor;
            ``uneven_share`` of all that have a name on both sides, None where too few have.
        loose: share of the bones that change their length by over a twentieth within a clip, None
            when not known.
        odd_sizes: clips whose stature is over twice the others', or under half, with it;
            ``odd_size_clips`` of them.
    """

    stature: float | None
    odd_sizes: tuple[NamedValue, ...]
    odd_size_clips: int
    height: float | None
    unit: str
    up: str
    up_share: float
    upright: bool
    sides: Sides
    sides_share: float | None
    sides_told: float
    sides_by: Literal["toes", "knees", ""]
    order: float | None
    uneven: tuple[NamedValue, ...]
    uneven_share: float | None
    loose: float | None


class Repeats(_ExaminationPart):
    """Clips whose joints are equal in every frame.

    Attributes:
        groups: of two clips or more; ``clips`` in all of them.
        relabelled: groups whose clips do not all have one label; ``relabelled_examples`` of them.
        crossing: column -> two of its values -> groups that stand in both, for columns of few
            values.
        examples: of groups.
    """

    groups: int
    clips: int
    relabelled: int
    relabelled_examples: tuple[str, ...]
    crossing: dict[str, dict[str, int]]
    examples: tuple[str, ...]


class SplitReport(_ExaminationPart):
    """A split of the clips, or why it cannot be made (``problem``).

    Attributes:
        leaked_test: test clips that have a twin on the training side; ``leaked_train`` those twins.
        leaked_classes: leaked test clips by class; ``leaked_views`` by ``view`` of both, "training
            -> test".
        examples: leaked pairs, "training clip = test clip".
        repeated_train: training-side clips with a twin on the same side; ``repeated_test``
            likewise.
    """

    name: str
    problem: str = ""
    train: int = 0
    validation: int = 0
    test: int = 0
    notes: tuple[str, ...] = ()
    leaked_test: int = 0
    leaked_train: int = 0
    leaked_classes: dict[str, int] = {}
    leaked_views: dict[str, int] = {}
    examples: tuple[str, ...] = ()
    repeated_train: int = 0
    repeated_test: int = 0


class Identity(_ExaminationPart):
    """The fingerprint: what the store says, and what was computed from the frames; empty when not
    looked at.

    Attributes:
        differing: ``hashes``, ``present`` or ``origins`` where the store remembers other ones than
            its frames have.
    """

    stored: str
    computed: str
    differing: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The computed one, otherwise the stored one."""
        return self.computed or self.stored


class Examination(_ExaminationPart):
    """Everything that was found, and what to do about it; all of it can be written as JSON.

    Attributes:
        bodies: present bodies -> clips.
        classes: class name -> clips; likewise `subjects`, and `columns` for the other columns of
            few values.
        findings: errors first.
    """

    name: str
    clips: int
    fps: float
    layout: str
    joints: int
    identity: Identity
    lengths: Lengths
    bodies: dict[int, int]
    classes: dict[str, int]
    subjects: dict[int, int]
    columns: dict[str, dict[str, int]]
    gaps: Gaps
    motion: Motion
    bones: Bones
    body: BodyFacts
    repeats: Repeats
    splits: tuple[SplitReport, ...]
    findings: tuple[Finding, ...] = ()

    def severities(self) -> Counter[str]:
        """How many findings of each severity there are."""
        return Counter(finding.severity for finding in self.findings)
