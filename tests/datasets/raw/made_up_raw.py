"""Raw downloads of made-up people, one writer a format: small and valid, of several subjects, views
and classes.

Everybody stands upright and turns the right arm about the shoulder; later classes turn it more
often. Clips differ by class, subject and take, bones keep their lengths, and right is where a
right-handed world has it (x, facing -z).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np
import scipy.io
from numpy.typing import NDArray

from datasets.clips import ClipSet
from datasets.formats.store import open_store
from datasets.layouts import KINECT20, NTU25, UIPRMD22, SkeletonLayout
from datasets.raw import prepare as module
from datasets.raw.base import RawClip, Source

SUBJECTS = (1, 2, 3, 4)
PKU_LABELS = "1,5,25,2\n14,20,45,1\n33,45,90,2\n"
"""Of every made-up video of 70 frames: the second interval overlaps the first,
the third ends past the file.
"""
KINECT1_JOINTS_OF_UTD = (
    "head",
    "shoulder_center",
    "spine",
    "hip_center",
    "shoulder_left",
    "elbow_left",
    "wrist_left",
    "hand_left",
    "shoulder_right",
    "elbow_right",
    "wrist_right",
    "hand_right",
    "hip_left",
    "knee_left",
    "ankle_left",
    "foot_left",
    "hip_right",
    "knee_right",
    "ankle_right",
    "foot_right",
)

# Offset from the parent in metres by a word of the joint's name, the first that fits; x is mirrored
# on the left.
_BONES = (
    ("thumb", (0.04, -0.03, -0.02)),
    ("head_tip", (0, 0.12, 0)),
    ("hand_tip", (0, -0.08, 0)),
    ("hip_center", (0, 0, 0)),
    ("spine_base", (0, 0, 0)),
    ("waist", (0, 0, 0)),
    ("shoulder_center", (0, 0.24, 0)),
    ("spine_shoulder", (0, 0.24, 0)),
    ("shoulder", (0.18, -0.03, 0)),
    ("collar", (0.05, 0.18, 0)),
    ("upper_arm", (0.13, 0, 0)),
    ("elbow", (0, -0.28, 0)),
    ("forearm", (0, -0.28, 0)),
    ("wrist", (0, -0.25, 0)),
    ("hand", (0, -0.1, 0)),
    ("hip", (0.09, -0.06, 0)),
    ("upper_leg", (0.09, -0.06, 0)),
    ("knee", (0, -0.42, 0)),
    ("lower_leg", (0, -0.42, 0)),
    ("ankle", (0, -0.4, 0)),
    ("toes", (0, -0.05, -0.12)),
    ("left_foot", (0, -0.4, 0)),
    ("right_foot", (0, -0.4, 0)),
    ("foot", (0, -0.04, -0.12)),
    ("neck", (0, 0.08, 0)),
    ("head", (0, 0.15, 0)),
    ("chest", (0, 0.2, 0)),
    ("spine", (0, 0.24, 0)),
)


def bone_offsets(layout: SkeletonLayout, subject: int) -> NDArray[np.float64]:
    """[V, 3] metres from the parent; every subject is a little taller than the one before."""
    offsets = np.array(
        [next(offset for word, offset in _BONES if word in joint) for joint in layout.joints], float
    )
    if layout is NTU25:
        offsets[[15, 19]] = (0, -0.04, -0.12)  # its feet are below ankles, unlike UI-PRMD's
    offsets[["left" in joint for joint in layout.joints], 0] *= -1
    return offsets * (1 + 0.02 * subject)


def arm_angle(frames: int, label: int, subject: int, take: int = 0) -> NDArray[np.float64]:
    """[T] radians about z by which the right arm is raised sideways."""
    time = np.arange(frames) / frames
    return 1.2 + 0.05 * take + np.sin(2 * np.pi * (label + 1) * time + 0.1 * subject)


def turned_joints(layout: SkeletonLayout) -> tuple[int, ...]:
    """What moves: the right arm below its `turning_joint`."""
    first = next(
        joint
        for joint, name in enumerate(layout.joints)
        if "elbow_r" in name or "right_elbow" in name or "right_forearm" in name
    )
    return tuple(joint for joint in layout.parts["right_arm"] if joint >= first)


def turning_joint(layout: SkeletonLayout) -> int:
    """The joint that the right arm turns about."""
    return layout.parents[turned_joints(layout)[0]]


def person(
    layout: SkeletonLayout,
    frames: int,
    label: int,
    subject: int,
    take: int = 0,
    place: Sequence[float] = (0, 0, 3),
) -> NDArray[np.float64]:
    """[T, V, 3] metres: a person who stands on the floor at ``place``."""
    offsets, angle = bone_offsets(layout, subject), arm_angle(frames, label, subject, take)
    joints = np.zeros((frames, layout.joint_count, 3))
    order = sorted(range(layout.joint_count), key=lambda joint: _depth(layout, joint))
    for joint in order:
        offset = np.tile(offsets[joint], (frames, 1))
        if joint in turned_joints(layout):
            x, y = offsets[joint, :2]
            offset[:, 0], offset[:, 1] = (
                x * np.cos(angle) - y * np.sin(angle),
                x * np.sin(angle) + y * np.cos(angle),
            )
        joints[:, joint] = offset + (
            joints[:, layout.parents[joint]] if layout.parents[joint] >= 0 else 0
        )
    return joints + np.array(place) + [0, 1.0, 0]


def _depth(layout: SkeletonLayout, joint: int) -> int:
    return 0 if layout.parents[joint] < 0 else 1 + _depth(layout, layout.parents[joint])


def seen_from(joints: NDArray[np.float64], view: int) -> NDArray[np.float64]:
    """Joints turned about the vertical by 45 degrees a view."""
    turn = np.pi / 4 * (view - 2)
    matrix = np.array(
        [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
    )
    return joints @ matrix.T


# --- writers ---


def write_pku(folder: Path) -> Path:
    """PKU-MMD phase 1 in its official folders: 4 videos in 3 views,
    3 instances of 3 classes each.
    """
    videos = [f"{number:04}" for number in SUBJECTS]
    _write_videos(folder, videos, "Data/PKU_Skeleton_Renew", "Label/Train_Label_PKU_final")
    write_split(
        folder / "Split" / "cross-subject.txt",
        *_stems(videos[:2], "LMR"),
        *_stems(videos[2:], "LMR"),
    )
    write_split(folder / "Split" / "cross-view.txt", *_stems(videos, "MR"), *_stems(videos, "L"))
    return folder


def write_pku2(folder: Path) -> Path:
    """PKU-MMD phase 2: as phase 1, other names."""
    videos = [f"A{number:02}N01" for number in SUBJECTS]
    _write_videos(folder, videos, "skeleton", "label")
    write_split(
        folder / "cross_subject_v2.txt", *_stems(videos[:2], "LMR"), *_stems(videos[2:], "LMR")
    )
    write_split(folder / "cross_view_v2.txt", *_stems(videos, "MR"), *_stems(videos, "L"))
    return folder


def write_split(path: Path, train: Iterable[str], test: Iterable[str]) -> Path:
    """A split file: headings in lines 1 and 3, names in lines 2 and 4,
    a separator left over at the end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lists = (", ".join([*names, ""]) for names in (train, test))
    path.write_text("Training videos:\n{}\nValidation videos:\n{}\n".format(*lists))
    return path


def write_frames(path: Path, joints: NDArray) -> Path:
    """A skeleton file of PKU-MMD of joints [T, 2, 25, 3]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, joints.reshape(len(joints), -1), fmt="%.6f")
    return path


def write_nwucla(folder: Path) -> Path:
    """NW-UCLA: 3 actions of 4 subjects in 3 views;
    those of action 2 have the same joints in views 2 and 3.
    """
    place = folder / "all_sqe"
    place.mkdir(parents=True, exist_ok=True)
    for label, action in ((0, 1), (1, 2), (9, 12)):
        for subject, view in product(SUBJECTS, (1, 2, 3)):
            stem = f"a{action:02}_s{subject:02}_e00_v{view:02}"
            joints = seen_from(
                person(KINECT20, 12, label, subject), min(view, 2) if action == 2 else view
            )
            content = {"file_name": stem, "skeletons": joints.round(6).tolist(), "label": label + 1}
            (place / f"{stem}.json").write_text(json.dumps(content))
    return folder


def write_utdmhad(folder: Path) -> Path:
    """UTD-MHAD: 2 actions of 4 subjects, 2 trials each."""
    place = folder / "Skeleton"
    place.mkdir(parents=True, exist_ok=True)
    order = [KINECT20.joints.index(joint) for joint in KINECT1_JOINTS_OF_UTD]
    for action, subject, trial in product((1, 10), SUBJECTS, (1, 2)):
        joints = person(KINECT20, 15, action - 1, subject, trial)[:, order]
        name = f"a{action}_s{subject}_t{trial}_skeleton.mat"
        scipy.io.savemat(place / name, {"d_skel": joints.transpose(1, 2, 0)}, do_compression=True)
    return folder


def write_uiprmd(folder: Path) -> Path:
    """UI-PRMD: 2 exercises of 4 subjects, once done well (.txt) and once wrongly (.txt.gz)."""
    for exercise, subject, wrong in product((1, 2), SUBJECTS, (False, True)):
        home = (
            folder
            / ("Incorrect Segmented Movements" if wrong else "Segmented Movements")
            / "Kinect"
        )
        name, end = f"m{exercise:02}_s{subject:02}_e01", "_inc.txt.gz" if wrong else ".txt"
        frames = 14
        positions = np.tile(100 * bone_offsets(UIPRMD22, subject), (frames, 1, 1))
        positions[:, 0] = 0, 100, -250
        angles = np.zeros_like(positions)
        angles[:, turning_joint(UIPRMD22), 2] = np.degrees(
            arm_angle(frames, exercise - 1, subject, int(wrong))
        )
        write_table(home / "Positions" / f"{name}_positions{end}", positions)
        write_table(home / "Angles" / f"{name}_angles{end}", angles)
    return folder


def write_table(path: Path, joints: NDArray) -> Path:
    """A text file of UI-PRMD of joints [T, 22, 3], packed if its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(",".join(f"{number:.6f}" for number in frame.ravel()) + "\n" for frame in joints)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_bvh(folder: Path) -> Path:
    """BVH files in centimetres of 2 classes, 4 subjects and 2 takes, with their ``labels.csv``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["file,label,subject,room"]
    for (label, name), subject, take in product(enumerate(("lift", "wave")), SUBJECTS, (1, 2)):
        path = folder / name / f"s{subject}_{take}.bvh"
        path.parent.mkdir(exist_ok=True)
        path.write_text(bvh_text(KINECT20, arm_angle(16, label, subject, take), subject))
        rows.append(f"{name}/{path.name},{name},{subject},hall")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def bvh_text(
    layout: SkeletonLayout, angle: NDArray[np.float64], subject: int, frame_time: float = 0.0333333
) -> str:
    """A BVH file of a person who stands 3 m from the origin;
    the joints stand depth first in ``layout``.
    """
    offsets = 100 * bone_offsets(layout, subject)

    def joint(index: int, indent: str) -> str:
        children = [child for child, parent in enumerate(layout.parents) if parent == index]
        inner = "".join(joint(child, indent + "\t") for child in children)
        inner = (
            inner or f"{indent}\tEnd Site\n{indent}\t{{\n{indent}\t\tOFFSET 0 5 0\n{indent}\t}}\n"
        )
        channels = (
            "3 Zrotation Xrotation Yrotation"
            if index
            else ("6 Xposition Yposition Zposition Zrotation Xrotation Yrotation")
        )
        head = f"{indent}{'JOINT' if index else 'ROOT'} {layout.joints[index]}\n{indent}{{\n"
        place = " ".join(f"{number:.6f}" for number in offsets[index])
        return f"{head}{indent}\tOFFSET {place}\n{indent}\tCHANNELS {channels}\n{inner}{indent}}}\n"

    values = np.zeros((len(angle), 3 * layout.joint_count + 3))
    values[:, 1:3] = 100, 300
    values[:, 3 + 3 * turning_joint(layout)] = np.degrees(angle)
    lines = "".join(" ".join(f"{number:.6f}" for number in frame) + "\n" for frame in values)
    return (
        f"HIERARCHY\n{joint(0, '')}MOTION\nFrames: {len(angle)}\nFrame Time: {frame_time}\n{lines}"
    )


def _write_videos(folder: Path, videos: Sequence[str], skeletons: str, labels: str) -> None:
    for video, (view, letter) in product(enumerate(videos, 1), enumerate("LMR", 1)):
        number, stem = video[0], f"{video[1]}-{letter}"
        joints = np.zeros((70, 2, 25, 3))
        for start, end, label in ((0, 20, 0), (20, 45, 13), (45, 70, 32)):
            joints[start:end, 0] = person(NTU25, end - start, label % 5, number)
        joints[20:45, 1] = person(NTU25, 25, 1, number + 1, place=(0.8, 0, 3))
        joints[joints.any(axis=(2, 3))] = seen_from(joints[joints.any(axis=(2, 3))], view)
        write_frames(folder / skeletons / f"{stem}.txt", joints)
        path = folder / labels / f"{stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PKU_LABELS)


def _stems(videos: Sequence[str], views: str) -> tuple[list[str]]:
    return ([f"{video}-{view}" for video in videos for view in views],)


# --- reading what was written ---


def clips_of(source: Source) -> list[RawClip]:
    """All clips of a source, in order; nothing else may come of its units."""
    readings = [source.read(unit) for unit in source.find().units]
    assert not [problem for reading in readings for problem in reading.problems]
    return [clip for reading in readings for clip in reading.clips]


def stored(source: Source, folder: Path, name: str = "made_up") -> ClipSet:
    """The store of a source, prepared in this process."""

    def here(
        source: Source, chunks: list, paths: list[Path], workers: int, strict: bool, advance: object
    ) -> None:
        for chunk, path in zip(chunks, paths, strict=True):
            module.read_part(source, chunk, path, strict)

    with patch.object(module, "_read_missing", here):
        return open_store(module.prepare(source, name, folder, strict=True).folder)
