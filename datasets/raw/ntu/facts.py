"""What is known of NTU RGB+D 60 and 120 before any file is read: classes, splits, published counts,
file names.

Sources: Shahroudy et al., CVPR 2016 (60 actions); Liu et al., TPAMI 2020 (120 actions); the
authors' list of actions, word for word (github.com/shahroudy/NTURGB-D, README); published counts as
CTR-GCN's preparation lists them.
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Mapping

from datasets.layouts import NTU25
from datasets.raw.base import Source

NAME_FORM = "SsssCcccPpppRrrrAaaa"
NOBODY = "clips without a body, left out"
ST_GCN = (
    "the form of ST-GCN, 2s-AGCN and their kin (data .npy of shape N, C, T, V, M and a _label.pkl),"
    " which is not read: name a folder of .skeleton files, CTR-GCN's .npz or pyskl's .pkl"
)
"""What the data files of a family of other code bases are, for messages."""
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")

_PERFORMERS_60 = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
_PERFORMERS_120 = (
    *_PERFORMERS_60, 45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82,
    83, 84, 85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103,
)  # fmt: skip

ACTIONS_60 = (
    "drink water", "eat meal/snack", "brushing teeth", "brushing hair", "drop", "pickup", "throw",
    "sitting down", "standing up (from sitting position)", "clapping", "reading", "writing",
    "tear up paper", "wear jacket", "take off jacket", "wear a shoe", "take off a shoe",
    "wear on glasses", "take off glasses", "put on a hat/cap", "take off a hat/cap", "cheer up",
    "hand waving", "kicking something",
    "put something inside pocket / take out something from pocket", "hopping (one foot jumping)",
    "jump up", "make a phone call/answer phone", "playing with phone/tablet",
    "typing on a keyboard", "pointing to something with finger", "taking a selfie",
    "check time (from watch)", "rub two hands together", "nod head/bow", "shake head", "wipe face",
    "salute", "put the palms together", "cross hands in front (say stop)", "sneeze/cough",
    "staggering", "falling", "touch head (headache)", "touch chest (stomachache/heart pain)",
    "touch back (backache)", "touch neck (neckache)", "nausea or vomiting condition",
    "use a fan (with hand or paper)/feeling warm", "punching/slapping other person",
    "kicking other person", "pushing other person", "pat on back of other person",
    "point finger at the other person", "hugging other person", "giving something to other person",
    "touch other person's pocket", "handshaking", "walking towards each other",
    "walking apart from each other",
)  # fmt: skip
"""A1 to A60; A50 and later have two people."""

ACTIONS_120 = (
    *ACTIONS_60,
    "put on headphone", "take off headphone", "shoot at the basket", "bounce ball",
    "tennis bat swing", "juggling table tennis balls", "hush (quite)", "flick hair", "thumb up",
    "thumb down", "make ok sign", "make victory sign", "staple book", "counting money",
    "cutting nails", "cutting paper (using scissors)", "snapping fingers", "open bottle",
    "sniff (smell)", "squat down", "toss a coin", "fold paper", "ball up paper", "play magic cube",
    "apply cream on face", "apply cream on hand back", "put on bag", "take off bag",
    "put something into a bag", "take something out of a bag", "open a box", "move heavy objects",
    "shake fist", "throw up cap/hat", "hands up (both hands)", "cross arms", "arm circles",
    "arm swings", "running on the spot", "butt kicks (kick backward)", "cross toe touch",
    "side kick", "yawn", "stretch oneself", "blow nose", "hit other person with something",
    "wield knife towards other person", "knock over other person (hit with body)",
    "grab other person's stuff", "shoot at other person with a gun", "step on foot", "high-five",
    "cheers and drink", "carry something with other person", "take a photo of other person",
    "follow other person", "whisper in other person's ear", "exchange things with other person",
    "support somebody with one's hand (someone is sick, help him to walk)",
    "finger-guessing game (playing rock-paper-scissors)",
)  # fmt: skip
"""A1 to A120; A106 and later have two people as well."""


class NtuSource(Source, ABC):
    """What both editions and every route share: Kinect v2's skeleton, 30 frames a second,
    two bodies at most.
    """

    layout = NTU25
    fps = 30.0
    bodies = 2
    published: Mapping[str, tuple[int, int]]
    """Official split names to numbers of training and test clips."""
    setups: int
    """Setups of this edition, numbered from 1."""

    def belongs(self, columns: dict[str, int]) -> bool:
        """Whether a file of these `name_columns` is of this edition."""
        return columns["label"] < len(self.class_names) and columns["setup"] <= self.setups


class OfNtu60(NtuSource, ABC):
    """Facts of NTU RGB+D 60."""

    title = "NTU RGB+D 60 (Shahroudy et al., CVPR 2016)"
    class_names = ACTIONS_60
    setups = 17
    splits = {  # noqa: RUF012 - read only
        "xsub": f"subject:{','.join(map(str, _PERFORMERS_60))}->*",
        "xview": "view:2,3->1",
    }
    published = {"xsub": (40_091, 16_487), "xview": (37_646, 18_932)}  # noqa: RUF012 - read only
    expected = published


class OfNtu120(NtuSource, ABC):
    """Facts of NTU RGB+D 120."""

    title = "NTU RGB+D 120 (Liu et al., TPAMI 2020)"
    class_names = ACTIONS_120
    setups = 32
    splits = {  # noqa: RUF012 - read only
        "xsub": f"subject:{','.join(map(str, _PERFORMERS_120))}->*",
        "xset": f"setup:{','.join(map(str, range(2, 33, 2)))}->*",
    }
    published = {"xsub": (63_026, 50_919), "xset": (54_468, 59_477)}  # noqa: RUF012 - read only
    expected = published


def name_columns(stem: str) -> dict[str, int] | None:
    """label (action - 1), subject, view, setup and replication of a name such as
    ``S001C002P003R002A013``.

    None when the name is not of that form, or counts from 0.
    """
    form = _NAME.fullmatch(stem)
    if form is None or not all(map(int, form.groups())):
        return None
    setup, camera, performer, replication, action = map(int, form.groups())
    return {
        "label": action - 1,
        "subject": performer,
        "view": camera,
        "setup": setup,
        "replication": replication,
    }
