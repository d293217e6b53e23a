"""Claims: the files, what a measurement says about one, and the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import UsageError
from harness.progress import Reporter
from harness.records.ratios import rules_version
from harness.records.schema import Health, SpeedRecord
from harness.records.store import RecordStore
from harness.registry import Registry
from harness.report.answer import held
from harness.report.claims import card_frame, card_notes, card_table
from harness.report.table import to_markdown
from harness.runs.experiment import Experiment, make_entry
from harness.spec.model import build, parse_methods
from harness.speed.measurement import Measurement
from harness.studies import explain
from harness.studies.claims import (
    CLAIMS,
    Claim,
    definitions,
    find_claim,
    make_card,
    read_claims,
    row_of,
    rows_of,
    schedule_factor,
)
from methods.parts.encoder import SIZES
from tests.harness.made_up_records import stage_arm, stage_record
from tests.harness.small_run import SMALL, harness, small_file
from tests.methods.made_up import meta_encoder

VALUES: dict[str, Any] = {
    "statement": "GFP trains 5x faster",
    "factor": 5.0,
    "definition": "hours",
    "method": "gfp",
    "baseline": "mamp",
    "epochs": {"method": 200, "baseline": 400},
    "schedule": "1 h against 5 h",
    "hardware": "one abacus",
    "device": "cpu",
    "encoder": "base",
    "batch": "128 clips",
    "source": "a paper",
}
CLAIM = Claim(**VALUES)
WAYS = ("as published", "every switch on")


def record(*missing: str, **changes: Any) -> SpeedRecord:
    """gfp over mamp: 2x as published, 3x with every switch on, both in clips/s."""
    arms = (
        # FLOPs per clip, every switch on: gfp 1e9 / 2, mamp 4e9 / 1, the bound 0.5e9 / 2.
        stage_arm("gfp @ as published", 0.2, 0.2, 0.2, step_flops=7e9),
        stage_arm("gfp @ every switch on", 0.1, 0.1, 0.1, step_flops=1e9),
        stage_arm("encoder-only @ as published", 0.01, 0.01, 0.01, step_flops=7e9),
        stage_arm("encoder-only @ every switch on", 0.01, 0.01, 0.01, step_flops=0.5e9),
        stage_arm("mamp @ as published", 0.4, 0.4, 0.4, step_flops=7e9),
        stage_arm("mamp @ every switch on", 0.15, 0.15, 0.15, clips=1.0, step_flops=4e9),
    )
    return stage_record(*(arm for arm in arms if arm.label not in missing), stages=WAYS, **changes)


def changed(label: str, **changes: Any) -> SpeedRecord:
    """The same record, with one arm that was edited."""
    found = record()
    arms = [one.model_copy(update=changes) if one.label == label else one for one in found.arms]
    return found.model_copy(update={"arms": arms})


@pytest.mark.parametrize(
    ("label", "changes"),
    [
        ("gfp @ every switch on", {"verdict": "in doubt"}),  # its doubts were taken out
        ("mamp @ every switch on", {"verdict": "in doubt"}),
        ("gfp @ every switch on", {"bound_flops": 2e9}),  # of a step of 1e9
    ],
)
def test_the_numbers_of_a_card_are_examined_for_doubts(label: str, changes: dict[str, Any]) -> None:
    card = make_card(CLAIM, changed(label, **changes))
    own = [one.verdict for one in card.measurements if one.definition == "hours"]
    assert own == ["not supported", "in doubt"]
    answer = held([("gfp-5x", make_card(CLAIM, record())), ("gfp-5x", card)])
    assert answer.tone == "doubt"
    assert answer.headline == (
        "Of 1 claim, measured 2 times in all: not supported (2) as published; supported (1), "
        "in doubt (1) every switch on."
    )
    said = [line.rpartition("; ")[2] for line in answer.more]
    assert said == ["not supported, then supported", "not supported, then in doubt"]
    assert all(f" {WAYS[0]}, " in line and f" {WAYS[1]}; " in line for line in answer.more)


# --- the files ---


def test_every_claim_file_is_a_claim_named_after_its_factor() -> None:
    claims = read_claims()
    assert claims.keys() == {path.stem for path in CLAIMS.iterdir()}
    assert {"gfp-6.2x", "gfp-6.1x", "amr-8.1x", "sjepa-0.2x"} <= claims.keys()
    for name, claim in claims.items():
        assert name.endswith(f"-{claim.factor:g}x")
        assert name.partition("-")[0] in claim.statement.lower().replace("-", "")


def test_every_claim_compares_rows_that_can_be_run_at_its_encoder() -> None:
    for claim in (claim for claim in read_claims().values() if claim.what == "training"):
        labels = []
        for text in (claim.method, claim.baseline):
            (spec,) = parse_methods(text)
            labels.append(
                make_entry(
                    Registry().method(spec.name), spec, meta_encoder(SIZES[claim.encoder])
                ).label
            )
        assert labels == [claim.method, "mamp"]  # a decoder of 5 layers is mamp's own at that size


def bomb(depth: int) -> str:
    """Aliases of aliases: a page that stands for 2^depth strings."""
    lines = [
        "a0: &a0 [x, x]",
        *(f"a{level}: &a{level} [*a{level - 1}, *a{level - 1}]" for level in range(1, depth)),
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: \udcff", "cannot be read as YAML ('utf-8' codec can't decode"),
        ("a: [1", "cannot be read as YAML (while parsing a flow sequence)"),
        ("- 1", "expected a mapping of statement, factor, what, definition"),
        (yaml.safe_dump(VALUES | {"factr": 2}), "unknown option 'factr', did you mean 'factor'?"),
        (yaml.safe_dump(VALUES | {"definition": "days"}), "definition: "),
        (yaml.safe_dump(VALUES | {"factor": float("nan")}), "factor: Input should be "),
        (
            yaml.safe_dump(VALUES | {"factor": float("inf")}),
            "factor: Input should be a finite number, found inf",
        ),
        (
            yaml.safe_dump(VALUES | {"factor": -6.2}),
            "factor: Input should be greater than 0, found -6.2",
        ),
        (
            yaml.safe_dump(VALUES | {"epochs": {"method": 0, "baseline": 1}}),
            "epochs.method: Input should be greater",
        ),
        (bomb(30), "cannot be read as YAML (found an alias; write out what it stands for)"),
        (
            "a: " + 5000 * "[" + 5000 * "]",
            "cannot be read as YAML (found brackets nested too deeply)",
        ),
        ("a: 2024-99-99", "cannot be read as YAML (month must be in 1..12"),
        (
            "a: " + 200_000 * "1",
            "cannot be read as YAML (expected at most 100,000 characters, found 200,003)",
        ),
        (yaml.safe_dump(VALUES | {"epochs": {"method": 1}}), "epochs.baseline: Field required"),
    ],
)
def test_a_file_that_is_no_claim_is_one_line_with_its_name(
    text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(VALUES))
    (tmp_path / "spoilt.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError) as error:
        read_claims(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'spoilt.yaml'}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_claim_is_found_by_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "gfp-5x.yaml").write_text(yaml.safe_dump(VALUES))
    assert find_claim("gfp-5x", tmp_path) == CLAIM
    with pytest.raises(
        UsageError, match=r"unknown claim 'gfp-6x', did you mean 'gfp-5x'\? \(known: gfp-5x\)"
    ):
        find_claim("gfp-6x", tmp_path)
    with pytest.raises(UsageError, match=r"unknown claim 'gfp-5x' \(known: none in"):
        find_claim("gfp-5x", tmp_path / "nowhere")


# --- what a measurement says ---


@pytest.mark.parametrize(
    ("own", "order"), [("hours", ["hours", "clips"]), ("clips", ["clips", "hours"])]
)
def test_the_claims_own_definition_comes_first(own: str, order: list[str]) -> None:
    assert definitions(Claim(**VALUES | {"definition": own})) == order


def test_claims_that_share_rows_are_measured_together() -> None:
    other = Claim(**VALUES | {"method": "amr:r=3", "baseline": "gfp"})
    assert rows_of([CLAIM, other, CLAIM]) == "gfp,amr:r=3,encoder-only,mamp"


def test_hours_count_the_epochs_of_both_schedules() -> None:
    assert schedule_factor(CLAIM, "hours") == 2.0  # half the epochs: twice as fast
    assert schedule_factor(CLAIM, "clips") == 1.0


def test_findings_by_hand() -> None:
    card = make_card(CLAIM, record())
    found = [(one.way, one.definition, one.ratio.value, one.verdict) for one in card.measurements]
    assert found == [
        ("as published", "hours", pytest.approx(4.0), "not supported"),
        (
            "as published",
            "clips",
            pytest.approx(2.0),
            None,
        ),  # another definition than the claim's is not judged
        ("every switch on", "hours", pytest.approx(6.0), "supported"),
        ("every switch on", "clips", pytest.approx(3.0), None),
    ]


def test_the_card_as_numbers() -> None:
    found = card_frame(make_card(CLAIM, record()))
    assert found["measured"].tolist() == pytest.approx([4.0, 2.0, 6.0, 3.0])
    assert found["own_definition"].tolist() == [True, False, True, False]
    assert found["claimed"].tolist() == [5.0] * 4
    assert found["verdict"].isna().tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("factor", "expected"), [(6.2, 6.15), (0.2, 0.25), (5.0, 4.5), (12.25, 12.245)]
)
def test_a_factor_is_reached_at_its_printed_precision(factor: float, expected: float) -> None:
    assert Claim(**VALUES | {"factor": factor}).reached_from == pytest.approx(expected)


def test_the_interval_is_scaled_with_the_ratio() -> None:
    # Clips/s ratios 1, 2 and 4: 2 with an interval of a factor 5.594985 either side; hours double
    # all of it.
    arms = [stage_arm(f"{label} @ a", 0.1, 0.1, 0.1) for label in ("gfp", "encoder-only")]
    found = make_card(
        CLAIM, stage_record(*arms, stage_arm("mamp @ a", 0.1, 0.2, 0.4), stages=["a"])
    )
    hours, clips = (one.ratio for one in found.measurements)
    assert (clips.low, clips.value, clips.high) == pytest.approx(
        (2 / 5.594985, 2.0, 2 * 5.594985), rel=1e-5
    )
    assert (hours.low, hours.value, hours.high) == pytest.approx(
        (4 / 5.594985, 4.0, 4 * 5.594985), rel=1e-5
    )
    assert [one.verdict for one in found.measurements] == ["not measurable here", None]


def test_a_slower_method_is_judged_by_its_whole_schedule() -> None:
    # In clips/s gfp is 3x faster with every switch on, but six times the epochs make half the speed
    # in hours.
    slower = Claim(**VALUES | {"factor": 0.6, "epochs": {"method": 2400, "baseline": 400}})
    found = [one for one in make_card(slower, record()).measurements if one.way == WAYS[1]]
    assert [(one.definition, one.verdict) for one in found] == [
        ("hours", "supported"),
        ("clips", None),
    ]


def test_a_claim_in_clips_is_judged_by_clips_alone() -> None:
    own = Claim(**VALUES | {"factor": 2.5, "definition": "clips"})
    found = [(one.definition, one.verdict) for one in make_card(own, record()).measurements]
    assert found == [
        ("clips", "not supported"),
        ("hours", None),
        ("clips", "supported"),
        ("hours", None),
    ]  # 2x and 3x


def test_another_class_of_hardware_tests_nothing_and_shows_its_numbers() -> None:
    card = make_card(Claim(**VALUES | {"device": "gpu"}), record())
    assert [one.verdict for one in card.measurements] == ["other hardware: not tested", None] * 2
    assert [one.ratio for one in card.measurements] == [
        one.ratio for one in make_card(CLAIM, record()).measurements
    ]
    assert (card.flop_ratio, card.bound) == pytest.approx((8.0, 16.0))
    assert [line for line in card_notes(card, "3") if "other hardware" in line] == [
        "other hardware: claimed on a gpu, measured on a cpu; FLOP ratio, bound and the ratio"
        " measured here are evidence and no test"
    ]


def test_a_gpu_tests_the_claims_about_gpus() -> None:
    gpu = record().environment.model_copy(update={"device": "NVIDIA L20"})
    card = make_card(Claim(**VALUES | {"device": "gpu"}), record(environment=gpu))
    assert [one.verdict for one in card.measurements] == ["not supported", None, "supported", None]
    assert not [line for line in card_notes(card, "3") if "other hardware" in line]
    assert (
        make_card(CLAIM, record(environment=gpu)).measurements[0].verdict
        == "other hardware: not tested"
    )


def test_a_row_is_found_by_the_options_that_its_label_leaves_out() -> None:
    measured = record()
    resolved = [
        "gfp:a=1",
        "gfp:a=1",
        "encoder-only:",
        "encoder-only:",
        "mamp:tau=0.8,decoder_depth=5",
        "mamp:tau=0.8",
    ]
    measured.spec["methods"] = resolved
    assert row_of(measured, "mamp:decoder_depth=5") == "mamp"
    assert row_of(measured, "mamp:decoder_depth=05,tau=8e-1") == "mamp"
    assert row_of(measured, "gfp") == "gfp"
    for asked in ("mamp:decoder_depth=3", "mamp:decoder_depth", "amr", "amr:tau=0.8"):
        with pytest.raises(
            UsageError, match=f"{asked} was not measured \\(rows: gfp, encoder-only, mamp\\)"
        ):
            row_of(measured, asked)


def test_a_row_is_not_found_without_the_options_that_its_label_changes() -> None:
    measured = record()
    changed = "mamp:decoder_depth=3"
    measured.spec["rows"] = ["gfp", changed]
    measured.spec["methods"] = ["gfp:a=1", "gfp:a=1"] + ["mamp:tau=0.8,decoder_depth=3"] * 2
    assert row_of(measured, "mamp:tau=0.8,decoder_depth=3") == changed
    for asked in ("mamp", "mamp:tau=0.8"):
        with pytest.raises(UsageError, match=f"{asked} was not measured"):
            row_of(measured, asked)


def test_arithmetic_is_per_clip_of_the_last_stage() -> None:
    card = make_card(CLAIM, record())
    assert card.flop_ratio == pytest.approx(8.0)  # 4e9 over 0.5e9
    assert card.bound == pytest.approx(16.0)


@pytest.mark.parametrize(("disturbed", "expected"), [(5, "supported"), (6, "not measurable here")])
def test_a_disturbed_measurement_judges_nothing(disturbed: int, expected: str) -> None:
    health = Health(blocks=10, disturbed=disturbed)
    card = make_card(CLAIM, record(health=health))
    assert card.measurements[2].verdict == expected
    said = [line for line in card_notes(card, "3") if line.startswith("not measurable here: ")]
    assert len(said) == (expected == "not measurable here")


def test_the_floor_of_the_measurement_counts() -> None:
    assert make_card(CLAIM, record(floor=6.5)).measurements[2].verdict != "supported"


@pytest.mark.parametrize("label", ["gfp", "mamp", "encoder-only"])
def test_a_method_that_failed_leaves_no_card(label: str) -> None:
    with pytest.raises(UsageError, match=f"{label} could not be measured every switch on"):
        make_card(CLAIM, record(f"{label} @ every switch on"))


# --- claims about encoders, and claims that nothing here stands for ---

FORWARD: dict[str, Any] = {
    **{
        key: VALUES[key]
        for key in ("statement", "schedule", "hardware", "encoder", "batch", "source")
    },
    "factor": 4.0,
    "what": "inference",
    "definition": "flops",
    "method": "base:frames=64,patch=8",
    "baseline": "base",
}


def forward_record() -> SpeedRecord:
    """Half the time and a quarter of the FLOPs a clip."""
    arms = (
        stage_arm("base:frames=64,patch=8 @ inference", 0.1, 0.1, 0.1, step_flops=1e9),
        stage_arm("base @ inference", 0.2, 0.2, 0.2, step_flops=4e9),
    )
    found = stage_record(*arms, stages=["inference"])
    return found.model_copy(
        update={"spec": {**found.spec, "rows": ["base:frames=64,patch=8", "base"], "methods": []}}
    )


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({}, ["supported", None]),
        ({"factor": 4.5}, ["not supported", None]),
        ({"definition": "inference", "factor": 2.0, "device": "cpu"}, ["supported", None]),
        ({"definition": "inference", "device": "cpu"}, ["not supported", None]),
        ({"definition": "inference", "device": "gpu"}, ["other hardware: not tested", None]),
        ({"unmeasured": "another encoder"}, ["not measurable here", None]),
    ],
)
def test_a_claim_about_encoders_is_judged_by_count_or_by_time(
    changes: dict[str, Any], verdicts: list[str]
) -> None:
    card = make_card(Claim(**FORWARD | changes), forward_record())
    assert [one.verdict for one in card.measurements] == verdicts
    cells = dict(
        zip(card_table(card)["definition"], card_table(card)["measured [95 %]"], strict=True)
    )
    assert sorted(cells.values()) == ["2.00x [2.00, 2.00]", "4.00x"]


def test_a_claim_without_a_row_says_why_and_measures_nothing(tmp_path: Path) -> None:
    outcome = harness("claim", "asma-3x", "--out", tmp_path / "out")
    assert outcome.code == 0
    written = (tmp_path / "out" / "claim-asma-3x.md").read_text()
    assert (
        "| - | clips/s of forward passes (the claim's) | 3x | - | not measurable here |" in written
    )
    assert "- not measurable here: teacher and student are ST-GCNs" in written


def test_what_a_row_leaves_out_keeps_it_from_judging_the_claim() -> None:
    card = make_card(
        CLAIM.model_copy(update={"unmeasured": "half of the method is not built"}), record()
    )
    assert {one.verdict for one in card.measurements} == {"not measurable here", None}
    assert "not measurable here: half of the method is not built" in card_notes(card, "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"definition": "hours"}, "definition: expected inference or flops of inference"),
        ({"what": "training", "definition": "clips"}, "epochs: expected those of both schedules"),
        ({"method": ""}, "method and baseline: expected both, or `unmeasured` with the reason"),
    ],
)
def test_half_a_claim_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(Claim, FORWARD | changes, "a claim")


def test_claims_of_training_and_inference_are_measured_apart(tmp_path: Path) -> None:
    assert rows_of([Claim(**FORWARD)]) == "base,base:frames=64,patch=8"
    outcome = harness("claim", "slim-7.89x", "gfp-6.2x", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "expected claims about training or about inference, found both" in outcome.err


# --- the card ---


def test_the_card_as_printed() -> None:
    found = card_table(make_card(CLAIM, record()))
    assert list(found.columns) == [
        "trained",
        "definition",
        "claimed",
        "measured [95 %]",
        "verdict on the factor",
    ]
    own, other = "hours of whole schedules (the claim's)", "clips/s"
    assert found.to_numpy().tolist() == [
        ["as published", own, "5x", "4.00x [4.00, 4.00]", "not supported"],
        ["as published", other, "-", "2.00x [2.00, 2.00]", "-"],
        ["every switch on", own, "5x", "6.00x [6.00, 6.00]", "supported"],
        ["every switch on", other, "-", "3.00x [3.00, 3.00]", "-"],
    ]


def test_notes_hold_the_claim_the_arithmetic_and_both_machines() -> None:
    lines = card_notes(make_card(CLAIM, record()), "2")
    assert lines[0] == "claim: GFP trains 5x faster; a paper"
    assert lines[1] == "claimed on: one abacus, encoder base, batch 128 clips; 1 h against 5 h"
    assert (
        lines[2]
        == "measured: gfp over mamp on cpu, batch 64 body sequences, 0.5 GB for a step of mamp as"
        " published, with encoder tiny instead of base"
    )
    assert (
        "arithmetic: 8.00x by FLOPs per clip, at most 16.00x with this encoder and mask" in lines[3]
    )
    assert lines[4] == "judged by rules version 2: 5 as printed is reached from 4.5 on"
    assert lines[-1].startswith("machine: cpu, Abacus 3000")


def test_the_same_encoder_needs_no_remark() -> None:
    lines = card_notes(make_card(Claim(**VALUES | {"encoder": "tiny"}), record()), "2")
    assert lines[2].startswith("measured: gfp over mamp on cpu, batch 64 body sequences, 0.5 GB")
    assert "instead of" not in lines[2]


def test_the_command_that_a_note_names_exists() -> None:
    (line,) = (line for line in card_notes(make_card(CLAIM, record()), "2") if "`harness " in line)
    assert harness(line.partition("`harness ")[2].partition("`")[0], "--help").code == 0


# --- the command ---


def test_an_unknown_claim_is_one_line_and_measures_nothing(tmp_path: Path) -> None:
    outcome = harness("claim", "gfp-6.3x", "--out", tmp_path / "out")
    known = ", ".join(read_claims())
    assert (outcome.code, outcome.lines) == (2, [])
    assert outcome.err.startswith("error: unknown claim 'gfp-6.3x', did you mean 'gfp-6.")
    assert outcome.err.endswith(f"? (known: {known})\n")
    assert not (tmp_path / "out").exists()


def test_the_command_measures_method_bound_and_baseline_at_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(
        experiment: Experiment, report: Reporter, stages: tuple[explain.Stage, ...]
    ) -> Measurement:
        names, seconds = [stage.name for stage in stages], (0.1, 0.02, 0.7)
        arms = [
            stage_arm(f"{entry.label} @ {name}", time, time)
            for entry, time in zip(experiment.entries, seconds, strict=True)
            for name in names
        ]
        return Measurement(stage_record(*arms, stages=names), {})

    monkeypatch.setattr(explain, "explain", measured)
    encoder = [
        word
        for pair in zip(SMALL[::2], SMALL[1::2], strict=True)
        if "encoder." in pair[1]
        for word in pair
    ]
    out = tmp_path / "out"
    outcome = harness(
        "claim", "gfp-6.2x", "gfp-6.1x", *encoder, "--dataset", small_file(tmp_path), "--out", out
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert (out / "claim-gfp-6.1x.md").exists()
    written = (out / "claim-gfp-6.2x.md").read_text()
    verdict = "other hardware: not tested"
    for way in WAYS:
        assert (
            f"| {way} | hours of whole schedules (the claim's) | 6.2x | 7.00x [7.00, 7.00] |"
            f" {verdict} |" in written
        )
        assert (
            f"| {way} | clips/s | - | 7.00x [7.00, 7.00] | - |" in written
        )  # both schedules have 400 epochs
    assert "- measured: gfp over mamp:decoder_depth=5 on cpu" in written
    assert "RTX 4090" in outcome.out


def test_a_stored_measurement_is_judged_again_under_its_own_command(tmp_path: Path) -> None:
    RecordStore(tmp_path).write_speed(record())
    card = tmp_path / "claim-gfp-6.2x.md"
    card.write_text("    python -m harness claim gfp-6.2x --encoder base\n\nold verdicts\n")
    claim = find_claim("gfp-6.2x").model_copy(update={"baseline": "mamp"})
    lines = card_notes(make_card(claim, record()), rules_version())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.studies.claims.find_claim", lambda name: claim)
        assert harness("claim", "gfp-6.2x", "--from", tmp_path).code == 0
    expected = to_markdown(
        card_table(make_card(claim, record())),
        lines,
        "python -m harness claim gfp-6.2x --encoder base",
    )
    assert card.read_text() == expected


def test_a_folder_without_a_measurement_of_claims_is_one_line(tmp_path: Path) -> None:
    RecordStore(tmp_path).write_speed(stage_record(stage_arm("gfp @ a", 0.1, 0.1), stages=["a"]))
    outcome = harness("claim", "gfp-6.2x", "--from", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(
        f"error: {tmp_path}: expected a measurement of `claim`, found none"
    )
