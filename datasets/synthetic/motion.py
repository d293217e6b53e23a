"""The actions of the synthetic data sets: from normalised time to joint angles.

A program tells what a right-handed body of average habits adds to its idle stance, channel by
channel, in degrees. `TWINS` share their poses with one of the `ACTIONS` and differ in how those
follow each other: performed backwards (pick up and put down), turned round (arm circles), or
shifted in phase (arms swinging together or alternately).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from datasets.synthetic.body import HABITS

Floats = NDArray[np.float64]
Deltas = dict[str, Floats]


@dataclass(frozen=True)
class Moment:
    """Where in the action each of F frames is.

    Attributes:
        progress: [F] 0 before the action to 1 after it.
        phase: [F] radians, of what is repeated within the action.
        gate: [F] 0 outside the action, 1 within, with short ramps.
    """

    progress: Floats
    phase: Floats
    gate: Floats


Program = Callable[[Moment], Deltas]


@dataclass(frozen=True)
class Action:
    """One class.

    Attributes:
        program: what body 1 does.
        seconds: duration at tempo 1.
        hertz: repetitions per second at tempo 1, of programs that use `Moment.phase`.
        partner: what body 2 does; None in single-person actions.
        handed: left-handed bodies do it mirrored.
        aimed: it has to reach something, so that its size may vary little.
    """

    program: Program
    seconds: float
    hertz: float = 0.0
    partner: Program | None = None
    handed: bool = True
    aimed: bool = True


# Arm poses in degrees (see `synthetic_body.CHANNELS`), fitted to hand targets on a body of average
# build.
_REST = {name: float(np.mean(HABITS[name])) for name in ("raise", "plane", "inward", "elbow")}
_HOLD = {"raise": 3.0, "plane": 28.0, "inward": 0.0, "elbow": 90.0}  # something held at the waist
_MOUTH = {"raise": 76.0, "plane": 6.0, "inward": 32.0, "elbow": 128.0}
_HEAD = {"raise": 120.0, "plane": 20.0, "inward": 0.0, "elbow": 109.0}
_BOX = {
    "raise": 11.0,
    "plane": 33.0,
    "inward": 12.0,
    "elbow": 77.0,
}  # one of two hands around a box
_FLOOR = {"raise": 84.0, "plane": 0.0, "inward": 5.0, "elbow": 12.0}  # with the trunk bent
_WRIST_SEEN = {"raise": 45.0, "plane": 10.0, "inward": 45.0, "elbow": 95.0}
_PALMS_MET = {"raise": 32.0, "plane": 19.0, "inward": 37.0, "elbow": 88.0}
_PALMS_APART = {"raise": 30.0, "plane": 70.0, "inward": -10.0, "elbow": 92.0}
_GUARD = {"raise": 40.0, "plane": 80.0, "inward": 18.0, "elbow": 138.0}
_PUNCH = {"raise": 80.0, "plane": 0.0, "inward": 22.0, "elbow": 18.0}
_PUSH = {"raise": 78.0, "plane": 0.0, "inward": 5.0, "elbow": 14.0}
_SHAKE = {"raise": 46.0, "plane": 0.0, "inward": 51.0, "elbow": 41.0}
_ALOFT = {
    "raise": 118.0,
    "plane": 62.0,
    "inward": 0.0,
    "elbow": 50.0,
}  # a hand to wave with, beside the head
_WOUND_UP = {"raise": 100.0, "plane": 95.0, "inward": 0.0, "elbow": 95.0}
_THROWN = {"raise": 72.0, "plane": 4.0, "inward": 18.0, "elbow": 12.0}
_HIGH = {"raise": 160.0, "plane": 20.0, "inward": 0.0, "elbow": 14.0}
_STARTLED = {"raise": 45.0, "plane": 45.0, "inward": 0.0, "elbow": 60.0}


@cache
def _curve(*keys: tuple[float, float]) -> PchipInterpolator:
    times, values = zip(*keys, strict=True)
    return PchipInterpolator(
        [times[0] - 1.0, *times, times[-1] + 1.0], [values[0], *values, values[-1]]
    )


def keyframes(progress: Floats, *keys: tuple[float, float]) -> Floats:
    """Smooth curve [F] through (time, value) keys, without overshoot.

    It rests before the first key and after the last. ``progress`` lies in [0, 1], as do the keys'
    times.
    """
    return _curve(*keys)(progress)


def _backwards(program: Program) -> Program:
    """The same program with time running from its end to its start."""

    def performed(moment: Moment) -> Deltas:
        return program(replace(moment, progress=1.0 - moment.progress))

    return performed


def _turned_round(program: Program) -> Program:
    """The same program with its repetitions running the other way."""

    def performed(moment: Moment) -> Deltas:
        return program(replace(moment, phase=-moment.phase))

    return performed


def _arm(side: str, *weighted: tuple[Mapping[str, float], Floats]) -> Deltas:
    """One arm's way from rest to weighted poses."""
    return {
        f"{side}_{name}": sum(
            ((pose[name] - rest) * weight for pose, weight in weighted), np.zeros(())
        )
        for name, rest in _REST.items()
    }


def _arms(*weighted: tuple[Mapping[str, float], Floats]) -> Deltas:
    return _arm("left", *weighted) | _arm("right", *weighted)


def _legs(hip: Floats, knee: Floats) -> Deltas:
    return {"left_hip": hip, "right_hip": hip, "left_knee": knee, "right_knee": knee}


def _put_on_hat(moment: Moment) -> Deltas:
    """From a hat held at the waist to the head, then the empty hand down."""
    held = keyframes(moment.progress, (0.0, 1.0), (0.35, 0.0))
    aloft = keyframes(moment.progress, (0.05, 0.0), (0.45, 1.0), (0.65, 0.95), (1.0, 0.0))
    return {"head_pitch": 10.0 * aloft} | _arm("right", (_HOLD, held), (_HEAD, aloft))


def _pick_up(moment: Moment) -> Deltas:
    """Bend to the floor with empty hands, come up with a box between them."""
    down = keyframes(moment.progress, (0.0, 0.0), (0.45, 1.0), (0.55, 1.0), (1.0, 0.0))
    laden = keyframes(moment.progress, (0.45, 0.0), (0.95, 1.0))
    trunk = {"pelvis_pitch": 42.0 * down, "spine_pitch": 42.0 * down, "head_pitch": -15.0 * down}
    return (
        trunk
        | _legs(38.0 * down, 66.0 * down)
        | _arms((_FLOOR, down), (_BOX, laden * (1.0 - down)))
    )


def _drink(moment: Moment) -> Deltas:
    """A cup from the waist to the mouth, head back, and down again."""
    raised = keyframes(moment.progress, (0.0, 0.0), (0.35, 1.0), (0.65, 1.0), (1.0, 0.0))
    tilted = keyframes(moment.progress, (0.3, 0.0), (0.5, 1.0), (0.7, 0.0))
    head = {
        "head_pitch": -18.0 * tilted,
        "spine_pitch": -5.0 * tilted,
        "right_wrist": 20.0 * tilted,
    }
    return head | _arm("right", (_HOLD, moment.gate * (1.0 - raised)), (_MOUTH, raised))


def _brush_teeth(moment: Moment) -> Deltas:
    """A hand at the mouth, to and fro by little."""
    arm = _arm("right", (_MOUTH, moment.gate))
    arm["right_elbow"] = arm["right_elbow"] + 10.0 * moment.gate * np.sin(moment.phase)
    return arm


def _check_watch(moment: Moment) -> Deltas:
    """The other wrist up before the chest, the head bent over it, and down again."""
    up = keyframes(moment.progress, (0.0, 0.0), (0.3, 1.0), (0.7, 1.0), (1.0, 0.0))
    return {"head_pitch": 18.0 * up} | _arm("left", (_WRIST_SEEN, up))


def _wave(moment: Moment) -> Deltas:
    """A raised forearm from side to side."""
    arm = _arm("right", (_ALOFT, moment.gate))
    arm["right_elbow"] = arm["right_elbow"] + 26.0 * moment.gate * np.sin(moment.phase)
    return arm


def _throw(moment: Moment) -> Deltas:
    """Wind one arm up behind the shoulder, then fling it forward with the trunk."""
    back = keyframes(moment.progress, (0.0, 0.0), (0.4, 1.0), (0.55, 0.0))
    front = keyframes(moment.progress, (0.4, 0.0), (0.58, 1.0), (1.0, 0.0))
    trunk = {"spine_twist": 24.0 * front - 22.0 * back, "spine_pitch": 14.0 * front - 6.0 * back}
    return trunk | _arm("right", (_WOUND_UP, back), (_THROWN, front))


def _reach_up(moment: Moment) -> Deltas:
    """Both arms up over the head and down again."""
    up = keyframes(moment.progress, (0.0, 0.0), (0.4, 1.0), (0.6, 1.0), (1.0, 0.0))
    return {"head_pitch": -16.0 * up, "spine_pitch": -5.0 * up} | _arms((_HIGH, up))


def _march(moment: Moment) -> Deltas:
    """Left and right knee up by turns, on the spot."""
    deltas: Deltas = {}
    for side, lifted in (("left", np.sin(moment.phase)), ("right", -np.sin(moment.phase))):
        lift = moment.gate * np.maximum(lifted, 0.0)
        deltas |= {
            f"{side}_hip": 55.0 * lift,
            f"{side}_knee": 75.0 * lift,
            f"{side}_raise": -10.0 * lift,
        }
    return deltas


def _kick(moment: Moment) -> Deltas:
    """Swing one leg back, then forward and up."""
    back = keyframes(moment.progress, (0.0, 0.0), (0.35, 1.0), (0.55, 0.0))
    front = keyframes(moment.progress, (0.35, 0.0), (0.6, 1.0), (1.0, 0.0))
    return {
        "right_hip": 68.0 * front - 24.0 * back,
        "right_knee": 52.0 * back + 12.0 * front,
        "right_foot_pitch": 30.0 * front - 40.0 * back,
        "left_hip": 8.0 * (back + front),
        "left_knee": 14.0 * (back + front),
        "pelvis_pitch": -8.0 * front + 6.0 * back,
        "spine_pitch": 14.0 * back,
        "spine_twist": 12.0 * front - 10.0 * back,
        "left_raise": 30.0 * front,
        "right_raise": 26.0 * back,
    }


def _side_kick(moment: Moment) -> Deltas:
    """Swing one leg out to its side, the trunk leaning away."""
    out = keyframes(moment.progress, (0.0, 0.0), (0.5, 1.0), (1.0, 0.0))
    return {
        "right_spread": 45.0 * out,
        "right_knee": 20.0 * out * (1.0 - out),
        "pelvis_lean": -8.0 * out,
        "left_raise": 20.0 * out,
    }


def _hop(moment: Moment) -> Deltas:
    """Bounce on one leg, the other bent behind."""
    bent = 0.5 * moment.gate * (1.0 - np.cos(moment.phase))
    return {
        "right_hip": 10.0 * moment.gate,
        "right_knee": 50.0 * moment.gate,
        "left_hip": 18.0 * bent,
        "left_knee": 35.0 * bent,
    }


def _arm_circle(moment: Moment) -> Deltas:
    """A cone around the sideways axis by one arm; at its top the hand moves forward."""
    around: Deltas = {
        "raise": 85.0 + 32.0 * np.cos(moment.phase),
        "plane": 88.0 - 34.0 * np.sin(moment.phase),
        "inward": np.full_like(moment.phase, 10.0),
        "elbow": np.full_like(moment.phase, 14.0),
    }
    return {f"right_{name}": moment.gate * (angle - _REST[name]) for name, angle in around.items()}


def _arms_swing(lag: float) -> Program:
    """Both hanging arms forward and back, the right one ``lag`` radians behind the left."""

    def performed(moment: Moment) -> Deltas:
        deltas: Deltas = {}
        for side, phase in (("left", moment.phase), ("right", moment.phase - lag)):
            deltas[f"{side}_raise"] = moment.gate * (38.0 * np.sin(phase) - 4.0)
            deltas[f"{side}_plane"] = -_REST["plane"] * moment.gate
            deltas[f"{side}_elbow"] = moment.gate * (8.0 * np.sin(phase) - 6.0)
        return deltas

    return performed


def _clap(moment: Moment) -> Deltas:
    """Palms meet before the chest and part."""
    met = 0.5 - 0.5 * np.cos(moment.phase)
    return _arms((_PALMS_MET, moment.gate * met), (_PALMS_APART, moment.gate * (1.0 - met)))


def _alternate_punches(moment: Moment) -> Deltas:
    """Left and right fist forward by turns, from a guard before the chest."""
    out = 0.5 + 0.5 * np.sin(moment.phase)
    right = _arm("right", (_PUNCH, moment.gate * out), (_GUARD, moment.gate * (1.0 - out)))
    left = _arm("left", (_PUNCH, moment.gate * (1.0 - out)), (_GUARD, moment.gate * out))
    return {"spine_twist": moment.gate * 28.0 * (out - 0.5)} | left | right


def _handshake(moment: Moment) -> Deltas:
    """The right hand out, some shakes, and back."""
    out = keyframes(moment.progress, (0.0, 0.0), (0.3, 1.0), (0.75, 1.0), (1.0, 0.0))
    shaken = out**4 * np.sin(moment.phase)
    arm = _arm("right", (_SHAKE, out))
    arm["right_elbow"] = arm["right_elbow"] + 12.0 * shaken
    arm["right_raise"] = arm["right_raise"] + 4.0 * shaken
    return arm | {"spine_pitch": 8.0 * out, "head_pitch": -4.0 * out, "spine_twist": 8.0 * out}


def _push(moment: Moment) -> Deltas:
    """Both hands back to the chest, then against the other's, with a lunge."""
    drawn = keyframes(moment.progress, (0.0, 0.0), (0.3, 1.0), (0.5, 0.0))
    thrust = keyframes(moment.progress, (0.3, 0.0), (0.5, 1.0), (0.65, 0.9), (1.0, 0.0))
    lunge = {
        "right_hip": 22.0 * thrust,
        "right_knee": 24.0 * thrust,
        "left_hip": -14.0 * thrust,
        "left_foot_pitch": -14.0 * thrust,
        "pelvis_pitch": 8.0 * thrust,
        "spine_pitch": 12.0 * thrust - 8.0 * drawn,
    }
    return lunge | _arms((_GUARD, drawn), (_PUSH, thrust))


def _pushed(moment: Moment) -> Deltas:
    """Thrown back from the waist up, arms flung out, a step back."""
    thrown = keyframes(moment.progress, (0.44, 0.0), (0.58, 1.0), (0.75, 0.8), (1.0, 0.0))
    first = keyframes(moment.progress, (0.46, 0.0), (0.6, 1.0), (0.8, 0.0))
    second = keyframes(moment.progress, (0.62, 0.0), (0.75, 1.0), (0.9, 0.0))
    return {
        "pelvis_pitch": -10.0 * thrown,
        "spine_pitch": -14.0 * thrown,
        "head_pitch": 20.0 * thrown,
        "right_hip": -24.0 * first,
        "right_knee": 6.0 * first,
        "left_hip": 12.0 * first + 6.0 * second,
        "left_knee": 34.0 * first + 40.0 * second,
    } | _arms((_STARTLED, thrown))


ACTIONS: Mapping[str, Action] = {
    "put_on_hat": Action(_put_on_hat, seconds=1.6),
    "pick_up": Action(_pick_up, seconds=1.8),
    "arm_circle": Action(_arm_circle, seconds=1.8, hertz=0.9, aimed=False),
    "arms_swing": Action(_arms_swing(0.0), seconds=1.8, hertz=1.0, aimed=False),
    "alternate_punches": Action(_alternate_punches, seconds=1.8, hertz=1.3, aimed=False),
    "drink": Action(_drink, seconds=1.8),
    "brush_teeth": Action(_brush_teeth, seconds=1.8, hertz=2.2),
    "check_watch": Action(_check_watch, seconds=1.8),
    "wave": Action(_wave, seconds=1.8, hertz=1.6, aimed=False),
    "throw": Action(_throw, seconds=1.5, aimed=False),
    "reach_up": Action(_reach_up, seconds=1.8, handed=False, aimed=False),
    "march": Action(_march, seconds=1.8, hertz=1.0, handed=False, aimed=False),
    "kick": Action(_kick, seconds=1.6, aimed=False),
    "hop": Action(_hop, seconds=1.8, hertz=1.6, aimed=False),
    "handshake": Action(_handshake, seconds=1.8, hertz=2.0, partner=_handshake, handed=False),
    "push": Action(_push, seconds=1.6, partner=_pushed),
}
"""The classes of `synthetic`: each has a motion of its own."""

TWINS: Mapping[str, Action] = {
    "take_off_hat": Action(_backwards(_put_on_hat), seconds=1.6),
    "put_down": Action(_backwards(_pick_up), seconds=1.8),
    "arm_circle_backward": Action(_turned_round(_arm_circle), seconds=1.8, hertz=0.9, aimed=False),
    "arms_swing_alternately": Action(_arms_swing(np.pi), seconds=1.8, hertz=1.0, aimed=False),
    "clap": Action(_clap, seconds=1.8, hertz=1.7),
    "side_kick": Action(_side_kick, seconds=1.6, aimed=False),
}
"""Near-doubles of those: backwards, in another phase, or to another side. The mean over tokens that
the probes read hardly sees order or phase, so they add noise to every row's accuracy alike;
`synthetic-twins` has them.
"""

EVERY = {**ACTIONS, **TWINS}
