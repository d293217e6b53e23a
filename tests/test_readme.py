"""The pages: what they name and link to is there, the method that they show is run as a reader
would run it, and the picture is the one that the suite makes of its records.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement

from harness.records.schema import RANDOM_INIT, RAW_FLOOR
from harness.records.store import read_records
from harness.registry import Registry
from harness.report.explain import waterfall_frame
from harness.report.html.study import read_studies, read_study
from harness.report.html.vector import alone
from harness.report.paper import paper_figures
from tests.harness.small_run import SMALL, harness, small_file

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "harness" / "conformance" / "templates" / "mean_motion.py"
PICTURE = ROOT / "benchmarks" / "figures" / "gpu-claims.svg"
RESULTS = ROOT / "benchmarks" / "results"
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "methods/*.md", "datasets/*.md", "benchmarks/*.md", "harness/*/*.md")
    for path in ROOT.glob(pattern)
)
LONGEST = 160
"""Lines of the first page: what one reads in three minutes."""


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_the_example_method_of_a_page_runs_beside_the_others(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", text_of("methods/README.md"), flags=re.DOTALL)
    (code,) = (block for block in blocks if "(Method[" in block)
    assert code == EXAMPLE.read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 40
    out = tmp_path / "out"
    command = ("run", *SMALL, "--dataset", small_file(tmp_path), "--plugin", EXAMPLE, "--out", out)
    outcome = harness(*command, "--methods", "mean-motion,gfp,skeletonmae")
    assert outcome.code == 0
    rows = [line for line in (out / "table.md").read_text().splitlines() if line.startswith("| ")]
    named = [row.split("|")[1].strip() for row in rows]
    assert named == [
        "method",
        "mean-motion",
        "gfp",
        "skeletonmae",
        "random-init",
        "raw-pca",
        "encoder-only",
    ]


def test_parts_are_listed_with_the_signatures_that_they_have() -> None:
    page = text_of("methods/README.md")
    [block] = re.findall(r"```text\n(tokens .*?)```", page, flags=re.DOTALL)
    module = ""
    for line in block.splitlines():
        module, said = line[:12].strip() or module, line[12:]
        expected = signature(module, said.partition("(")[0])
        assert re.split(" {2,}", said)[0] == expected, f"parts/{module}.py"


def signature(module: str, name: str) -> str:
    """``take(tokens [B, L, D], index [B, K]) -> [B, K, D]``, of a function, a class or its method;
    of arguments that are no tensors the name alone.
    """
    found: Any = ast.parse(text_of(f"methods/parts/{module}.py"))
    for part in name.split("."):
        [found] = [node for node in found.body if getattr(node, "name", "") == part]
    if isinstance(found, ast.ClassDef):
        [found] = [node for node in found.body if getattr(node, "name", "") == "__init__"]
    words = []
    for one in [*found.args.args, *filter(None, [found.args.vararg]), *found.args.kwonlyargs]:
        tensor = re.search(TENSOR, ast.unparse(one.annotation or one))
        words.append(f"{one.arg} {shape(tensor)}" if tensor else one.arg)
    returned = re.sub(TENSOR, shape, ast.unparse(found.returns))
    gives = "" if returned == "None" else f" -> {returned}"
    return f"{name}({', '.join(word for word in words if word != 'self')}){gives}"


TENSOR = r"\w+\[Tensor, '([^']*)'\]"


def shape(tensor: re.Match[str]) -> str:
    """``[B, T//patch*V, 3]`` of ``Float[Tensor, 'B T//{patch}*V 3']``."""
    return f"[{', '.join(re.sub('self[.]|[{}]', '', tensor[1]).split())}]"


def test_the_first_page_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= LONGEST


def test_all_pages_are_found() -> None:
    assert {"README.md", "methods/README.md", "harness/cli/README.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_file_or_folder_that_a_page_names_is_there(page: str) -> None:
    missing = [name for name in named(page) if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_a_link_of_a_page_leads_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    own = [link for link in links if not link.startswith(("http://", "https://"))]
    assert not [link for link in own if not (folder / link).exists()]


def test_the_names_of_a_page_are_found() -> None:
    names = {"harness/report/table.py", "datasets/raw/__init__.py", "tests/LONG.md"}
    assert names <= set(named("CONTRIBUTING.md"))


def named(page: str) -> list[str]:
    """Paths from the checkout's root and files of Python; no links, no patterns (``<name>``)."""
    text = re.sub(r"\]\([^)]*\)", "]", text_of(page))
    paths = re.findall(r"(?<![\w/.<>$-])(?:[\w.-]+/)+[\w.-]*(?![\w./<{*-])", text)
    ours = ("harness", "methods", "datasets", "benchmarks", "tests")
    kept = [path.rstrip(".") for path in paths if path.startswith(ours) or path.endswith(".py")]
    return [path for path in kept if not Path(path).name.isupper()]


# --- the picture ---


def drawn(svg: bytes) -> dict[str, list[float]]:
    """The coordinates of every mark that has a name, and of every text its letters."""
    root = ElementTree.fromstring(svg)
    found = {}
    for element in root.iter():
        if (name := element.get("id", "")).startswith("tip-"):
            parts = [part.get(key, "") for part in element.iter() for key in ("d", "x", "y")]
            found[name] = [float(text) for text in re.findall(r"-?\d+\.?\d*", " ".join(parts))]
    return found


def said(svg: bytes) -> list[str]:
    """Texts, which stand as comments beside their outlines."""
    return [text.strip() for text in re.findall(r"<!--(.*?)-->", svg.decode(), flags=re.DOTALL)]


def test_the_picture_is_what_the_suite_draws_of_its_records() -> None:
    """`harness report benchmarks/results/gpu-claims --figures FOLDER` leaves ``claims.svg``."""
    figures = paper_figures(read_studies([RESULTS / "gpu-claims"]))
    (made,) = (alone(figure.chart) for figure in figures if figure.name == "claims")
    kept = PICTURE.read_bytes()
    assert said(kept) == said(made)
    assert drawn(kept).keys() == drawn(made).keys()
    for name, numbers in drawn(made).items():  # points of a page; releases of matplotlib round
        assert drawn(kept)[name] == pytest.approx(numbers, abs=0.5), name
    assert len(drawn(made)) > 10


# --- figures of the first page ---


def test_the_answer_says_what_the_records_say() -> None:
    """Where a new study moves the range, the sentence of "The answer so far" follows."""
    tables = [*RESULTS.rglob("speed.csv"), *RESULTS.rglob("table.csv")]
    rows = pd.concat([pd.read_csv(path) for path in tables if path.parent.name != "busy"])
    rows = rows[(rows["baseline"] == "skeletonmae") & rows["label"].isin(["amr", "gfp"])]
    text, said = " ".join(text_of("README.md").split()), list[str]()
    for label, known in rows.groupby("label"):
        low, high = known["speedup"].min(), known["speedup"].max()
        said.append(f"{str(label).upper()} trains {low:.1f} to {high:.1f} times")
    share = rows["speedup"] / rows["flop_ratio"]
    said.append(f"{share.min():.2f} to {share.max():.2f} times what their FLOPs predict")
    text = text.replace("and GFP ", "and GFP trains ")
    assert [words for words in said if words not in text] == []


def test_the_published_speedups_of_the_first_page_are_the_measured_ones() -> None:
    text = " ".join(text_of("README.md").split())
    cards = {
        name: pd.read_csv(RESULTS / "gpu-claims" / f"claim-{name}.csv") for name in PUBLISHED_CLAIMS
    }
    for name, (title, claimed) in PUBLISHED_CLAIMS.items():
        published, fastest = rows_by_way(cards[name])
        assert f"{title} {published} " in text.replace("GFP trains", "GFP")
        assert f": {claimed})" in text
        assert fastest in text
    predicted = [f"{cards[name]['flop_ratio'].iloc[0]:.2f}x" for name in PUBLISHED_CLAIMS]
    assert f"FLOPs predict {' and '.join(predicted)}" in text
    (record,) = read_records(RESULTS / "gpu-claims").speeds
    switched = waterfall_frame(record).set_index(["method", "stage"])
    whole = switched.loc[("mamp", "every switch on"), "so_far"]
    assert f"MAMP itself trains {whole:.2f}x as fast" in text
    published = record.arm("mamp @ as published")
    assert published is not None
    assert f"takes {published.peak_bytes / 1e9:.1f} GB" in text


PUBLISHED_CLAIMS = {"gfp-6.2x": ("GFP", "6.2x"), "amr-8.1x": ("AMR", "8.1x")}


def rows_by_way(card: pd.DataFrame) -> list[str]:
    """What a claim came to by its own definition, trained as published and the fastest way."""
    own = card[card["own_definition"]]
    return [
        f"{row['measured']:.2f}x [{row['measured_low']:.2f}, {row['measured_high']:.2f}]"
        for _, row in own.iterrows()
    ]


def test_the_longer_runs_of_the_first_page_are_those_of_the_study() -> None:
    text = " ".join(text_of("README.md").split())
    linear, tuned = (
        {name: cell.partition(" ")[0] for name, cell in table_of("longer-utdmhad", column).items()}
        for column in ("linear", "finetune:epochs=30")
    )
    answer = text_of("benchmarks/answer/README.md")
    (early,) = re.findall(r"^\| 150,016 \| (\S+) [^|]* \| (\S+) ", answer, flags=re.MULTILINE)
    assert f"AMR and GFP stand at {early[0]} and {early[1]} % after 150,000 clips" in text
    assert f"at {linear['amr']} and {linear['gfp']} % after 600,000" in text
    assert f"AMR's {tuned['amr']} % are above GFP's {tuned['gfp']} % and above" in text
    assert f"from scratch ({tuned['random-init']} %)" in text
    last = answer.partition("\n## What it takes")[2].partition("\n## ")[0].splitlines()
    said = next(line for line in last if "finetune:epochs=30, these people" in line)
    assert ": amr is above gfp and random-init; " in said
    said = next(line for line in last if "protocol linear, these people" in line)
    assert " amr " not in said.partition("(")[0]


def test_what_the_first_page_says_of_the_second_set_is_on_the_page_of_the_answer() -> None:
    top = text_of("benchmarks/answer/README.md").partition("\n## ")[0]
    assert "- **uiprmd, 300s**: Cannot be told apart: amr, " in top
    rows = table_of("answer-a-uiprmd", "knn")
    amr, gfp, mamp = (rows[name].partition(" ")[0] for name in ("amr", "gfp", "mamp"))
    text = " ".join(text_of("README.md").split())
    assert f"GFP and MAMP by nearest neighbours ({amr}, {gfp} and {mamp} %), above Skel" in text
    section = section_of_answer("uiprmd, 300s")
    assert "- protocol knn, these people: amr is above gfp, mamp and random-init; " in section
    (said,) = re.findall("linear-mamp:epochs=15, these people: (.*); no other", section)
    assert "amr is above skeletonmae and random-init" in said.split("; ")
    pooled = re.findall(r"^- \*\*.*, 600s\*\*: (.*?): ", top, flags=re.MULTILINE)
    assert pooled == ["Cannot be told apart"] * 4  # of all three and of each


def test_the_price_of_tuning_on_the_first_page_is_the_measured_one() -> None:
    rows = pd.read_csv(RESULTS / "answer-tuning" / "tuning.csv").set_index("label")
    names = {"amr": "AMR", "gfp": "GFP", "skeletonmae": "SkeletonMAE"}
    best = ", ".join(f"{name} {100 * rows.loc[key, 'best']:.1f}" for key, name in names.items())
    *first, last = [f"{100 * rows.loc[key, 'published']:.1f}" for key in names]
    text = " ".join(text_of("README.md").split())
    assert f"(one seed): {best} %; published settings gave {', '.join(first)} and {last} %" in text


def test_the_speedups_over_a_decoder_of_one_layer_are_the_measured_ones() -> None:
    rows = pd.read_csv(RESULTS / "answer-tuning" / "table.csv")
    rows = rows[rows["baseline"].str.endswith("decoder_depth=1", na=False)]
    level = rows[rows["label"].str.startswith("gfp")]["speedup"]
    faster = rows[rows["label"].str.startswith("amr")]["speedup"]
    assert len(level) == len(faster) == 2
    assert level.between(0.94, 1.06).all()
    assert {f"{value:.1f}" for value in faster} == {"1.4"}


def test_what_equal_clips_give_on_the_first_page_is_on_the_page_of_the_answer() -> None:
    section = section_of_answer("utdmhad, 300s (a-utdmhad)")
    table = section.partition("\n### Equal clips")[2].partition("\n### ")[0]
    clips = float(re.findall(r"about (\S+) clips", table)[0])
    row = {
        name: cells.split("|")[1].split()[0]
        for name, cells in re.findall(r"^\| ([\w-]+) \|(.*)$", table, flags=re.MULTILINE)
        if name in ("amr", "gfp", "skeletonmae")
    }
    said = f"AMR is at {row['amr']}, GFP at {row['gfp']}, SkeletonMAE at {row['skeletonmae']} %"
    text = " ".join(text_of("README.md").split())
    assert f"after {round(clips, -3):,.0f} each, {said}" in text


def test_what_fine_tuning_gives_on_the_first_page_is_what_its_study_says() -> None:
    rows = table_of("answer-a-utdmhad-trained", "finetune:epochs=30")
    amr, gfp, coordinates, mamp, scratch = (
        rows[name].partition(" ")[0]
        for name in ("amr", "gfp", "skeletonmae", "mamp", "random-init")
    )
    text = " ".join(text_of("README.md").split())
    assert f"AMR {amr}, GFP {gfp}, SkeletonMAE {coordinates}, MAMP {mamp} %; none is told" in text
    assert f"above training from scratch ({scratch} %), MAMP is below it." in text
    section = section_of_answer("utdmhad, 300s (a-utdmhad-trained)")
    said = "protocol finetune:epochs=30: above training from scratch: nobody; below: mamp; "
    assert said in section


def section_of_answer(title: str) -> str:
    """A part of the page of the answer."""
    answer = text_of("benchmarks/answer/README.md")
    return answer.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_accuracies_of_the_first_page_are_those_of_the_study() -> None:
    others = table_of("answer-b-utdmhad", "linear")
    del others["skeletonmae-graph (untrained)"]
    rows = {**others, **table_of("answer-a-utdmhad", "linear")}  # of what both have six seeds
    first = text_of("README.md")
    shown = dict(re.findall(r"^\| `([\w-]+)` \|.*\| (\d[^|]*) \|$", first, flags=re.MULTILINE))
    assert shown.keys() == rows.keys()
    for name, accuracy in shown.items():
        assert rows[name].startswith(accuracy), name
    text = " ".join(first.split())
    for title, label in {
        "AMR": "amr",
        "GFP": "gfp",
        "SkeletonMAE": "skeletonmae",
        "MAMP": "mamp",
    }.items():
        mean = rows[label].partition(" ")[0]
        assert re.search(rf"{title}'s (frozen features classify )?{mean} %", text), label


def test_who_is_above_whom_on_the_first_page_is_what_the_study_says() -> None:
    """Where a new study says otherwise, "The answer so far" follows."""
    section = section_of_answer("utdmhad, 300s (a-utdmhad)")
    apart = [
        {
            (one, other)
            for said in told.split("; ")
            for one, _, others in [said.partition(" is above ")]
            for other in re.split(", | and ", others)
        }
        for told in re.findall(r"^- protocol [^,]*, these people: (.*); no other", section, re.M)
    ]
    methods = {"gfp", "amr", "skeletonmae", "mamp"}
    assert len(apart) == 3
    pairs = [pair for told in apart for pair in told if pair[0] in methods]
    assert Counter(pairs) == {
        ("amr", "skeletonmae"): 3,
        ("amr", "random-init"): 3,
        ("amr", "mamp"): 2,
        ("gfp", "mamp"): 2,
        ("gfp", "random-init"): 2,
    }
    [seeds] = re.findall(r"^\| amr \| gfp \| [\d.]+ \| (\d+) \[", section, re.M)
    study = read_study(RESULTS / "answer-a-utdmhad", 0, alone=True)
    (column,) = [one for one in study.settings[0].columns if one.column.name == "protocol linear"]
    (pair,) = [one for one in column.these if (one.above, one.below) == ("amr", "gfp")]
    said = f"AMR is not told apart from GFP (p {pair.holm:.2f} after Holm; ±3 points would take"
    assert not pair.apart
    assert f"{said} {seeds} seeds)" in " ".join(text_of("README.md").split())
    others = section_of_answer("utdmhad, 300s (b-utdmhad)")
    beside = re.findall(r"^- protocol [^,]*: above the untrained encoder: (\w+); ", others, re.M)
    assert beside == ["nobody"] * 3


def test_the_best_measured_speeds_of_the_first_page_are_those_of_the_study() -> None:
    speeds = pd.read_csv(RESULTS / "answer-speed" / "speed.csv").set_index("method")
    amr, gfp = (
        f"{row['speedup']:.2f}x [{row['speedup_low']:.2f}, {row['speedup_high']:.2f}]"
        for _, row in speeds.loc[["amr", "gfp"]].iterrows()
    )
    assert f": {amr} and {gfp}." in " ".join(text_of("README.md").split())


def table_of(study: str, column: str) -> dict[str, str]:
    """Of a study's evaluations: what each row shows in the column of that heading."""
    page = (RESULTS / study / "evaluations.md").read_text(encoding="utf-8")
    tables = [
        [[cell.strip() for cell in line.split("|")] for line in block.splitlines()]
        for block in re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE)
    ]
    [(head, _, *found)] = [rows for rows in tables if column in rows[0]]
    return {row[1]: row[head.index(column)] for row in found}


def test_papers_of_the_first_page_are_those_of_the_methods() -> None:
    rows = dict(
        re.findall(r"^\| `([\w-]+)` \| ([^|]*) \|", text_of("README.md"), flags=re.MULTILINE)
    )
    methods = Registry().methods
    assert rows.keys() == methods.keys() | {RANDOM_INIT, RAW_FLOOR}
    for name, said in rows.items():
        if name not in methods:
            continue
        about = methods[name].about
        if about.control or about.division == "open":
            continue
        numbers = re.findall(r"\[(\d{4}\.\d{5})\]\(https://arxiv.org/abs/\1\)", said)
        assert numbers == re.findall(r"arXiv (\d{4}\.\d{5})", about.paper)[:1], name
        venues = r"[A-Z]+ 20\d\d|Pattern Analysis and Applications 20\d\d"
        assert re.findall(venues, said) == re.findall(venues, about.paper)[:1], name


def test_the_table_of_the_first_page_is_what_the_command_prints() -> None:
    shown = re.findall(r"```text\n(.*?)```", text_of("README.md"), flags=re.DOTALL)
    printed = harness("table", RESULTS / "synthetic-quick").out
    assert all(text in printed for text in shown)
    assert shown


def test_what_another_processor_gave_is_what_its_study_says() -> None:
    table = pd.read_csv(RESULTS / "synthetic-quick-intel" / "table.csv").set_index("label")
    row = table.loc["gfp"]
    assert f"an Intel Xeon gave [{row['speedup']:.2f}x](" in text_of("README.md")


# --- files beside the pages ---


def test_citation_changelog_and_hooks_are_of_this_version() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert f"\n## {citation['version']} - {citation['date-released']}\n" in text_of("CHANGELOG.md")
    (local,) = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    tools = {hook["entry"].split()[0] for hook in local["hooks"]}
    assert tools <= {Requirement(text).name for text in project["optional-dependencies"]["dev"]}
