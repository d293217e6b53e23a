"""Tables for a paper: escaping, captions, marks;
a document that holds them compiles where TeX is installed.
"""

from __future__ import annotations

from harness.records.schema import RunRecord, SpeedRecord
from harness.records.store import Records
from harness.report.folder import folder_tables
from harness.report.latex import Paper, latex_page, tex
from tests.harness.made_up_records import arm, ratio, run_record, speed_record

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
        "synthetic, split xsub, 12 classes",
        "400 test",
        "budget 60s",
        "3 seeds",
        "t interval over seeds",
        "Bold: the method with the highest mean",
        "noise floor 1.050",
        "Abacus 3000",
        "over skeletonmae",
    )
    assert [words for words in said if words not in caption] == []


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
