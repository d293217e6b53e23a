"""The report in a real browser: asks nobody for anything, sorts, filters, tells values,
holds its layout, prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.report.html.page import write_report
from tests.harness.chromium import BINARY, Tab, browser
from tests.harness.test_report_page import (
    HOSTILE,
    claim_record,
    folder,
    hostile_folder,
    measurement,
    runs,
)

pytestmark = [pytest.mark.long, pytest.mark.skipif(not BINARY, reason="no chromium here")]
WIDTHS = (1280, 390)
PLACE = """(async () => {
  const part = document.querySelector('%s');
  part.scrollIntoView({block: 'center', behavior: 'instant'});
  await new Promise(done => setTimeout(done, 100));
  const box = part.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})()"""
"""The middle of an element, which is brought into view."""
COLUMN = "[...document.querySelectorAll('#faster tbody tr')].map(row => row.cells[%d].textContent)"


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report like any other, one full of markup, and one with texts of a megabyte."""
    where = tmp_path_factory.mktemp("reports")
    claims = claim_record().model_copy(update={"address": "speed-ba9876543210"})
    sources = {
        "plain": folder(where / "plain", *runs(), measurement(), claims),
        "hostile": hostile_folder(where / "hostile", HOSTILE),
        "long": hostile_folder(where / "long", "wide" * 250_000),
    }
    for name, source in sources.items():
        write_report([source], where / f"{name}.html")
    return {name: where / f"{name}.html" for name in sources}


@pytest.mark.parametrize("name", ["plain", "hostile", "long"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_asked_of_anybody_nothing_runs_and_the_layout_holds(
    tab: Tab, pages: dict[str, Path], name: str, width: int
) -> None:
    tab.look(width)
    tab.open(pages[name])
    tab.run("scrollTo(0, document.documentElement.scrollHeight)")
    tab.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert tab.requests == [pages[name].resolve().as_uri()]
    assert tab.problems == []
    assert tab.run("typeof hacked") == "undefined"
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert (
        tab.run(
            "document.images.length + document.querySelectorAll('iframe, object, embed').length"
        )
        == 0
    )


def test_a_page_that_tries_cannot_run_a_script_or_ask_for_a_picture(
    tab: Tab, pages: dict[str, Path], tmp_path: Path
) -> None:
    """The policy itself holds, were a text ever not escaped."""
    evil = (
        '<script>window.hacked = 1</script><img src="http://localhost:1/x"><p style="color:red"'
        ' onclick="hacked=1">'
    )
    page = pages["plain"].read_text(encoding="utf-8").replace("<main>", f"<main>{evil}")
    (tmp_path / "evil.html").write_text(page, encoding="utf-8")
    tab.open(tmp_path / "evil.html")
    tab.run("new Promise(done => setTimeout(done, 300))")
    assert tab.run("typeof hacked") == "undefined"
    assert any("script" in problem and "violates" in problem for problem in tab.problems)
    assert any("http://localhost:1/x" in problem for problem in tab.problems)


def test_a_click_on_a_heading_sorts_by_value_and_back(tab: Tab, pages: dict[str, Path]) -> None:
    tab.look(1280)
    tab.open(pages["plain"])
    tab.click(*tab.run(PLACE % "#faster th:nth-child(2)"))
    assert tab.run(COLUMN % 0) == ["encoder-only", "gfp", "mamp", "skeletonmae"]
    tab.click(*tab.run(PLACE % "#faster th:nth-child(2)"))
    assert tab.run(COLUMN % 0) == ["mamp", "skeletonmae", "gfp", "encoder-only"]
    tab.click(*tab.run(PLACE % "#faster th:nth-child(1)"))
    assert tab.run(COLUMN % 0) == ["skeletonmae", "mamp", "gfp", "encoder-only"]


def test_what_is_typed_filters_rows(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["plain"])
    tab.click(*tab.run(PLACE % "#records .filter"))
    tab.call("Input.insertText", text="mamp")
    shown = "[...document.querySelectorAll('#records tbody')][0].rows"
    assert tab.run(f"[...{shown}].filter(row => row.offsetParent).length") == 3


def test_a_mark_tells_its_value_and_leads_to_its_record(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["plain"])
    tab.point(*tab.run(PLACE % "#better .chart .tip use"))
    told = tab.run(
        "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent"
    )
    assert "%" in told
    tab.click(*tab.run(PLACE % "#faster .chart a use"))
    tab.run("new Promise(done => setTimeout(done, 50))")
    assert tab.run("document.querySelector(':target').textContent").startswith("speed-0123456789ab")


def test_a_whole_record_opens(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["plain"])
    tab.click(*tab.run(PLACE % "#r0 button"))
    tab.run("new Promise(done => setTimeout(done, 300))")
    found = tab.run(
        "document.querySelector('dialog').open && document.querySelector('dialog pre').textContent"
    )
    assert '"label": "gfp"' in found
    assert '"curve": [' in found


@pytest.mark.parametrize("width", WIDTHS)
def test_light_and_dark_differ_and_both_are_pictures(
    tab: Tab, pages: dict[str, Path], width: int
) -> None:
    pictures, colours = [], []
    for dark in (False, True):
        tab.look(width, dark=dark)
        tab.open(pages["plain"])
        pictures.append(tab.picture())
        colours.append(tab.run("getComputedStyle(document.body).backgroundColor"))
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert len(set(colours)) == 2


def test_it_prints_with_everything_that_is_folded(tab: Tab, pages: dict[str, Path]) -> None:
    tab.look(1280)
    tab.open(pages["plain"])
    assert tab.paper().startswith(b"%PDF")
    assert tab.run("[...document.querySelectorAll('details')].every(part => part.open)")


def test_on_a_phone_the_table_of_settings_is_stacked(tab: Tab, tmp_path: Path) -> None:
    other = [
        run.model_copy(update={"spec": spec, "address": spec.address})
        for run in runs()
        for spec in [run.spec.with_train(budget="10s")]
    ]
    write_report([folder(tmp_path / "two", *runs(), *other, measurement())], tmp_path / "r.html")
    tab.open(tmp_path / "r.html")
    shown = "[...document.querySelectorAll('.others table')].map(one => %s)"
    tab.look(1280)
    assert tab.run(shown % "one.tHead.offsetHeight > 0") == [True]
    tab.look(390)
    assert tab.run(shown % "one.tHead.offsetHeight > 0") == [False]
    assert tab.run(shown % "one.scrollWidth <= one.parentElement.clientWidth") == [True]
    name = "getComputedStyle(one.rows[1].cells[1], '::before').content"
    assert tab.run(shown % name) == ['"trains faster: "']
