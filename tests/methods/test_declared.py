"""What differs from released code, or was chosen where papers say nothing,
stands in the words that a user can list.
"""

from __future__ import annotations

import pytest

from datasets import raw
from harness.registry import Registry
from harness.training import deviations

METHODS = Registry().methods
OF_METHODS = {
    ("skeleton2vec", "deviations"): (
        "decoder=repaired",
        "decoder=as-released",
        "67af323",
        "no LayerScale",
        "the teacher's first targets",
        "(truncated) normal distribution with sigma 0.02",
        "positions are weight-decayed",
        "train.warmup=0.025",
    ),
    ("gfp", "choices"): (
        "no linear layer between encoder and decoder",
        "decoder_projection=true",
        "float32 whatever the run",
        "covariance=autocast",
        "6 % of a step's FLOPs",
        "those of the batch",
        "empty bodies",
        "data.include_empty_bodies=true",
    ),
    ("sjepa", "choices"): (
        "final layer norm",
        "the centre starts at zero",
        "the centre moves after the step",
    ),
    ("sjepa", "deviations"): ("test crop of the middle 95 %", "crop and rotation instead of"),
}
OF_ALL = (
    "one crop and one rotation per body sequence",
    "mean over its present bodies",
    "TF32",
    "absent bodies",
)
OF_DATA = {
    "ntu60": ("hand tips and thumbs (joints 22 to 25)", "CTR-GCN"),
    "ntu120": ("hand tips and thumbs (joints 22 to 25)", "copy the body"),
    "pkummd1": ("centred on the first body's spine", "end after 300"),
    "pkummd2": ("centred on the first body's spine", "end after 300"),
}


@pytest.mark.parametrize(("name", "where"), OF_METHODS)
def test_a_method_declares_where_it_differs(name: str, where: str) -> None:
    said = " ".join(getattr(METHODS[name].about, where))
    assert [words for words in OF_METHODS[name, where] if words not in said] == []


def test_what_all_methods_share_declares_where_it_differs() -> None:
    said = " ".join(deviations.DEVIATIONS)
    assert [words for words in OF_ALL if words not in said] == []


@pytest.mark.parametrize("name", OF_DATA)
def test_a_data_set_declares_where_it_differs(name: str) -> None:
    said = " ".join(raw.DEVIATIONS[name])
    assert [words for words in OF_DATA[name] if words not in said] == []
