"""How often the doctor calls right data wrong, and how often it finds a fault, on made-up people in
many layouts.

    python benchmarks/doctor_false_alarms.py --out benchmarks/results/doctor/table.md [more.npz ...]

Right data: the synthetic bodies, exact and as a Kinect sees them, in the layouts of recorded sets
and of motion files (root on the floor, at the world's origin, helper joints, faces, fingers, no
toes, ...), of children and tall people, in other poses (sitting, lying, locked knees), at other
frame rates. An error there is a false alarm. Faults are put into the same data, one at a time:
joints in another order, mirrored, another unit, another axis up. Files in the exchange format that
are named as well count as right data, and some of their clips get the same faults.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import harness  # noqa: F401 - makes its neighbours importable
from datasets.clips import ClipSet
from datasets.doctor.examination import examine
from datasets.formats.npz import read_npz
from datasets.layouts import KINECT20, NTU25, UIPRMD22, layout_from_parents
from datasets.synthetic.body import AVERAGE_STANCE, CHANNEL, forward_kinematics, make_body
from datasets.synthetic.generation import generate
from datasets.synthetic.performance import DIFFICULTY
from harness.machine import describe_environment, select_device

Floats = NDArray[np.floating]
EXACT = replace(DIFFICULTY, noise=0.0, dropouts=0.0)
ACTIONS = ("pick_up", "wave", "march", "kick", "clap", "throw")
MOST_CLIPS = 300
"""Clips of a file that get faults."""
BODY = ("unit", "up axis", "left and right", "joint order", "bones longer", "clips with people")
"""How the doctor's findings about bodies begin; others (classes of few clips, ...)
are no matter here.
"""


@dataclass
class Rig:
    """Joints by name, [F, 3] each, and the tree; built up joint by joint."""

    places: dict[str, Floats]
    parents: dict[str, str | None]

    def add(self, name: str, place: Floats, parent: str | None) -> None:
        """Another joint."""
        self.places[name], self.parents[name] = place, parent

    def hang(self, name: str, parent: str | None) -> None:
        """Give a joint another parent."""
        self.parents[name] = parent

    def clips(self, clips: ClipSet) -> ClipSet:
        """The clips with these joints, parents before children."""
        names, left = [], list(self.parents)
        while left:
            ready = [
                name for name in left if self.parents[name] is None or self.parents[name] in names
            ]
            names += ready
            left = [name for name in left if name not in ready]
        tree = [
            -1 if (parent := self.parents[name]) is None else names.index(parent) for name in names
        ]
        joints = np.stack([self.places[name] for name in names], axis=1)[:, None].astype(np.float32)
        return replace(clips, joints=joints, layout=layout_from_parents(names, tree))

    def without(self, word: str) -> Rig:
        """Without the joints whose names hold a word; none of them may have children."""
        kept = [name for name in self.places if word not in name]
        return Rig(
            {name: self.places[name] for name in kept}, {name: self.parents[name] for name in kept}
        )


def rig(clips: ClipSet) -> Rig:
    """The 25 joints under names that motion files use."""
    names = {
        "spine_base": "Hips",
        "spine_mid": "Spine",
        "spine_shoulder": "Chest",
        "neck": "Neck",
        "head": "Head",
        "shoulder": "Arm",
        "elbow": "ForeArm",
        "wrist": "Hand",
        "hand": "HandMiddle1",
        "hand_tip": "HandMiddle4",
        "thumb": "HandThumb1",
        "hip": "UpLeg",
        "knee": "Leg",
        "ankle": "Foot",
        "foot": "ToeBase",
    }

    def called(joint: str) -> str:
        side, _, rest = joint.partition("_")
        return side.capitalize() + names[rest] if side in ("left", "right") else names[joint]

    joints = [called(joint) for joint in NTU25.joints]
    places = {name: clips.joints[:, 0, place].astype(float) for place, name in enumerate(joints)}
    return Rig(
        places,
        {n: joints[p] if p >= 0 else None for n, p in zip(joints, NTU25.parents, strict=True)},
    )


def frame_of(one: Rig) -> tuple[Floats, Floats, Floats]:
    """Right-handed axes [F, 3] of a person: to the left, up along the trunk, to the front."""
    left = one.places["LeftUpLeg"] - one.places["RightUpLeg"]
    up = one.places["Chest"] - one.places["Hips"]
    left, up = (axis / np.linalg.norm(axis, axis=1, keepdims=True) for axis in (left, up))
    return left, up, np.cross(left, up)


# --- layouts of right data ---


def ntu(clips: ClipSet) -> ClipSet:
    """As it is."""
    return clips


def kinect(clips: ClipSet) -> ClipSet:
    """Kinect v1's 20 joints."""
    order = [0, 1, 20, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
    return replace(clips, joints=clips.joints[:, :1, order], layout=KINECT20)


def uiprmd(clips: ClipSet) -> ClipSet:
    """UI-PRMD's 22 joints: collars and the tip of the head between and beyond the others."""
    at = dict(zip(NTU25.joints, np.moveaxis(clips.joints[:, 0], 1, 0), strict=True))
    made = {
        "waist": at["spine_base"],
        "spine": at["spine_mid"],
        "chest": at["spine_shoulder"],
        "neck": at["neck"],
        "head": at["head"],
        "head_tip": 1.8 * at["head"] - 0.8 * at["neck"],
    }
    for side in ("left", "right"):
        made[f"{side}_collar"] = 0.7 * at["spine_shoulder"] + 0.3 * at[f"{side}_shoulder"]
        names = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot")
        theirs = ("upper_arm", "forearm", "hand", "upper_leg", "lower_leg", "foot", "toes")
        made |= {
            f"{side}_{new}": at[f"{side}_{old}"] for old, new in zip(names, theirs, strict=True)
        }
    return replace(
        clips,
        joints=np.stack([made[name] for name in UIPRMD22.joints], axis=1)[:, None],
        layout=UIPRMD22,
    )


def plain(clips: ClipSet) -> ClipSet:
    """The names of motion files, nothing else."""
    return rig(clips).clips(clips)


def without_toes(clips: ClipSet) -> ClipSet:
    """Legs that end in ankles."""
    return rig(clips).without("Toe").clips(clips)


def without_sides(clips: ClipSet) -> ClipSet:
    """Names that tell nothing."""
    names = [f"joint_{number}" for number in range(25)]
    return replace(clips, layout=layout_from_parents(names, NTU25.parents))


def floor_root(clips: ClipSet) -> ClipSet:
    """The root on the floor below the hips."""
    one = rig(clips)
    floor = one.places["Hips"].copy()
    floor[:, 1] = min(place[:, 1].min() for place in one.places.values())
    one.add("Root", floor, None)
    one.hang("Hips", "Root")
    return one.clips(clips)


def world_root(clips: ClipSet) -> ClipSet:
    """The root at the world's origin, metres away."""
    one = rig(clips)
    one.add("Reference", np.zeros_like(one.places["Hips"]) + 0.01, None)
    one.hang("Hips", "Reference")
    return one.clips(clips)


def twists(clips: ClipSet) -> ClipSet:
    """Helper joints along the limbs that turn with them."""
    one = rig(clips)
    for side in ("Left", "Right"):
        for joint, child in (
            ("Arm", "ForeArm"),
            ("ForeArm", "Hand"),
            ("UpLeg", "Leg"),
            ("Leg", "Foot"),
        ):
            start, end = one.places[side + joint], one.places[side + child]
            for number, part in enumerate((0.33, 0.66), 1):
                one.add(f"{side}{joint}Roll{number}", (1 - part) * start + part * end, side + joint)
    return one.clips(clips)


def targets(clips: ClipSet) -> ClipSet:
    """Inverse-kinematics targets of hands and feet under the root, as game engines have them,
    and the root's floor.
    """
    one = rig(clips)
    floor = one.places["Hips"].copy()
    floor[:, 1] = min(place[:, 1].min() for place in one.places.values())
    one.add("root", floor, None)
    one.hang("Hips", "root")
    for name, parent in (("ik_foot_root", "root"), ("ik_hand_root", "root")):
        one.add(name, floor + 0.001, parent)
    one.add("ik_hand_gun", one.places["RightHand"], "ik_hand_root")
    for name, place, parent in (
        ("ik_foot_l", "LeftFoot", "ik_foot_root"),
        ("ik_foot_r", "RightFoot", "ik_foot_root"),
        ("ik_hand_l", "LeftHand", "ik_hand_gun"),
        ("ik_hand_r", "RightHand", "ik_hand_gun"),
    ):
        one.add(name, one.places[place], parent)
    return one.clips(clips)


def poles(clips: ClipSet) -> ClipSet:
    """Helper joints half a metre before knees and behind elbows, as animators place them,
    all under the hips.
    """
    one = rig(clips)
    left, _, front = frame_of(one)
    for side, sign in (("Left", 1), ("Right", -1)):
        one.add(f"{side}KneePole", one.places[f"{side}Leg"] + 0.5 * front, "Hips")
        one.add(
            f"{side}ElbowPole",
            one.places[f"{side}ForeArm"] - 0.5 * front + 0.05 * sign * left,
            "Hips",
        )
    return one.clips(clips)


def face(clips: ClipSet) -> ClipSet:
    """Sixty joints of a face, all under the head."""
    one = rig(clips)
    left, up, front = frame_of(one)
    random = np.random.default_rng(1)
    for number in range(30):
        side, height, depth = random.uniform((0.005, -0.08, 0.05), (0.07, 0.06, 0.11))
        for name, sign in (("Left", 1), ("Right", -1)):
            place = one.places["Head"] + sign * side * left + height * up + depth * front
            one.add(f"{name}Face{number}", place, "Head")
    return one.clips(clips)


def fingers(clips: ClipSet) -> ClipSet:
    """Five fingers of four joints on each hand."""
    one = rig(clips).without("Middle").without("Thumb")
    up = frame_of(one)[1]
    for side in ("Left", "Right"):
        along = one.places[f"{side}Hand"] - one.places[f"{side}ForeArm"]
        along = along / np.linalg.norm(along, axis=1, keepdims=True)
        across = np.cross(along, up)
        across = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
        for number, finger in enumerate(("Thumb", "Index", "Middle", "Ring", "Pinky")):
            parent = f"{side}Hand"
            for joint in range(1, 5):
                name = f"{side}Hand{finger}{joint}"
                place = (
                    one.places[f"{side}Hand"]
                    + (0.05 + 0.025 * joint) * along
                    + 0.02 * (number - 2) * across
                )
                one.add(name, place, parent)
                parent = name
    return one.clips(clips)


def doubled(clips: ClipSet) -> ClipSet:
    """Helper joints of no length between hips and legs, and between chest and arms,
    as the CMU files have them.
    """
    one = rig(clips)
    for side in ("Left", "Right"):
        for name, parent, child in (("HipJoint", "Hips", "UpLeg"), ("Shoulder", "Chest", "Arm")):
            one.add(side + name, one.places[parent], parent)
            one.hang(side + child, side + name)
    return one.clips(clips)


def armed(clips: ClipSet) -> ClipSet:
    """A sword of 90 cm in the right hand, and a ball somewhere in the room."""
    one = rig(clips)
    front = frame_of(one)[2]
    one.add("Sword", one.places["RightHand"] + 0.9 * front, "RightHand")
    one.add("Ball", np.full_like(one.places["Hips"], 0.2), "Hips")
    return one.clips(clips)


LAYOUTS: dict[str, Callable[[ClipSet], ClipSet]] = {
    "ntu25": ntu,
    "kinect20": kinect,
    "uiprmd22": uiprmd,
    "motion file": plain,
    "no toes": without_toes,
    "no telling names": without_sides,
    "root on the floor": floor_root,
    "root at the origin": world_root,
    "twist joints": twists,
    "targets under the root": targets,
    "pole joints": poles,
    "face": face,
    "fingers": fingers,
    "joints of no length": doubled,
    "sword and ball": armed,
}


# --- people of right data ---


def cut(clips: ClipSet, take: Sequence[int]) -> ClipSet:
    """Some of the clips."""
    frames = np.concatenate(
        [np.arange(clips.offsets[clip], clips.offsets[clip + 1]) for clip in take]
    )
    columns = {name: values[list(take)] for name, values in clips.columns.items()}
    offsets = np.cumsum([0, *(int(clips.lengths[clip]) for clip in take)])
    return replace(
        clips, joints=clips.joints[frames], offsets=offsets, columns=columns, stored=None
    )


def posed(seed: int, *, knee_back: float = 0.0, lying: bool = False, **channels: float) -> ClipSet:
    """Six people who hold a pose and move their arms; ``knee_back``:
    metres of the knee behind hip and ankle.
    """
    random, made = np.random.default_rng(seed), []
    for _ in range(6):
        body = make_body(random, height=random.uniform(1.5, 1.9), left_handed=False)
        pose = np.tile(AVERAGE_STANCE, (40, 1))
        for name, value in channels.items():
            pose[:, [place for channel, place in CHANNEL.items() if channel.endswith(name)]] = value
        arms = [place for channel, place in CHANNEL.items() if channel.endswith(("raise", "elbow"))]
        pose[:, arms] += 20 * np.sin(np.arange(40)[:, None] / 5 + random.uniform(0, 6, len(arms)))
        joints = forward_kinematics(pose, body)
        if knee_back:
            knees, ends = [13, 17], [12, 16, 14, 18]
            joints[:, knees, 2] = joints[:, ends, 2].mean(axis=1, keepdims=True) - knee_back
        if lying:
            joints = np.stack([joints[..., 0], joints[..., 2], -joints[..., 1]], axis=-1)
        made.append(joints[:, None].astype(np.float32))
    count = len(made)
    columns = {"label": np.arange(count) % 2, "subject": np.arange(count) + 1}
    return ClipSet(
        "posed",
        np.concatenate(made),
        np.cumsum([0, *map(len, made)]),
        columns,
        ("a", "b"),
        NTU25,
        30.0,
    )


def scaled(clips: ClipSet, factor: float) -> ClipSet:
    """Other people's sizes, or another unit."""
    return replace(clips, joints=(clips.joints * np.float32(factor)).astype(np.float32))


def family(clips: ClipSet) -> ClipSet:
    """One small child among adults."""
    joints = clips.joints.copy()
    joints[: clips.offsets[1]] *= 0.45
    return replace(clips, joints=joints)


def people(seed: int) -> Iterator[tuple[str, ClipSet]]:
    """Sets of right data in NTU RGB+D's layout, one body each."""
    exact, tracked = (
        generate(seed, subjects=4, actions=ACTIONS, difficulty=difficulty)
        for difficulty in (EXACT, DIFFICULTY)
    )
    exact, tracked = (replace(clips, joints=clips.joints[:, :1]) for clips in (exact, tracked))
    yield "exact", exact
    yield "tracked", tracked
    yield "120 fps", replace(exact, fps=120.0)
    yield "one camera, one person", cut(exact, range(0, 18, 3))
    yield "centred in every frame", replace(exact, joints=exact.joints - exact.joints[:, :, 1:2])
    yield "children of 1 m", scaled(exact, 0.6)
    yield "toddlers of 80 cm", scaled(exact, 0.48)
    yield "tall people", scaled(exact, 1.25)
    yield "a child among adults", family(exact)
    yield "sitting", posed(seed, hip=85.0, knee=90.0)
    yield "crouching", posed(seed, hip=110.0, knee=130.0, spine_pitch=30.0)
    yield "standing still", cut(posed(seed), (0, 1, 2))
    yield "knees locked, 1 cm behind", posed(seed, knee_back=0.01)
    yield "knees locked, 4 cm behind", posed(seed, knee_back=0.04)
    yield "lying, heads to one side", posed(seed, lying=True)


# --- faults ---


def reordered(clips: ClipSet, order: NDArray[np.int64]) -> ClipSet:
    """Joints in another order under the same names."""
    return replace(clips, joints=clips.joints[:, :, order])


def shuffled(clips: ClipSet, seed: int) -> ClipSet:
    """Any order."""
    return reordered(clips, np.random.default_rng(seed).permutation(clips.layout.joint_count))


def exchanged_chain(clips: ClipSet, _: int) -> ClipSet:
    """The first four joints in reverse."""
    order = np.arange(clips.layout.joint_count)
    order[:4] = order[3::-1]
    return reordered(clips, order)


def exchanged_neighbours(clips: ClipSet, seed: int) -> ClipSet:
    """One joint exchanged with its parent, not the root."""
    order = np.arange(clips.layout.joint_count)
    bones = [
        (joint, parent) for joint, parent in clips.layout.bones if clips.layout.parents[parent] >= 0
    ]
    joint, parent = bones[int(np.random.default_rng(seed).integers(len(bones)))]
    order[[joint, parent]] = parent, joint
    return reordered(clips, order)


def sides_exchanged(clips: ClipSet, _: int) -> ClipSet:
    """Left and right joints exchanged."""
    order = np.arange(clips.layout.joint_count)
    for left, right in clips.layout.pairs:
        order[[left, right]] = right, left
    return reordered(clips, order)


def turned(clips: ClipSet, axes: Sequence[int], signs: Sequence[int]) -> ClipSet:
    """Axes exchanged or negated."""
    return replace(
        clips,
        joints=np.ascontiguousarray(clips.joints[..., list(axes)] * np.asarray(signs, np.float32)),
    )


def one_clip(clips: ClipSet, factor: float) -> ClipSet:
    """The first clip in another unit."""
    joints = clips.joints.copy()
    joints[: clips.offsets[1]] *= np.float32(factor)
    return replace(clips, joints=joints)


FAULTS: dict[str, tuple[str, Callable[[ClipSet, int], ClipSet]]] = {
    "joints shuffled": ("order", shuffled),
    "joints moved on by one": (
        "order",
        lambda c, _: reordered(c, np.roll(np.arange(c.layout.joint_count), 1)),
    ),
    "joints in reverse": (
        "order",
        lambda c, _: reordered(c, np.arange(c.layout.joint_count)[::-1]),
    ),
    "first four joints in reverse": ("order", exchanged_chain),
    "a joint exchanged with its parent": ("order", exchanged_neighbours),
    "mirrored": ("sides", lambda c, _: turned(c, (0, 1, 2), (-1, 1, 1))),
    "left and right exchanged": ("sides", sides_exchanged),
    "centimetres": ("unit", lambda c, _: scaled(c, 100)),
    "millimetres": ("unit", lambda c, _: scaled(c, 1000)),
    "inches": ("unit", lambda c, _: scaled(c, 39.37)),
    "inches read as centimetres": ("unit", lambda c, _: scaled(c, 1 / 2.54)),
    "metres read as centimetres": ("unit", lambda c, _: scaled(c, 0.01)),
    "one clip in centimetres": ("unit", lambda c, _: one_clip(c, 100)),
    "z up": ("up", lambda c, _: turned(c, (0, 2, 1), (1, -1, 1))),
    "y down": ("up", lambda c, _: turned(c, (0, 1, 2), (1, -1, -1))),
}
TOLD = {
    "order": ("joint order", "left and right differ"),
    "sides": ("left and right: mirrored", "left and right: only"),
    "unit": ("unit", "clips with people"),
    "up": ("up axis",),
}
"""How a finding begins that names a fault of a kind."""


# --- measuring ---


def alarms(clips: ClipSet) -> dict[str, list[str]]:
    """Findings about bodies by severity."""
    found: dict[str, list[str]] = defaultdict(list)
    for finding in examine(clips).findings:
        if finding.text.startswith(BODY):
            found[finding.severity].append(finding.text)
    return found


def right_data(seeds: Sequence[int]) -> Iterator[tuple[str, str, ClipSet]]:
    """Layout, people, and the clips."""
    for seed in seeds:
        for who, clips in people(seed):
            for name, made in LAYOUTS.items():
                yield name, who, made(clips)


def measure(sets: Iterator[tuple[str, str, ClipSet]], faulty: Callable[[str], bool]) -> Measured:
    """Findings of right data, and of the same with faults where ``faulty`` takes those people."""
    found = Measured()
    for layout, who, clips in sets:
        told = alarms(clips)
        found.right += 1
        for severity in ("error", "warning"):
            if told[severity]:
                found.alarmed[severity] += 1
                found.by_layout[layout, severity] += 1
                found.by_people[who, severity] += 1
                found.examples.setdefault(
                    (severity, told[severity][0].partition(":")[0]),
                    (layout, who, told[severity][0]),
                )
        found.layouts[layout] += 1
        found.people[who] += 1
        if faulty(who):
            some = (
                cut(clips, range(0, len(clips), -(-len(clips) // MOST_CLIPS)))
                if len(clips) > MOST_CLIPS
                else clips
            )
            for fault, (kind, put) in FAULTS.items():
                told = alarms(put(some, found.right))
                found.faults[fault] += 1
                if any(text.startswith(TOLD[kind]) for text in told["error"]):
                    found.as_error[fault] += 1
                if any(text.startswith(TOLD[kind]) for text in told["error"] + told["warning"]):
                    found.as_any[fault] += 1
    return found


class Measured:
    """Counts."""

    def __init__(self) -> None:
        self.right = 0
        self.alarmed, self.by_layout, self.by_people = (
            Counter[str](),
            Counter[tuple[str, str]](),
            Counter[tuple[str, str]](),
        )
        self.layouts, self.people = Counter[str](), Counter[str]()
        self.faults, self.as_error, self.as_any = Counter[str](), Counter[str](), Counter[str]()
        self.examples: dict[tuple[str, str], tuple[str, str, str]] = {}


def lines(made: Measured, recorded: Measured) -> Iterator[str]:
    """The tables, as Markdown."""
    yield "| right data | sets | with an error (false alarm) | with a warning about bodies |"
    yield "|---|---|---|---|"
    for title, found in (("made up, all", made), ("recorded files", recorded)):
        if found.right:
            yield (
                f"| {title} | {found.right} | {found.alarmed['error']} |"
                f" {found.alarmed['warning']} |"
            )
    for title, names, counts in (
        ("layout", made.layouts, made.by_layout),
        ("people", made.people, made.by_people),
    ):
        for name in names:
            yield (
                f"| {title}: {name} | {names[name]} | {counts[name, 'error']} |"
                f" {counts[name, 'warning']} |"
            )
    yield ""
    yield "| fault | sets | named by an error | named by an error or a warning |"
    yield "|---|---|---|---|"
    for fault in made.faults:
        total, errors, named = (
            getattr(made, kind)[fault] + getattr(recorded, kind)[fault]
            for kind in ("faults", "as_error", "as_any")
        )
        yield (
            f"| {fault} | {total} | {errors} ({errors / total:.0%}) | {named}"
            f" ({named / total:.0%}) |"
        )


def main() -> int:
    """Measure, print, and leave the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        help="recorded data in the exchange format, taken to be right",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    made = measure(right_data(range(arguments.seeds)), lambda who: who in ("exact", "tracked"))
    files = ((path.stem, path.stem, read_npz(path, check_frames=False)) for path in arguments.files)
    recorded = measure(files, lambda _: True)
    command = "python benchmarks/doctor_false_alarms.py " + " ".join(
        path.name for path in arguments.files
    )
    environment = describe_environment(select_device("cpu"))
    versions = ", ".join(
        f"{name} {environment.versions[name]}" for name in ("python", "numpy", "scipy")
    )
    text = [
        (
            f"`{command.strip()}`, seeds 0-{arguments.seeds - 1}, {datetime.now(UTC):%Y-%m-%d},"
            f" commit {environment.commit}, {environment.processor}, {versions}"
        ),
        "",
        *lines(made, recorded),
    ]
    print("\n".join(text))
    for found in (made, recorded):
        for (severity, _), (layout, who, example) in found.examples.items():
            print(f"{severity} on right data, e.g. {layout}, {who}: {example}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text("\n".join(text) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
