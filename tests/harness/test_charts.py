"""Charts: methods are told apart by every eye, and names lie on nothing."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import harness.report.html
from harness.registry import Registry
from harness.report.charts import PALETTE, Chart, claims_chart, ladder_chart, looks, trade_chart

METHODS = sorted(name for name in Registry().methods if name != "encoder-only")
TOGETHER = 4
"""Methods, the first of the palette, that most pictures show together."""
EYES = {
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
}
"""What is left of linear red, green and blue (Machado, Oliveira and Fernandes 2009, severity 1)."""


def dark() -> tuple[str, ...]:
    """The palette on a dark screen."""
    style = Path(harness.report.html.__file__).parent / "templates" / "style.css"
    rules = style.read_text(encoding="utf-8").partition("(prefers-color-scheme: dark)")[2]
    found = dict(re.findall(r"--(c\d+): (#\w+);", rules.partition("}")[0]))
    return tuple(found[f"c{place}"] for place in range(len(PALETTE)))


def seen(colours: tuple[str, ...], eye: str) -> NDArray[np.float64]:
    """[colours, 3] in Oklab (Ottosson 2020), where distances are what an eye sees."""
    rgb = np.array([[int(one[at : at + 2], 16) / 255 for at in (1, 3, 5)] for one in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    opponents = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    left = np.clip(linear @ np.array(EYES[eye]).T, 0, 1)
    return np.asarray(np.cbrt(left @ cones.T) @ opponents.T)


def nearest(colours: tuple[str, ...], eye: str) -> float:
    """The least distance between any two."""
    return min(float(np.linalg.norm(one - two)) for one, two in combinations(seen(colours, eye), 2))


def test_every_method_has_one_colour_of_its_own_whoever_else_is_there() -> None:
    found = {label: look.colour for label, look in looks(METHODS).items()}
    assert len(set(found.values())) == len(METHODS)
    assert all(looks([name, "mine"])[name].colour == colour for name, colour in found.items())
    assert looks([*METHODS, "mine"])["mine"].colour not in found.values()


@pytest.mark.parametrize("colours", [PALETTE, dark()], ids=["light", "dark"])
@pytest.mark.parametrize("eye", EYES)
def test_colours_are_told_apart_by_every_eye(colours: tuple[str, ...], eye: str) -> None:
    together, all_of_them = (0.15, 0.1) if eye == "usual" else (0.09, 0.07)
    assert nearest(colours[:TOGETHER], eye) > together
    assert nearest(colours, eye) > all_of_them


def points(*accuracies: float) -> pd.DataFrame:
    """One run, evaluated so often."""
    return pd.DataFrame(
        {
            "label": "gfp",
            "seed": 0,
            "address": "gfp-s0",
            "step": range(len(accuracies)),
            "interleaved_seconds": [float(at) for at in range(len(accuracies))],
            "linear": accuracies,
        }
    )


RUNGS = pd.DataFrame(
    {"label": "gfp", "accuracy": [0.4, 0.5], "seconds": [1.0, 2.0], "reached": 2, "runs": 2}
)


CARDS = pd.DataFrame(
    {
        "claim": ["gfp-6.2x", "gfp-6.2x", "amr-8.1x"],
        "statement": "faster",
        "method": ["gfp", "gfp", "amr"],
        "baseline": "mamp",
        "trained": ["as published", "every switch on", "as published"],
        "claimed": [6.2, 6.2, 8.1],
        "measured": [4.1, 1.4, None],  # one could not be measured
        "measured_low": [3.9, 1.2, None],
        "measured_high": [4.3, 1.7, None],
        "flop_ratio": [4.5, 4.5, 5.0],
        "measured_noise": False,
        "verdict": ["not supported", "in doubt", "not supported"],
        "hardware": "one RTX 4090",
        "device": "NVIDIA H200",
        "tested": True,
        "measurement": "speed-1",
    }
)


def test_a_claim_stands_beside_what_was_measured_of_it() -> None:
    chart = claims_chart(CARDS)
    assert list(dict.fromkeys(tip.text for tip in chart.tips.values())) == [
        "gfp-6.2x: faster; one RTX 4090",
        "gfp: FLOPs predict 4.50x",
        "gfp-6.2x, as published: 4.10x [3.90, 4.30]; not supported",
        "gfp-6.2x, every switch on: 1.40x [1.20, 1.70]; in doubt",
        "amr-8.1x: faster; one RTX 4090",
        "amr: FLOPs predict 5.00x",
    ]
    (axes,) = chart.figure.axes
    assert [text.get_text() for text in axes.texts] == ["4.10x [3.90, 4.30]", "in doubt"]
    assert axes.get_xlabel().endswith("measured on NVIDIA H200")
    elsewhere = claims_chart(CARDS.assign(tested=False, method="gfp:tau=0.9"))
    assert elsewhere.figure.axes[0].get_xlabel().endswith("which tests none")
    low, high = axes.get_xlim()
    assert low < 1
    assert high > 8.1


@pytest.mark.parametrize(
    "chart",
    [
        claims_chart(CARDS),
        trade_chart(points(0.5, 0.53, 0.54), controls={"raw-pca": 0.54, "random-init": 0.538}),
        ladder_chart(RUNGS, {"target": 0.5, "untrained": 0.49}),
    ],
    ids=lambda chart: chart.name,
)
def test_names_of_lines_across_lie_on_nothing(chart: Chart) -> None:
    (axes,) = chart.figure.axes
    chart.figure.canvas.draw()
    inside, page = axes.get_window_extent(), chart.figure.bbox
    boxes = [text.get_window_extent() for text in axes.texts]
    assert boxes
    assert all(inside.x1 <= box.x0 and box.x1 <= page.x1 for box in boxes)
    assert not any(one.overlaps(two) for one, two in combinations(boxes, 2))
