"""The report as a file: the same bytes twice, everything escaped and inside,
allowed by hashes, small enough.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from harness.errors import UsageError
from harness.records.evaluations import EpochPoint, EvaluationRecord, Evaluations, TestClips
from harness.records.pictures import ClipPicture, RunPictures
from harness.records.schema import BOUND, Doubt, RunRecord, SpeedRecord
from harness.records.store import PICTURES_FILE, as_json, write_atomically
from harness.report.html.page import brief, write_report
from harness.spec.model import MethodSpec
from tests.harness.made_up_records import (
    ENVIRONMENT,
    TIME,
    arm,
    curve_record,
    ratio,
    run_record,
    speed_record,
    with_encoder,
)
from tests.harness.made_up_records import folder_of as folder
from tests.harness.test_claims import record as claim_record

HOSTILE = (
    "</script></style></title>\"'><img src=x"
    ' onerror="hacked=1"><script>hacked=1</script>\u202egnp.\u2028$\\frac{'
)
METHODS = ("gfp", "mamp", "skeletonmae")


def runs(seeds: int = 3) -> list[RunRecord]:
    """Three methods that are told apart, and the controls."""
    ends = {"gfp": 0.9, "mamp": 0.7, "skeletonmae": 0.5}
    found = [
        curve_record(name, end - 0.2, end - 0.1, end + 0.01 * ((seed * (1 + place)) % 3), seed=seed)
        for place, (name, end) in enumerate(ends.items())
        for seed in range(seeds)
    ]
    found += [
        run_record("random-init", 0.3 + 0.01 * (seed % 3), seed=seed) for seed in range(seeds)
    ]
    return [*found, run_record("raw-pca", 0.35)]


def measurement(**changes: Any) -> SpeedRecord:
    arms = (
        arm("gfp", ratio(1.9, 2.0, 2.1), clips=2.0),
        arm("mamp", ratio(0.97, 1.0, 1.03), clips=2.0, verdict="not supported"),
        arm("skeletonmae", ratio(1, 1, 1), clips=2.0),
        arm(BOUND, ratio(3.9, 4.0, 4.1), control=True, clips=2.0),
    )
    return speed_record(*arms).model_copy(update={"address": "speed-0123456789ab", **changes})


def page_of(tmp_path: Path, *folders: Path) -> str:
    out = tmp_path / "report.html"
    write_report(folders, out)
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with runs, a measurement and stages, and its page."""
    where = tmp_path_factory.mktemp("report")
    claims = claim_record().model_copy(update={"address": "speed-ba9876543210"})
    source = folder(where / "runs", *runs(), measurement(), claims)
    return source, page_of(where, source)


class Page(HTMLParser):
    """Tags with their attributes, texts by the tag that they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def attributes(self, name: str) -> list[str]:
        return [
            value or "" for _, found in self.tags for key, value in found.items() if key == name
        ]


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    return " ".join(" ".join(" ".join(texts) for texts in Page(page).texts.values()).split())


def records_of(page: str) -> list[dict[str, Any]]:
    (packed,) = re.findall(r'id="packed">"([^"]*)"', page)
    return [
        json.loads(line) for line in gzip.decompress(base64.b64decode(packed)).decode().split("\n")
    ]


# --- the answer ---


def test_the_answer_stands_at_the_top(made: tuple[Path, str]) -> None:
    top = text_of(made[1].partition("<nav")[0])
    assert "gfp trains 2.00 times as fast as skeletonmae [1.90, 2.10] (one process)." in top
    assert "gfp 91.0 %, above all others." in top
    assert "t test over 3 seeds" in top


def test_sections_stand_in_the_order_of_the_questions(made: tuple[Path, str]) -> None:
    anchors = [found.get("id") for tag, found in Page(made[1]).tags if tag == "section"]
    assert anchors == ["faster", "better", "trade", "why", "believe", "records"]
    assert "Not in these folders: published claims (`harness claim`), pictures" in text_of(made[1])


def test_every_number_leads_to_its_record(made: tuple[Path, str]) -> None:
    page = Page(made[1])
    ids, links = (
        page.attributes("id"),
        [link for link in page.attributes("href") if link.startswith("#r")],
    )
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.attributes("href") if link.startswith("#")} <= set(ids)
    assert len(links) > 30
    found = records_of(made[1])
    assert {record["address"] for record in found} == {
        path.parent.name
        for path in made[0].glob("*/*.json")
        if path.name in ("record.json", "speed.json")
    }


def test_a_control_has_no_budget_among_the_records(made: tuple[Path, str]) -> None:
    said = text_of(made[1])
    assert "gfp 0 60s ok" in said
    assert "random-init 0 - ok" in said


def test_the_page_names_encoders_by_their_numbers_and_none_of_raw_coordinates(
    tmp_path: Path,
) -> None:
    gfp = with_encoder(run_record("gfp"), depth=1, frames=24)
    page = text_of(page_of(tmp_path, folder(tmp_path / "runs", gfp, run_record("raw-pca"))))
    assert "encoder: tiny (depth=1, frames=24) machine: " in page


def test_a_folder_with_runs_to_go_says_so(tmp_path: Path) -> None:
    one, stopped = (
        run_record("gfp", 0.8),
        run_record("mamp", 0.7, status="interrupted", accuracy=None),
    )
    page = page_of(tmp_path, folder(tmp_path / "runs", one, stopped))
    assert "Still running: 1 of its runs are not done." in text_of(page)
    assert "Not finished yet." in text_of(page)


def test_a_doubt_is_told_at_the_top(tmp_path: Path) -> None:
    doubt = Doubt(kind="steps skipped", text="half of them")
    arms = [
        one.model_copy(update={"doubts": (doubt,)} if one.label == "gfp" else {})
        for one in measurement().arms
    ]
    top = text_of(
        page_of(tmp_path, folder(tmp_path / "runs", *runs(), measurement(arms=arms))).partition(
            "<nav"
        )[0]
    )
    assert "In doubt: what was measured is not what it seems." in top
    assert "gfp: in doubt (steps skipped)" in top


def test_several_folders_are_one_report(tmp_path: Path) -> None:
    first = folder(tmp_path / "first", *runs())
    second = folder(tmp_path / "second", measurement())
    page = text_of(page_of(tmp_path, first, second))
    assert "first + second" in page
    assert "Not measured under these settings." in page


def test_measurements_of_one_address_in_two_folders_are_two(tmp_path: Path) -> None:
    first = folder(tmp_path / "first", measurement())
    second = folder(tmp_path / "second", measurement(finished=TIME.replace(hour=4), floor=1.02))
    page = page_of(tmp_path, first, second)
    assert [record["floor"] for record in records_of(page)] == [1.05, 1.02]
    assert page.count("Speedup over skeletonmae</figcaption>") == 2
    assert {'href="#r0"', 'href="#r1"'} <= set(re.findall(r'href="#r\d+"', page))


def test_a_folder_without_records_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(UsageError, match="expected records of `run` or `speed`, found none"):
        write_report([tmp_path / "runs"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def pictures(run: RunRecord, *, free: bool, title: str = "wave") -> RunPictures:
    """One clip of two joints and a bone at two moments,
    a body that is there and one that is not.
    """
    there, absent = [(0.0, 0.0), (0.5, 1.0)], [(0.0, 0.0), (0.0, 0.0)]
    clip = ClipPicture(
        title=title,
        seconds=[0.0, 1.0],
        original=[[there, absent]] * 2,
        visible=[[[True, False], [False, False]]] * 2,
        reconstruction=[[there, absent]] * 2,
    )
    return RunPictures(
        run=run.address,
        label=run.label,
        seed=run.spec.seed,
        step=100,
        data="synthetic" if free else "private",
        fingerprint="f" * 16,
        free=free,
        licence="made here" if free else "",
        bones=[(0, 1)],
        sides=[0, 1],
        clips=[clip],
    )


def test_pictures_are_drawn_of_data_that_may_be_passed_on_alone(tmp_path: Path) -> None:
    one, other = run_record("gfp", 0.8), run_record("mamp", 0.7)
    source = folder(tmp_path / "runs", one, other)
    for run, free in ((one, True), (other, False)):
        write_atomically(
            source / run.address / PICTURES_FILE, as_json(pictures(run, free=free, title=HOSTILE))
        )
    page = page_of(tmp_path, source)
    assert page.count('aria-label="tokens that the method saw') == 1
    assert "gfp, seed 0: </script></style>" in text_of(page)
    assert "clips of synthetic (made here)" in text_of(page)
    assert "pictures of private stay beside their records" in text_of(page)
    drawing = page[page.index('aria-label="tokens that') :]
    assert (
        drawing.count('stroke="var(--c2)"') == 2
    )  # a seen token at either moment, of the body that is there


# --- the file ---


def test_the_same_records_are_the_same_bytes(made: tuple[Path, str], tmp_path: Path) -> None:
    assert page_of(tmp_path, made[0]) == made[1]


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(
    made: tuple[Path, str],
) -> None:
    page = made[1]
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    assert (
        policy
        == f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert page.index("Content-Security-Policy") < page.index("<style>")
    assert not Page(page).attributes("style")
    assert not [name for _, found in Page(page).tags for name in found if name.startswith("on")]


def test_nothing_is_asked_of_anybody(made: tuple[Path, str]) -> None:
    page = made[1]
    assert not re.findall(r"url\((?!#)|@import|fetch\(|XMLHttpRequest|import\(|http:|https:", page)
    assert {tag for tag, _ in Page(page).tags} & {
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "img",
    } == set()
    assert all(link.startswith("#") for link in Page(page).attributes("href"))
    assert not Page(page).attributes("src")


def test_two_hundred_runs_stay_below_a_megabyte_and_hold_their_records(tmp_path: Path) -> None:
    many = [of_seed(record, seed) for seed in range(65) for record in runs(1)[:3]]
    source = folder(tmp_path / "runs", *many, measurement())
    page = page_of(tmp_path, source)
    assert len(page) < 1_000_000
    assert len(records_of(page)) == 196
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]


def of_seed(record: RunRecord, seed: int) -> RunRecord:
    spec = record.spec.model_copy(update={"seed": seed})
    return record.model_copy(update={"spec": spec, "address": spec.address})


def test_of_more_runs_the_records_lie_beside_the_page(tmp_path: Path) -> None:
    source = folder(
        tmp_path / "runs", *(of_seed(record, seed) for seed in range(68) for record in runs(1)[:3])
    )
    page = page_of(tmp_path, source)
    lines = (tmp_path / "report.records.jsonl").read_text().splitlines()
    assert len(lines) == 204
    assert 'href="report.records.jsonl"' in page
    assert 'id="packed">""' in page
    row = re.findall(r'<tr id="r203"><td>([a-z]+)', page)
    assert row == [json.loads(lines[203])["label"]]


# --- hostile text ---


def hostile(value: Any, text: str) -> Any:
    """A record with this text in every field that holds free text."""
    if isinstance(value, BaseModel):
        changed = {name: hostile(getattr(value, name), text) for name in type(value).model_fields}
        return value.model_copy(
            update={name: one for name, one in changed.items() if name not in KEPT}
        )
    if isinstance(value, str):
        return text
    if isinstance(value, tuple | list):
        return type(value)(hostile(one, text) for one in value)
    if isinstance(value, dict):
        return {
            f"{key}{text}" if isinstance(one, str) else key: hostile(one, text)
            for key, one in value.items()
        }
    return value


KEPT = frozenset(
    {
        "address",
        "spec",
        "status",
        "kind",
        "schema_version",
        "division",
        "verdict",
        "baseline",
        "started",
        "finished",
        "losses",
        "weights",
        "run",
        "encoder",
        "data",
        "error",
        "traceback",
    }
)
"""What decides where a record lies and which of them are shown together;
texts in some of them are set below.
"""


def hostile_run(record: RunRecord, text: str) -> RunRecord:
    """Every text of a run, its row's name too; the data's name,
    and the error of one that failed.
    """
    name = f"{record.label}{text}"
    spec = record.spec.model_copy(update={"method": MethodSpec(name=name)})
    data = record.data.model_copy(update={"name": text, "notes": (text,)})
    doubts = () if record.method.control else (Doubt(kind="steps skipped", text=text),)
    error = {} if record.status == "ok" else {"error": text, "traceback": text}
    changed = {
        "label": name,
        "spec": spec,
        "data": data,
        "doubts": doubts,
        "warnings": (text,),
        **error,
    }
    return hostile(record, text).model_copy(update=changed)


def hostile_folder(where: Path, text: str) -> Path:
    failed = run_record("gfp", seed=9, status="failed", accuracy=None)
    found = [hostile_run(one, text) for one in (*runs(), failed) if not one.method.control]
    found += [one for one in runs() if one.method.control]
    arms = [
        one.model_copy(
            update={
                "label": f"{one.label}{text}",
                "warnings": (text,),
                "phases": {text: 1.0, "data": 1.0},
                "forward_shares": {text: 0.5},
            }
        )
        for one in measurement().arms
    ]
    speed = hostile(measurement(), text).model_copy(
        update={
            "arms": arms,
            "baseline": f"skeletonmae{text}",
            "rules": text,
            "failures": {text: text},
        }
    )
    for one in (*found, speed):  # not by the store, whose names of files come from methods
        name = "record.json" if isinstance(one, RunRecord) else "speed.json"
        write_atomically(where / one.address / name, as_json(one))
    evaluations = Evaluations(where)
    for one in found[:9]:
        evaluations.write(evaluation(one, text))
    evaluations.write_test_clips(
        TestClips(fingerprint="f" * 16, labels=[0] * 4, subjects=[1, 2, 3, 4], class_names=[text])
    )
    return where


def evaluation(run: RunRecord, text: str = "") -> EvaluationRecord:
    return EvaluationRecord(
        address="linear-v1-0123456789ab",
        run=run.address,
        label=run.label,
        seed=run.spec.seed,
        protocol=f"linear{text}",
        spec=f"linear:x={text}",
        options={"x": text},
        encoder="last",
        data="f" * 16,
        status="ok",
        accuracy=0.5,
        predictions=[0, 0, 1, 1],
        curve=[EpochPoint(epoch=1, accuracy=0.5)],
        notes=(text,),
        environment=ENVIRONMENT,
        started=TIME,
        finished=TIME,
    )


def test_hostile_text_in_every_field_is_only_text(tmp_path: Path) -> None:
    page = page_of(tmp_path, hostile_folder(tmp_path / "runs", HOSTILE))
    parsed = Page(page)
    assert [tag for tag, _ in parsed.tags if tag in ("script", "style", "img", "iframe")] == [
        "style",
        "script",
        "script",
    ]
    assert not [name for _, found in parsed.tags for name in found if name.startswith("on")]
    assert "hacked=1" in text_of(page)  # shown, as text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u2028]", page)  # turns nothing around
    whole = {record["label"] for record in records_of(page) if record["kind"] == "run"}
    assert {
        f"gfp{HOSTILE}",
        f"mamp{HOSTILE}",
        f"skeletonmae{HOSTILE}",
        "random-init",
        "raw-pca",
    } == whole


def test_long_texts_are_shortened(tmp_path: Path) -> None:
    page = page_of(tmp_path, hostile_folder(tmp_path / "runs", "long " * 20_000))
    assert len(page) < 1_000_000
    shown = [
        text
        for name, texts in Page(page).texts.items()
        if name not in ("style", "script")
        for text in texts
    ]
    assert max(map(len, shown)) < 1_000


def test_a_text_is_one_line_and_not_too_long() -> None:
    assert brief("a\nb", 10) == "a\\nb"
    assert brief("\u202eabc", 10) == "\\u202eabc"
    assert brief("abcdefgh", 5) == "abcde… (8 characters)"
