"""Splits: who trains, selects and tests; leaks; class labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datasets.clips import ClipSet
from datasets.errors import DataError
from datasets.splits import Split, length_notes, make_labels, make_split, swapped
from tests.datasets.made_up import clip_set, needs_recordings, recorded

SUBJECTS = (1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6)
VIEWS = (1, 2, 3) * 4
PLACES = ("hall", "yard") * 6


def twelve(**columns: Any) -> ClipSet:
    """12 clips of 2 frames: two of each of 6 subjects, 3 views, labels alternating."""
    standard = {
        "subject": SUBJECTS,
        "view": VIEWS,
        "place": PLACES,
        "height": np.linspace(1, 2, 12),
    }
    return clip_set((2,) * 12, **(standard | columns))


def twins(clips: ClipSet, *pairs: tuple[int, int]) -> ClipSet:
    """The same clips with the joints of each pair's first clip in its second."""
    joints = clips.joints.copy()
    for first, second in pairs:
        joints[2 * second : 2 * second + 2] = joints[2 * first : 2 * first + 2]
    return replace(clips, joints=joints)


def training_side(split: Split) -> list[int]:
    return sorted([*split.train.tolist(), *split.validation.tolist()])


def refusal(clips: ClipSet, spec: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        make_split(clips, spec, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"made_up: split {spec!r}: ")
    return message.removeprefix(f"made_up: split {spec!r}: ")


# --- the two sides ---


def test_cross_subject_trains_on_odd_and_tests_on_even_subjects() -> None:
    split = make_split(twelve(), "xsub")
    assert split.name == "xsub"
    assert training_side(split) == [0, 1, 4, 5, 8, 9]
    assert split.test.tolist() == [2, 3, 6, 7, 10, 11]
    assert {part.dtype for part in (split.train, split.validation, split.test)} == {
        np.dtype("int64")
    }


def test_a_star_takes_what_the_other_side_leaves() -> None:
    split = make_split(twelve(), "subject:2,5->*")
    assert training_side(split) == [2, 3, 8, 9]
    assert split.test.tolist() == [0, 1, 4, 5, 6, 7, 10, 11]
    assert make_split(twelve(), "view:*->3", validation=0).train.tolist() == [
        0,
        1,
        3,
        4,
        6,
        7,
        9,
        10,
    ]
    assert refusal(twelve(), "view:1-3->*").startswith("expected values of 'view' for both sides")


def test_a_star_takes_no_unknown_subject() -> None:
    clips = twelve(subject=np.array([-1, *SUBJECTS[1:]]))
    assert 0 not in make_split(clips, "subject:2,5->*").test


def test_a_data_sets_own_splits_go_by_name() -> None:
    clips = replace(twelve(), splits={"xsub": "subject:1,2,77->*", "yards": "place:hall->yard"})
    split = make_split(clips, "xsub", validation=0)
    assert split.name == "xsub"
    assert split.train.tolist() == [0, 1, 2, 3]  # subject 77 is not in this part of the data set
    assert make_split(clips, "yards", validation=0).test.tolist() == [1, 3, 5, 7, 9, 11]
    assert "77" in refusal(
        clips, "subject:77->1"
    )  # asked for in words, a missing value is a mistake


def test_a_split_without_repeats_drops_leaks() -> None:
    clips = replace(twins(twelve(), (0, 2)), splits={"clean": "subject:1,3->* without repeats"})
    assert make_split(clips, "clean", validation=0).train.tolist() == [1, 4, 5]
    assert make_split(clips, "subject:1,3->*", validation=0).train.tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize("spec", ["", "xsub", "view:1,2->3", "subject:1,3->* without repeats"])
def test_a_swapped_split_has_its_sides_exchanged(spec: str) -> None:
    clips = replace(twelve(), default_split="xsub")
    plain, other = make_split(clips, spec), make_split(clips, swapped(spec))
    assert other.name == f"{plain.name} swapped"
    assert (training_side(other), other.test.tolist()) == (
        plain.test.tolist(),
        training_side(plain),
    )
    assert swapped(swapped(spec)) == spec
    assert make_split(clips, swapped(other.name)).test.tolist() == plain.test.tolist()


def test_cross_view_trains_on_views_2_and_3_and_tests_on_1() -> None:
    split = make_split(twelve(), "xview")
    assert training_side(split) == [1, 2, 4, 5, 7, 8, 10, 11]
    assert split.test.tolist() == [0, 3, 6, 9]


def test_an_empty_spec_is_the_clip_sets_own() -> None:
    split = make_split(replace(twelve(), default_split="view:1->2"))
    assert split.name == "view:1->2"
    assert split.test.tolist() == [1, 4, 7, 10]


@pytest.mark.parametrize(
    ("spec", "trained", "tested"),
    [
        ("subject:1,3->2", [0, 1, 4, 5], [2, 3]),
        ("subject:1-3->4-6", [0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]),
        ("subject:1-2,6->5", [0, 1, 2, 3, 10, 11], [8, 9]),
        ("subject:1-2->5-99", [0, 1, 2, 3], [8, 9, 10, 11]),
        (" view : 1 , 2 -> 3 ", [0, 1, 3, 4, 6, 7, 9, 10], [2, 5, 8, 11]),
        ("place:yard->hall", [1, 3, 5, 7, 9, 11], [0, 2, 4, 6, 8, 10]),
        ("indoors:1->0", [0, 1, 2], [3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ],
)
def test_column_splits(spec: str, trained: list[int], tested: list[int]) -> None:
    split = make_split(twelve(indoors=np.arange(12) < 3), spec)
    assert training_side(split) == trained
    assert split.test.tolist() == tested


def test_clips_on_neither_side_are_noted() -> None:
    assert "4 clips are on neither side (view 3)" in make_split(twelve(), "view:1->2").notes


def test_unknown_column_is_named_with_the_nearest() -> None:
    said = refusal(twelve(), "viev:1->2")
    assert (
        "found 'viev'; did you mean 'view'? the columns are label, subject, view, place, height"
        in said
    )


def test_values_that_do_not_occur_are_named_with_those_that_do() -> None:
    assert "values that occur in 'view', found '4'; these occur: 1, 2, 3" in refusal(
        twelve(), "view:1,4->2"
    )


def test_strings_that_do_not_occur_are_named_with_those_that_do() -> None:
    assert "found 'attic'; these occur: hall, yard" in refusal(twelve(), "place:hall->attic")


def test_a_range_without_any_value_is_refused() -> None:
    assert "found '7-9'; these occur: 1, 2, 3" in refusal(twelve(), "view:1->7-9")


def test_an_unknown_subject_cannot_be_on_a_side() -> None:
    clips = twelve(subject=(-1, *SUBJECTS[1:]))
    assert "found '-1'; these occur: 1, 2" in refusal(clips, "subject:-1,1->2")


def test_cross_view_without_a_third_view_is_refused() -> None:
    assert "found '3'; these occur: 1, 2" in refusal(twelve(view=(1, 2) * 6), "xview")


def test_a_value_on_both_sides_is_refused() -> None:
    assert "found 2, 3 on both; give every value to one side" in refusal(
        twelve(), "subject:1-3->2-4"
    )


@pytest.mark.parametrize(
    ("subjects", "side"),
    [([2, 4] * 6, "training side (odd subjects)"), ([1, 3] * 6, "test side (even subjects)")],
)
def test_an_empty_side_is_refused(subjects: list[int], side: str) -> None:
    said = refusal(twelve(subject=subjects), "xsub")
    assert (
        f"expected clips on the {side}, found none; the known subjects are {subjects[0]},"
        f" {subjects[1]}" in said
    )


@pytest.mark.parametrize("spec", ["view", "view:1", "view:1->", "->2", "1->2", ":1->2", "view:1>2"])
def test_bad_grammar_is_answered_with_an_example(spec: str) -> None:
    said = refusal(twelve(), spec)
    assert "expected xsub, xview or COLUMN:VALUES->VALUES" in said
    assert said.endswith("for example view:1,2->3 or subject:1-3->4-6")


def unknown(**columns: Any) -> ClipSet:
    """12 clips of unknown subjects, and no columns beside but those that are given."""
    return clip_set((2,) * 12, subject=(-1,) * 12, **columns)


@pytest.mark.parametrize(
    ("columns", "example"),
    [
        ({"repetition": (1, 2, 3, 4) * 3}, "repetition:1,2->3,4"),
        ({"day": np.arange(12) // 2}, "day:0-2->3-5"),
        ({"take": np.arange(12), "indoors": np.arange(12) < 3}, "indoors:0->1"),
        ({"place": PLACES, "size": np.linspace(1, 2, 12)}, "place:hall->yard"),
        ({"town": [*"abcdef"] * 2}, "town:*->a"),
        ({"place": ("a b", "c,d") * 6, "view": VIEWS}, "view:1,2->3"),
    ],
)
def test_the_example_of_a_split_is_one_of_these_clips(
    columns: dict[str, Any], example: str
) -> None:
    clips = unknown(**columns)
    assert refusal(clips, "xsub").endswith(
        f"no subject is known; use another split, for example {example}, without"
        " validation (`--set data.validation=0`)"
    )
    assert len(make_split(clips, example, validation=0).test)


def test_clips_that_no_column_divides_need_another_column() -> None:
    assert "use another split, for example view:1,2->3 of a column view to be added" in refusal(
        unknown(), "xsub"
    )


def test_cross_view_of_clips_without_views_names_the_columns() -> None:
    clips = unknown(repetition=(1, 2, 3, 4) * 3)
    assert refusal(clips, "xview") == (
        "expected a column 'view' (view:2,3->1), found the columns label, subject, repetition;"
        " name one, for example repetition:1,2->3,4"
    )
    assert "expected xsub or COLUMN:VALUES->VALUES" in refusal(clips, "view")


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    assert "did you mean 'xsub'?" in refusal(twelve(), "x-sub")


@pytest.mark.parametrize("item", ["one", "1.5", "", "3-1", "2->3"])
def test_values_of_a_number_column_are_numbers(item: str) -> None:
    said = refusal(twelve(), f"view:{item},1->3")
    assert "expected a whole number or a range such as 1-4 for 'view'" in said


def test_a_column_of_measurements_cannot_split() -> None:
    assert "expected distinct values in 'height', found float64 numbers" in refusal(
        twelve(), "height:1->2"
    )


# --- the validation part ---


@pytest.mark.parametrize("spec", ["xsub", "xview", "view:1,2->3"])
def test_validation_shares_no_subject_with_train_and_parts_are_disjoint(spec: str) -> None:
    clips = twelve()
    split = make_split(clips, spec)
    subjects = clips.columns["subject"]
    assert not set(subjects[split.train]) & set(subjects[split.validation])
    parts = np.concatenate([split.train, split.validation, split.test])
    assert len(np.unique(parts)) == len(parts)
    for part in (split.train, split.validation, split.test):
        assert len(part) > 0
        assert (np.diff(part) > 0).all()


@pytest.mark.parametrize(("share", "count"), [(0.05, 1), (0.2, 1), (0.34, 2), (0.5, 3), (0.99, 5)])
def test_share_is_of_the_training_subjects_at_least_one_and_never_all(
    share: float, count: int
) -> None:
    clips = twelve()
    split = make_split(clips, "view:1,2->3", validation=share)
    assert len(np.unique(clips.columns["subject"][split.validation])) == count


def test_held_out_subjects_are_fixed_and_noted() -> None:
    first, second = (make_split(twelve(), "view:1,2->3", validation=0.34) for _ in range(2))
    np.testing.assert_array_equal(first.validation, second.validation)
    held_out = sorted(set(np.array(SUBJECTS)[first.validation].tolist()))
    noted = (
        f"validation holds out 2 of 8 training-side clips, subjects: {held_out[0]}, {held_out[1]}"
    )
    assert noted in first.notes


def test_held_out_subjects_follow_the_documented_permutation() -> None:
    split = make_split(twelve(), "view:1,2->3", validation=0.34)
    chosen = np.random.RandomState(0).permutation([1, 2, 3, 4, 5, 6])[:2]
    assert set(np.array(SUBJECTS)[split.validation].tolist()) == set(chosen.tolist())


def test_held_out_subjects_do_not_depend_on_the_order_of_clips() -> None:
    backwards = make_split(twelve(subject=SUBJECTS[::-1]), "xsub")
    forwards = make_split(twelve(), "xsub")
    assert set(np.array(SUBJECTS[::-1])[backwards.validation]) == set(
        np.array(SUBJECTS)[forwards.validation]
    )


def test_no_validation_part_is_noted() -> None:
    split = make_split(twelve(), "xsub", validation=0)
    assert len(split.validation) == 0
    assert split.train.tolist() == [0, 1, 4, 5, 8, 9]
    assert any(note.startswith("no validation part") for note in split.notes)


def test_one_known_training_subject_asks_for_validation_0() -> None:
    said = refusal(twelve(), "subject:1->2,3")
    assert "found 1 (1)" in said
    assert "`--set data.validation=0`" in said
    assert make_split(twelve(), "subject:1->2,3", validation=0).train.tolist() == [0, 1]


@pytest.mark.parametrize("share", [-0.1, 1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    assert "a validation share from 0 to below 1" in refusal(twelve(), "xsub", validation=share)


# --- subjects that are not known ---


@pytest.mark.parametrize("spec", ["xsub", "subject:1,3,5->2,4,6"])
def test_unknown_subjects_are_left_out_of_subject_splits(spec: str) -> None:
    split = make_split(twelve(subject=(-1, *SUBJECTS[1:11], -1)), spec)
    assert training_side(split) == [1, 4, 5, 8, 9]
    assert split.test.tolist() == [2, 3, 6, 7, 10]
    assert split.notes[0] == "2 clips of unknown subject (-1) are left out of both sides"
    assert not [note for note in split.notes if "neither side" in note]


@pytest.mark.parametrize("share", [0.2, 0.99])
def test_unknown_subjects_train_and_test_but_never_validate(share: float) -> None:
    split = make_split(twelve(subject=(-1, -1, -1, *SUBJECTS[3:])), "view:1,2->3", validation=share)
    assert {0, 1} <= set(split.train.tolist())
    assert 2 in split.test
    assert split.notes[0] == "3 clips of unknown subject (-1), never in validation: 2 train, 1 test"


def test_only_unknown_subjects_have_no_validation_part() -> None:
    assert "found 0 (none)" in refusal(twelve(subject=[-1] * 12), "view:1,2->3")


# --- leaks ---


def test_repeated_clips_on_both_sides_are_paired_and_noted() -> None:
    split = make_split(twins(twelve(), (0, 2), (0, 5), (1, 3)), "view:1,2->3")
    assert split.leaked.tolist() == [[0, 2], [0, 5]]
    noted = (
        "2 of 4 test clips have exactly the joints of a clip on the training side; drop_leaks takes"
        " those out"
    )
    assert noted in split.notes


def test_dropped_leaks_leave_the_training_side_only() -> None:
    clips = twins(twelve(), (0, 2), (0, 5), (7, 8))
    whole, clean = (make_split(clips, "view:1,2->3", drop_leaks=drop) for drop in (False, True))
    assert training_side(clean) == [clip for clip in training_side(whole) if clip not in {0, 7}]
    assert set(clean.validation) <= set(whole.validation)
    np.testing.assert_array_equal(clean.test, whole.test)
    assert clean.leaked.shape == (0, 2)
    assert any(
        note.startswith("3 of 4 test clips")
        and note.endswith("the 2 on the training side are dropped")
        for note in clean.notes
    )


def test_without_leaks_nothing_is_said_of_them() -> None:
    split = make_split(twelve(), "view:1,2->3", drop_leaks=True)
    assert split.leaked.shape == (0, 2)
    assert not [note for note in split.notes if "joints" in note]


def test_a_part_that_only_had_leaks_is_refused() -> None:
    clips = twins(twelve(), (0, 2), (1, 3), (4, 6), (5, 7))
    said = refusal(clips, "subject:1,3->2,4", drop_leaks=True)
    assert "expected clips left in train, found none without repeated ones" in said


# --- classes ---


def test_classes_without_training_or_validation_clips_are_noted() -> None:
    clips = twelve(label=[0] * 11 + [1])
    notes = make_split(clips, "subject:1-5->6").notes
    assert "1 of 2 classes have no training clip: bow" in notes
    assert "1 of 2 classes have no validation clip: bow" in notes


def test_class_notes_follow_the_labels_in_use() -> None:
    clips = twelve()
    notes = make_split(clips, "view:1,2->3", labels=make_labels(clips, "view")).notes
    assert "1 of 3 classes have no training clip: view=3" in notes


def test_the_default_labels_are_the_label_column() -> None:
    clips = twelve()
    values, names = make_labels(clips)
    np.testing.assert_array_equal(values, clips.columns["label"])
    assert names == ("wave", "bow")


def test_other_columns_have_a_class_per_value_in_order() -> None:
    values, names = make_labels(twelve(view=(30, 10, 20) * 4), "view")
    assert names == ("view=10", "view=20", "view=30")
    assert values.tolist() == [2, 0, 1] * 4
    assert values.dtype == np.int64


def test_columns_of_strings_and_truth_values_are_classes() -> None:
    values, names = make_labels(twelve(indoors=np.arange(12) < 3), "place,indoors")
    assert names == (
        "place=hall / indoors=0",
        "place=hall / indoors=1",
        "place=yard / indoors=0",
        "place=yard / indoors=1",
    )
    assert values.tolist() == [1, 3, 1, 2, 0, 2, 0, 2, 0, 2, 0, 2]


def test_combinations_that_do_not_occur_are_no_classes() -> None:
    values, names = make_labels(twelve(view=[7] * 11 + [8]), "label, view")
    assert names == ("wave / view=7", "bow / view=7", "bow / view=8")
    assert values.tolist() == [0, 1] * 5 + [0, 2]


def test_unknown_label_column_is_named_with_the_nearest() -> None:
    with pytest.raises(
        DataError, match=r"made_up: labels 'label,correkt': .*did you mean 'correct'\?"
    ):
        make_labels(twelve(correct=[0, 1] * 6), "label,correkt")


def test_measurements_are_no_classes() -> None:
    with pytest.raises(
        DataError, match="expected distinct values in 'height', found float64 numbers"
    ):
        make_labels(twelve(), "height")


# --- lengths ---


def test_short_and_single_frame_clips_are_counted() -> None:
    clips = clip_set((1, 3, 4, 5, 1))
    assert length_notes(clips, patch=4) == (
        "3 of 5 clips are shorter than one patch of 4 frames",
        "2 of 5 clips have a single frame, and so no motion",
    )
    assert length_notes(clip_set((4, 4)), patch=4) == ()


# --- recorded data ---


@needs_recordings
@pytest.mark.parametrize(
    ("name", "spec", "drop", "trained", "tested"),
    [
        ("msrc12", "xsub", False, 3102, 3124),
        ("uiprmd", "xsub", False, 1000, 1000),
        ("nwucla", "view:1,2->3", False, 1020, 464),
        ("nwucla", "view:1,2->3", True, 925, 464),
        ("nwucla", "xsub", False, 724, 760),
        ("utdmhad", "xsub", False, 431, 430),
    ],
)
def test_recorded_splits_count_as_the_readme_says(
    name: str, spec: str, drop: bool, trained: int, tested: int
) -> None:
    split = make_split(recorded(name), spec, drop_leaks=drop)
    assert (len(training_side(split)), len(split.test)) == (trained, tested)


@needs_recordings
def test_nwucla_leaks_are_its_view_2_twins() -> None:
    clips = recorded("nwucla")
    split = make_split(clips, "view:1,2->3")
    twin, view = clips.columns["twin"], clips.columns["view"]
    expected = [[clip, twin[clip]] for clip in np.flatnonzero((twin >= 0) & (view == 2))]
    np.testing.assert_array_equal(split.leaked, expected)
    assert any(note.startswith("95 of 464 test clips") for note in split.notes)


@needs_recordings
def test_uiprmd_has_20_classes_of_exercise_and_correctness() -> None:
    values, names = make_labels(recorded("uiprmd"), "label,correct")
    assert len(names) == 20
    assert np.bincount(values).tolist() == [100] * 20
    assert names[:2] == ("deep squat / correct=0", "deep squat / correct=1")


@needs_recordings
def test_nwucla_has_four_clips_shorter_than_8_frames() -> None:
    assert length_notes(recorded("nwucla"), patch=8)[0].startswith("4 of 1484 clips")
