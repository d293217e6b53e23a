"""Stick figures of a run's pictures: what its method saw of a clip,
and what it made of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from markupsafe import Markup

from harness.records.pictures import ClipPicture, Pose, RunPictures

_ACROSS, _DOWN, _ROOM = 62.0, 78.0, 14.0
"""One figure's cell, and what stands above a row, in units of the drawing."""
_Point = tuple[float, float]


def drawn(pictures: RunPictures, clip: ClipPicture) -> Markup:
    """The clip at its moments: seen tokens filled, masked ones hollow; below,
    the reconstruction over the original.
    """
    rows = 1 if clip.reconstruction is None else 2
    width, height = _ACROSS * max(len(clip.seconds), 1), rows * (_DOWN + _ROOM)
    root = ET.Element(
        "svg", {"viewBox": f"0 0 {width:g} {height:g}", "class": "chart", "role": "img"}
    )
    root.set("aria-label", "tokens that the method saw, and its reconstruction")
    scale = _Scale(
        [point for pose in clip.original for body in pose if _there(body) for point in body]
    )
    _words(root, 0, "what it saw (filled)")
    if clip.reconstruction is not None:
        _words(root, _DOWN + _ROOM, "what it made of it (grey: the clip)")
    for moment, original in enumerate(clip.original):
        places = scale.placed(original, moment, 0)
        _bones(root, places, pictures.bones, "var(--muted)", 1.2)
        seen = [
            tokens
            for body, tokens in zip(original, clip.visible[moment], strict=True)
            if _there(body)
        ]
        _tokens(root, places, seen)
        if clip.reconstruction is not None:
            _bones(root, scale.placed(original, moment, 1), pictures.bones, "var(--line)", 1.6)
            _bones(
                root,
                scale.placed(clip.reconstruction[moment], moment, 1),
                pictures.bones,
                "var(--c0)",
                1.2,
            )
    return Markup(ET.tostring(root, encoding="unicode"))  # numbers, and words of this module


def whole(pictures: RunPictures, clip: ClipPicture) -> bool:
    """A clip has at every moment the same bodies, joints and tokens in all its parts,
    and every bone its joints.
    """
    parts: list[Sequence[Sequence[Sequence[object]]]] = [clip.original, clip.visible]
    if clip.reconstruction is not None:
        parts.append(clip.reconstruction)
    shapes = [[[len(body) for body in pose] for pose in part] for part in parts]
    joints = 1 + max((joint for bone in pictures.bones for joint in bone), default=0)
    fewest = min((count for pose in shapes[0] for count in pose), default=joints)
    same = all(shape == shapes[0] for shape in shapes) and len(clip.original) == len(clip.seconds)
    return same and fewest >= joints


class _Scale:
    """From metres to a cell; one scale for a whole clip."""

    def __init__(self, points: Sequence[_Point]) -> None:
        rights, ups = [right for right, _ in points] or [0.0], [up for _, up in points] or [0.0]
        self.middle = (min(rights) + max(rights)) / 2, (min(ups) + max(ups)) / 2
        wide, high = max(rights) - min(rights), max(ups) - min(ups)
        self.size = 0.9 * min(_ACROSS / max(wide, 1e-6), _DOWN / max(high, 1e-6))

    def placed(self, pose: Pose, moment: int, row: int) -> list[list[_Point]]:
        """Bodies that are there, where their joints are in the drawing, inside their cell."""
        return [
            [self._place(point, moment, row) for point in body] for body in pose if _there(body)
        ]

    def _place(self, point: _Point, moment: int, row: int) -> _Point:
        right = _ACROSS / 2 + self.size * (point[0] - self.middle[0])
        down = _DOWN / 2 - self.size * (point[1] - self.middle[1])
        return (
            _ACROSS * moment + min(max(right, 1.0), _ACROSS - 1),
            (_DOWN + _ROOM) * row + _ROOM + min(max(down, 1.0), _DOWN - 1),
        )


def _there(body: Sequence[_Point]) -> bool:
    """Joints of an absent body all lie in one place."""
    return any(tuple(point) != tuple(body[0]) for point in body)


def _words(root: ET.Element, above: float, text: str) -> None:
    words = ET.SubElement(
        root, "text", {"x": "2", "y": f"{above + 9:g}", "font-size": "8", "fill": "var(--muted)"}
    )
    words.text = text


def _bones(
    root: ET.Element,
    bodies: Iterable[Sequence[_Point]],
    bones: Sequence[tuple[int, int]],
    colour: str,
    width: float,
) -> None:
    lines = [f"M{_at(body[one])}L{_at(body[other])}" for body in bodies for one, other in bones]
    _path(root, lines, colour, width)


def _tokens(
    root: ET.Element, bodies: Sequence[Sequence[_Point]], visible: Sequence[Sequence[bool]]
) -> None:
    """Dots are lines of no length with round ends: filled ones, and grey ones with a hole."""
    dots: dict[bool, list[str]] = {True: [], False: []}
    for body, seen in zip(bodies, visible, strict=True):
        for point, filled in zip(body, seen, strict=True):
            dots[filled].append(f"M{_at(point)}h0")
    _path(root, dots[False], "var(--muted)", 3.4)
    _path(root, dots[False], "var(--paper)", 2.0)
    _path(root, dots[True], "var(--c2)", 4.2)


def _path(root: ET.Element, lines: Sequence[str], colour: str, width: float) -> None:
    if lines:
        values = {
            "d": "".join(lines),
            "stroke": colour,
            "stroke-width": f"{width:g}",
            "stroke-linecap": "round",
        }
        ET.SubElement(root, "path", {**values, "fill": "none"})


def _at(point: _Point) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"
