"""The doctor's text and JSON: everything that was found, findings first, in 100 columns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.clips import ClipSet
from datasets.doctor.examination import examine, usual_splits
from datasets.formats.npz import write_npz
from harness.errors import UsageError
from harness.pictures.doctor import doctor, doctor_lines, tally
from tests.datasets.made_up_person import four, people, walk
from tests.harness.small_run import registry


def spoilt() -> ClipSet:
    """Clips with a leak between the views, a jump, a missing joint, and long names."""
    one, other = walk(9, 0.01), walk(8, 0.02)
    jumping = walk(40, 0.03)
    jumping[20, 0, 7] += 2
    jumping[10, 0, 6] = 0
    names = [
        f"a_recording_with_a_very_long_name_that_does_not_fit_into_one_line_{index}"
        for index in range(4)
    ]
    clips = people(one, other, one, jumping, view=[1, 1, 2, 2], names=names, label=[0, 1, 1, 1])
    return replace(clips, class_names=("walk", "stroll at ease along the river", "run"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_npz(tmp_path / "people.npz", spoilt())
    return tmp_path / "people.npz"


def test_findings_stand_first_errors_before_notes(file: Path) -> None:
    lines = doctor_lines(doctor(str(file), registry=registry()))
    assert lines[0].startswith(
        "people: 4 clips, 66 frames at 30 fps, 20 joints (kinect20), fingerprint "
    )
    assert lines[1].startswith("findings: 3 errors, ")
    severities = [
        word
        for line in lines
        if (word := line.strip().partition(" ")[0]) in ("error", "warning", "note")
    ]
    assert severities == sorted(severities, key=("error", "warning", "note").index)
    assert severities.count("error") == 3  # two views as test side, and two labels for equal clips
    assert [line for line in lines if line and not line.startswith(" ")][2:] == [
        "counts",
        "frames",
        "body",
        "splits: train + validation / test",
    ]


def test_the_text_fits_its_width_and_says_all_there_is(file: Path) -> None:
    found = doctor(str(file), registry=registry())
    lines = doctor_lines(found)
    text = " ".join(" ".join(line.split()) for line in lines)
    assert max(map(len, lines)) <= 100
    for finding in found.findings:
        assert f"{finding.severity} {finding.text}" in text
    assert "view:*->2: 1 + 1 / 2, 1 test clips leaked" in text
    assert "classes 3: walk 1, stroll at ease along the river 3, run 0" in text
    assert "unit metres (head to foot: 1.85 along the bones, 1.6 upright)" in text
    assert "sides right-handed, not mirrored (100% of frames agree)" in text


def test_a_sound_set_is_said_to_be_one() -> None:
    clips = people(*(walk(8 + place, 0.01) for place in range(20)))
    assert doctor_lines(examine(clips))[1] == "findings: none"


def test_json_has_the_same_and_only_plain_values(file: Path) -> None:
    found = doctor(str(file), registry=registry())
    read = json.loads(found.model_dump_json(), parse_constant=pytest.fail)
    assert read["findings"][0]["severity"] == "error"
    assert read["splits"][2]["leaked_views"] == {"1 -> 2": 1}
    assert read["gaps"]["missing_joints"] == [{"name": "wrist_left", "value": 1.0}]
    assert len(read["findings"]) == len(found.findings)


def test_given_splits_come_first_and_must_be_possible(file: Path) -> None:
    found = doctor(str(file), splits=["view:1->2"], registry=registry())
    assert [split.name for split in found.splits] == ["view:1->2", *usual_splits(spoilt())]
    with pytest.raises(UsageError, match=r"split 'view:1->5': expected values that occur"):
        doctor(str(file), splits=["view:1->5"], registry=registry())


def test_a_set_without_split_or_body_names_is_told_in_words() -> None:
    clips = four(subject=[-1] * 4)
    text = "\n".join(doctor_lines(examine(clips, ["xsub"])))
    assert "split       xsub: cannot be made, see above" in text
    assert "subjects    1: -1 4" in text


def test_many_values_are_summed_up() -> None:
    assert tally({1: 5, 2: 3}) == "2: 1 5, 2 3"
    assert tally(dict.fromkeys(range(20), 1000)) == "20, of 1,000 clips each"
    assert (
        tally({number: 1000 + number for number in range(20)})
        == "20, of 1,000 (0) to 1,019 (19) clips"
    )


def test_the_plot_is_a_picture(file: Path, tmp_path: Path) -> None:
    doctor(str(file), plot=tmp_path / "clips.png", registry=registry())
    with Image.open(tmp_path / "clips.png") as image:
        assert (image.format, image.size) == ("PNG", (1100, 2 * 190 + 160))


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown data set 'synthetik'; did you mean 'synthetic'"):
        doctor("synthetik", registry=registry())
    np.savez(tmp_path / "bad.npz", joints=np.zeros(3))
    with pytest.raises(UsageError, match=r"bad\.npz: offsets: expected an array of this name"):
        doctor(str(tmp_path / "bad.npz"), registry=registry())
