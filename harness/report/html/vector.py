"""A chart as part of a page: SVG that needs no style of its own, follows light and dark, and leads
to records; and as a file of its own that follows light and dark.

The page's content security policy forbids style attributes, so that what matplotlib writes there
becomes attributes of its own; colours become variables of the page's style, and marks get titles
and links.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from markupsafe import Markup

from harness.report.charts import FAINT, INK, MUTED, PALETTE, PHASES, Chart, Tip, as_svg

_COLOURS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    FAINT: "var(--faint)",
    "#ffffff": "var(--paper)",
    **{colour: f"var(--c{place})" for place, colour in enumerate(PALETTE)},
    **{colour: f"var(--p{place})" for place, colour in enumerate(PHASES)},
}
"""By what a chart is drawn in."""
_KEPT = frozenset(
    {
        "fill",
        "stroke",
        "stroke-width",
        "stroke-dasharray",
        "stroke-opacity",
        "fill-opacity",
        "opacity",
        "text-anchor",
        "font-size",
        "d",
        "x",
        "y",
        "transform",
        "href",
        "points",
        "viewBox",
        "id",
        "width",
        "height",
    }
)
"""Attributes that a page needs of a drawing."""
_ROUNDED = frozenset({"d", "x", "y", "transform", "points", "stroke-width", "width", "height"})
_NUMBER = re.compile(r"-?\d+\.\d+")
_AROUND_LETTER = re.compile(r" ?([A-Za-z]) ?")
_FONT_SIZE = re.compile(r"([\d.]+)px")
_STYLE = Path(__file__).parent / "templates" / "style.css"


def inline(chart: Chart, scope: str, links: Mapping[str, str]) -> Markup:
    """The chart as an element of a page.

    Args:
        scope: begins the names of its parts, which are the page's only once.
        links: where in the page a record stands, by its address.
    """
    root = ET.fromstring(as_svg(chart))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    _drop(root, ("metadata", "style", "clipPath"))
    used = dict.fromkeys(re.findall(r"#([\w-]+)", ET.tostring(root, encoding="unicode")))
    names = {name: f"{scope}-{number}" for number, name in enumerate(used)}
    for element in root.iter():
        _plain(element, names, chart.tips)
    _tell(root, chart.tips, links)
    _unwrap(root)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "class": "chart",
        "role": "img",
        "aria-label": chart.title,
    }
    return Markup(ET.tostring(root, encoding="unicode"))  # ElementTree escaped every text in it


def alone(chart: Chart) -> bytes:
    """The chart as a file, with text as paths; on a dark screen in the report's dark colours."""
    drawing = as_svg(chart, text_as_paths=True)
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in _dark_colours().items()
        for what in ("fill", "stroke")
        if f"{what}: {light}".encode() in drawing
    )
    style = f"<style>@media screen and (prefers-color-scheme: dark){{{rules}}}</style>\n </defs>"
    return drawing.replace(b"</defs>", style.encode(), 1)


def _dark_colours() -> dict[str, str]:
    """What a chart is drawn in, and what the page's style makes of it on a dark screen."""
    _, _, dark = _STYLE.read_text(encoding="utf-8").partition("(prefers-color-scheme: dark)")
    values = dict(re.findall(r"--(\w+): (#\w+);", dark.partition("}")[0]))
    names = {light: use.removeprefix("var(--").removesuffix(")") for light, use in _COLOURS.items()}
    return {
        light: values["ink" if name == "currentColor" else name] for light, name in names.items()
    }


def _drop(root: ET.Element, tags: Sequence[str]) -> None:
    """What a page refuses or does not need; whatever is drawn lies inside its axes."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in tags:
                parent.remove(child)


def _plain(element: ET.Element, names: Mapping[str, str], tips: Mapping[str, Tip]) -> None:
    """Attributes instead of styles, and of those the ones that are needed."""
    found = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    for declaration in found.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font" and (size := _FONT_SIZE.search(value)):
            found["font-size"] = size[1]
        elif name:
            found[name] = value
    if (name := found.get("id", "")) not in tips:
        found["id"] = names.get(name, "")
    if (
        element.tag == "use" and found.get("stroke") == MUTED
    ):  # a tick, whose own shape has its colour
        found = {name: found[name] for name in ("x", "y", "href") if name in found}
    if element.tag == "text" and found.get("fill") == INK:
        del found["fill"]  # the page's own
    kept = {name: _value(name, value, names) for name, value in found.items() if name in _KEPT}
    element.attrib = {name: value for name, value in kept.items() if value}
    element.text, element.tail = element.text if element.tag == "text" else None, None


def _value(name: str, value: str, names: Mapping[str, str]) -> str:
    """The value of an attribute; empty where it may be left out."""
    if name in ("fill", "stroke"):
        return _COLOURS.get(value, value)
    if name == "href":
        return f"#{names[value.removeprefix('#')]}"
    if name == "transform" and value.startswith("rotate(-0 "):
        return ""
    if name in _ROUNDED:
        value = _NUMBER.sub(lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), value)
        return _AROUND_LETTER.sub(r"\1", value) if name == "d" else value
    return value


def _tell(root: ET.Element, tips: Mapping[str, Tip], links: Mapping[str, str]) -> None:
    """Titles for marks, and links to the records that they come from;
    neighbours that say the same share one.
    """
    for parent in list(root.iter()):
        told, group = None, parent
        for element in list(parent):
            tip = tips.get(element.get("id", ""))
            if tip is None:
                told = None
                continue
            del element.attrib["id"]
            place = list(parent).index(element)
            parent.remove(element)
            if tip != told:
                told, group = tip, ET.Element("g", {"class": "tip"})
                ET.SubElement(group, "title").text = tip.text
                target = links.get(tip.record)
                outer = ET.Element("a", {"href": f"#{target}"}) if target else group
                if target:
                    outer.append(group)
                parent.insert(place, outer)
            group.append(element)


def _unwrap(root: ET.Element) -> None:
    """Groups that say nothing give their children to their parents,
    and what paints nothing goes.
    """
    for parent in reversed(list(root.iter())):  # children before their parents
        for place in reversed(range(len(parent))):
            child = parent[place]
            if (child.tag == "g" and not child.attrib) or (child.tag == "defs" and not len(child)):
                parent.remove(child)
                for offset, grandchild in enumerate(list(child)):
                    parent.insert(place + offset, grandchild)
            elif (
                child.tag == "path" and child.get("fill") == "none" and "stroke" not in child.attrib
            ):
                parent.remove(child)
