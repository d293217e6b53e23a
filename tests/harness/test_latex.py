"""Tables for a paper: escaping, captions, marks;
a document that holds them compiles where TeX is installed.
"""

from __future__ import annotations

import re

from harness.records.differences import Row, pairs
from harness.records.schema import RunRecord, SpeedRecord
from harness.records.store import Records
from harness.report.compare import Comparison
from harness.report.folder import folder_tables
from harness.report.latex import Paper, latex_page, tex
from harness.studies.compare import Column
from tests.harness.made_up_records import arm, ratio, run_record, speed_record, with_encoder

HOSTILE = (
    "\\input{/etc/passwd} $x^2_1$ & 50 % #1 ~ {} < > | \" ' ` -- é Ł 中 \u202e\x1b \n\\end{table}"
)


def records(*values: tuple[str, float, int]) -> list[RunRecord]:
    return [run_record(name, linear, seed=seed, knn=linear) for name, linear, seed in values]


SEEDS = [
    run_record(name, value, seed=seed, knn=value)
    for name, values in {
        "gfp": (0.80, 0.81, 0.82),
        "mamp": (0.795, 0.815, 0.82),
        "skeletonmae": (0.5, 0.51, 0.52),
        "random-init": (0.4, 0.41, 0.42),
    }.items()
    for seed, value in enumerate(values)
]
SPEED = speed_record(
    arm("gfp", ratio(1.9, 2.0, 2.1)),
    arm("mamp", ratio(1.0, 1.02, 1.04)),
    arm("skeletonmae", ratio(1.0, 1.0, 1.0)),
)


def page(runs: list[RunRecord], *speeds: SpeedRecord) -> str:
    papers = [Paper("", table) for table in folder_tables(Records(runs, list(speeds), []))]
    return latex_page(papers, "python -m harness report runs --latex t.tex")


def rows(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    return {line.partition(" & ")[0]: line for line in lines}


def test_every_special_is_escaped_and_what_fonts_lack_stands_there_as_its_number() -> None:
    assert tex(r"a_b & 5% {x} $ # ^ ~ \n") == (
        r"a\_b \& 5\% \{x\} \$ \# \textasciicircum{} \textasciitilde{} \textbackslash{}n"
    )
    assert tex("é Ł ß 中") == r"\'{e} \L{} \ss{} \texttt{U+4E2D}"
    assert tex("a-b 1--2 ---") == "a-b 1-{}-2 -{}-{}-"
    assert "\n" not in tex("a\nb")
    assert tex(HOSTILE).isascii()


def test_the_best_is_bold_and_who_is_not_told_apart_from_it_is_underlined() -> None:
    found = rows(page(SEEDS, SPEED))
    assert r"\textbf{81.0} [78.5, 83.5]" in found["gfp"]
    assert r"\underline{81.0}" in found["mamp"]
    assert r"\textbf" not in found["skeletonmae"] + found["random-init"]
    assert r"$2.00\times$ [1.90, 2.10]$^{*}$" in found["gfp"]
    assert "within noise" in found["mamp"]
    assert "1 (baseline)" in found["skeletonmae"]


def test_the_caption_says_data_budget_seeds_n_and_what_intervals_and_marks_are() -> None:
    (caption,) = [line for line in page(SEEDS, SPEED).splitlines() if line.startswith(r"\caption")]
    said = (
        "synthetic, cross-subject split, 12 classes",
        "400 test",
        "trained for 60 seconds",
        "3 seeds",
        "t interval over seeds",
        "Bold: the method with the highest mean",
        "noise floor 1.050",
        "Abacus 3000",
        "over skeletonmae",
    )
    assert [words for words in said if words not in caption] == []


def test_the_caption_says_the_numbers_of_an_encoder_once() -> None:
    runs = [run_record("gfp"), with_encoder(run_record("gfp"), depth=1, frames=24)]
    captions = [line for line in page(runs).splitlines() if line.startswith(r"\caption")]
    found = sorted(caption.partition("Encoder ")[2].partition(" param")[0] for caption in captions)
    assert found == ["tiny (depth=1, frames=24), 1,234,567", "tiny, 1,234,567"]
    assert "epth 1" not in "".join(captions)


def test_of_one_seed_the_caption_says_that_nothing_is_told_apart() -> None:
    (caption,) = [
        line
        for line in page([run_record("gfp"), run_record("mamp")]).splitlines()
        if r"\caption" in line
    ]
    assert "of one seed the" in caption
    assert "Nothing is marked: fewer than 3 seeds" in caption
    assert "Speedup" not in caption


def test_columns_that_nothing_is_in_are_left_out() -> None:
    assert rows(page([run_record("gfp")]))["Method"].count("&") == 2
    speed_alone = rows(page([], SPEED))["Method"]
    assert "Linear" not in speed_alone
    assert "Speedup" in speed_alone


def test_the_same_records_give_the_same_bytes() -> None:
    assert page(SEEDS, SPEED) == page(list(reversed(SEEDS)), SPEED)


def test_a_caption_says_settings_in_words() -> None:
    budgets = ("10s", "60000clips")
    runs = [
        run.model_copy(update={"spec": spec, "address": spec.address})
        for budget in budgets
        for run in SEEDS[:9]
        for spec in [
            run.spec.model_copy(
                update={
                    "train": run.spec.train.model_copy(update={"budget": budget}),
                    "data": run.spec.data.model_copy(update={"name": "data/a/utdmhad.npz"}),
                    "probe": run.spec.probe.model_copy(update={"points": len(budget)}),
                }
            )
        ]
    ]
    runs = [
        run.model_copy(update={"data": run.data.model_copy(update={"name": "data/a/utdmhad.npz"})})
        for run in runs
    ]
    captions = [line for line in page(runs).splitlines() if line.startswith(r"\caption")]
    assert len(captions) == 2
    for caption, said in zip(captions, ("10 seconds", "60,000 clips"), strict=True):
        assert f"trained for {said}; 3 seeds. Evaluations while training: " in caption
        assert "Data: utdmhad, cross-subject split" in caption
    assert not re.search(r"(train|probe|data|encoder)\.[a-z]", page(runs))


def test_a_table_is_as_wide_as_it_must_be_and_no_wider_than_a_page() -> None:
    assert page([run_record("gfp"), run_record("mamp")]).count(r"\begin{table}") == 1
    wide = page(SEEDS, SPEED)
    assert (wide.count(r"\begin{table*}[t]"), wide.count(r"\end{table*}")) == (1, 1)
    assert r"\label{tab:runs-1}" in wide


def test_protocols_have_short_headings_options_in_the_caption_and_a_table_of_their_own() -> None:
    text = latex_page([Paper("", FOLDER, [protocol(name) for name in PROTOCOLS])], "command")
    assert text.count(r"\begin{table*}") == 2
    assert (r"\label{tab:runs-1a}" in text, r"\label{tab:runs-1b}" in text) == (True, True)
    first, second = text.split(r"\end{table*}")[:2]
    assert "Method & Speedup & by FLOPs & Linear & $k$NN-1 & vs.\\ random" in first
    assert "Method & knn & finetune & semi:ratio=0.1 & semi:ratio=0.2" in second
    assert "Protocols: finetune: epochs 30, lr 0.1." in first
    assert "of the last encoder: both may differ" in first
    assert "encoder-only" not in second
    linear = rows(first)["gfp"]
    assert r"\textbf{81.0} [78.5, 83.5]" in linear


PROTOCOLS = ("knn", "finetune:epochs=30,lr=0.1", "semi:ratio=0.1", "semi:ratio=0.2")
(FOLDER,) = folder_tables(
    Records(
        SEEDS, [speed_record(*SPEED.arms, arm("encoder-only", ratio(4, 4.5, 5), control=True))], []
    )
)


def protocol(name: str) -> Comparison:
    found = [Row(label, {0: 0.5, 1: 0.6, 2: 0.7}) for label in ("gfp", "mamp")]
    return Comparison("", Column(f"protocol {name}", found, 400), pairs(found), [])
