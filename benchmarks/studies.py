"""What was measured: the list of the studies in `benchmarks/results`, from the page of each.

    python benchmarks/studies.py          # writes benchmarks/README.md

`harness shelve` makes the page of a study with records; that of another one is written by hand,
with its figures as they stand in the tables beside it.
"""

from __future__ import annotations

from pathlib import Path

from harness.report.shelf import studies_page

HERE = Path(__file__).resolve().parent
INTRODUCTION = """\
# What was measured

One folder a study: its page says why it was made and with what, `records.jsonl` holds every number of it, a record a
line, and every command that reads a folder reads it: `python -m harness table benchmarks/results/NAME`.
`harness shelve` makes one; `RULES.md` says how it is measured. This list is made of their pages:

"""  # noqa: E501


def page() -> str:
    """The list with what is to say about it."""
    return INTRODUCTION + studies_page(HERE / "results", HERE, "python benchmarks/studies.py")


if __name__ == "__main__":
    (HERE / "README.md").write_text(page(), encoding="utf-8")
