"""What `gpu.py` measured beside what was expected, from its folder of results or its unpacked
archive.

    python benchmarks/gpu_report.py runs/gpu/results --out report.md

Every table is rendered from the records, those of measurements that were stopped too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import harness  # noqa: F401 - makes its neighbours importable  # isort: split
from harness.errors import UsageError
from harness.records.schema import ArmRecord, SpeedRecord
from harness.records.store import SPEED_FILE, Refused, read_record, read_records, write_atomically
from harness.report.explain import factor, waterfall, waterfall_notes
from harness.report.folder import folder_tables
from harness.report.speed import NTU60_CLIPS, speed_notes, speed_table
from harness.report.table import to_markdown
from harness.studies.claims import Claim, make_card, read_claims, row_of


class Expected(NamedTuple):
    """What a part should find of a method.

    Attributes:
        method: its labels; another one at another size of encoder.
        clips: per second.
        ratio: speedup over MAMP, at least and at most.
    """

    part: str
    method: Sequence[str]
    clips: float
    ratio: tuple[float, float] | None = None


MAMP = ("mamp", "mamp:decoder_depth=5")
EXPECTED = (
    Expected("eager", MAMP, 3_900),
    Expected("eager", ["gfp"], 12_000, (3.0, 3.6)),
    Expected("eager", ["amr"], 18_000, (4.5, 5.0)),
    Expected("compiled", MAMP, 5_300),
    Expected("compiled", ["gfp"], 19_000, (3.0, 3.6)),
    Expected("compiled", ["amr"], 27_000, (4.5, 5.0)),
)
EXPECTED_OF = ("eager", "compiled")
SOURCE = (
    "expected: estimates, ± 30 %, for one H100 at base, 256 body sequences and bf16, from counted"
    " FLOPs, launches and bytes moved before this code had run on any GPU: nothing in that column"
    " was measured"
)
GFP_EPOCHS, GFP_SECONDS = 400, 20 * 60
PUBLISHED = (
    f"gfp as published: {GFP_EPOCHS} epochs of NTU RGB+D 60's {NTU60_CLIPS:,} training clips in "
    f"{GFP_SECONDS // 60} minutes on one H200, by division"
)

States = Mapping[str, Mapping[str, str]]
"""How far each part came that was begun."""
CLAIMS_OF = ("claims", "claims-sjepa")
"""Parts that measure claims about training."""
FIRST = 3
"""Sections that are printed: the parts, what was expected, the claims."""

# --- what there is ---


def measurement(results: Path, part: str) -> tuple[SpeedRecord, str] | None:
    """The newest finished measurement of a part; without one, of those that were stopped the one
    with most rounds.

    Also what its heading says of that. A part that was run several times has a folder for each.
    """
    found = []
    for path in [*results.glob(f"{part}/*/speed*.json"), *results.glob(f"{part}.*/*/speed*.json")]:
        with contextlib.suppress(Refused):
            record = read_record(path, SpeedRecord)
            rounds = 0 if path.name == SPEED_FILE else record.same.pairs
            found.append((rounds == 0, rounds, record.finished, record))
    if not found:
        return None
    _, rounds, _, record = max(found, key=lambda one: one[:3])
    return record, f", stopped after {rounds} rounds" if rounds else ""


def arm_of(record: SpeedRecord, labels: Sequence[str]) -> ArmRecord | None:
    """A method's side, under any of its labels."""
    return next((arm for arm in record.arms if arm.label in labels), None)


def not_measured(parts: Sequence[str], found: Iterable[str], states: States) -> list[str]:
    """A line on those of the parts that measured nothing, and how far they came."""
    missing = [
        f"{part} ({states[part]['state'] if part in states else 'not run'})"
        for part in parts
        if part not in found
    ]
    return [f"not measured: {', '.join(missing)}"] if missing else []


# --- tables ---


def expected_table(records: Mapping[str, SpeedRecord]) -> pd.DataFrame:
    """Estimates and a published number beside what was measured, of parts that were."""
    rows = []
    for part, labels, clips, ratio in EXPECTED:
        if part not in records:
            continue
        arm = arm_of(records[part], labels)
        rows.append(
            beside(f"{labels[0]}: clips/s, {part}", (clips,), arm.clips_per_second if arm else None)
        )
        if ratio:
            rows.append(
                beside(
                    f"{labels[0]}: times mamp's clips/s, {part}",
                    ratio,
                    arm.ratio.value if arm else None,
                )
            )
    for part in filter(records.__contains__, EXPECTED_OF):
        arm = arm_of(records[part], ["gfp"])
        published = GFP_EPOCHS * NTU60_CLIPS / GFP_SECONDS
        rows.append(
            beside(
                f"gfp: clips/s as published, {part}",
                (published,),
                arm.clips_per_second if arm else None,
            )
        )
    return pd.DataFrame(rows)


def beside(what: str, expected: Sequence[float], found: float | None) -> dict[str, str]:
    """A row: a number or both ends of a range, what was found,
    and how many times the middle that is.
    """
    row = {
        "what": what,
        "expected": " to ".join(map(number, expected)),
        "measured": "-",
        "measured / expected": "-",
    }
    if found is not None:
        row |= {
            "measured": number(found),
            "measured / expected": f"{found * len(expected) / sum(expected):.2f}",
        }
    return row


def number(value: float) -> str:
    """Three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def claims_table(records: Sequence[SpeedRecord]) -> pd.DataFrame:
    """The verdict on every claim card about training whose methods were to be measured, under the
    claim's own definition, for both ways of training.
    """
    return pd.DataFrame(
        {"claim": name, "about a": claim.device, "claimed": f"{claim.factor:g}x", **row}
        for name, claim in training_claims().items()
        for row in verdicts(claim, [record for record in records if has_rows(record, claim)])
    )


def has_rows(record: SpeedRecord, claim: Claim) -> bool:
    """Both of the claim's methods were to be measured."""
    with contextlib.suppress(UsageError):
        return all(row_of(record, name) for name in (claim.method, claim.baseline))
    return False


def verdicts(claim: Claim, records: Sequence[SpeedRecord]) -> list[dict[str, str | None]]:
    """A row for each way of training, from the first of the records that has one; else why."""
    reasons = []
    for record in records:
        try:
            card = make_card(claim, record)
        except UsageError as problem:
            reasons.append(str(problem))
            continue
        return [
            {
                "trained": one.way,
                "measured": factor(one.ratio, record.floor),
                "verdict": one.verdict,
            }
            for one in card.measurements
            if one.ratio and one.verdict
        ]
    return [{"trained": "-", "measured": "-", "verdict": reason} for reason in reasons[:1]]


def training_claims() -> dict[str, Claim]:
    """Claims about training whose methods are rows of the suite, by name:
    what the parts of `CLAIMS_OF` measure.
    """
    return {
        name: one
        for name, one in read_claims().items()
        if one.what == "training" and not one.unmeasured
    }


def losses_table(methods: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What `gpu_losses.py` found."""
    rows = [{"method": name, **found} for name, found in methods.items()]
    plain = [
        {key: f"{v:.6g}" if isinstance(v, float) else str(v) for key, v in row.items()}
        for row in rows
    ]
    return pd.DataFrame(plain).fillna("-")


# --- the page ---


def section(title: str, table: pd.DataFrame, lines: Sequence[str], command: str) -> str:
    """A table and its notes under a heading; of one without rows the notes alone."""
    notes = "".join(f"- {line}\n" for line in lines)
    return f"## {title}\n\n" + (notes if table.empty else to_markdown(table, lines, command))


def sections(results: Path) -> Iterator[str]:
    """Of the page: how far the parts came, what was expected, verdicts, then every part."""
    states: States = json.loads((results / "parts.json").read_text(encoding="utf-8"))
    found = {name: one for name in states if (one := measurement(results, name))}
    records = {name: record for name, (record, _) in found.items()}
    parts = pd.DataFrame([{"part": name, **state} for name, state in states.items()]).drop(
        columns="command"
    )
    command = "python benchmarks/gpu_report.py"
    yield "# On a GPU\n\n## Parts\n\n" + to_markdown(parts, [], "python benchmarks/gpu.py")
    yield section(
        "Beside what was expected",
        expected_table(records),
        [SOURCE, PUBLISHED, *not_measured(EXPECTED_OF, found, states)],
        command,
    )
    claimed = [part for part in CLAIMS_OF if part in found]
    yield section(
        "Claims",
        claims_table([records[part] for part in claimed]),
        [
            *(f"from {part}{said}" for part in claimed if (said := found[part][1])),
            *not_measured(CLAIMS_OF, found, states),
        ],
        command,
    )
    for name, state in states.items():
        if name in found:
            record, said = found[name]
            table, notes = (
                (waterfall, waterfall_notes) if record.stages else (speed_table, speed_notes)
            )
            yield f"## {name}{said}\n\n" + to_markdown(
                table(record, wide=True), notes(record), state["command"]
            )
        losses, published = results / name / "losses.json", results / name / "as-published.md"
        if losses.exists():
            content = json.loads(losses.read_text(encoding="utf-8"))
            lines = [
                f"{content['device']}; relative tolerances {content['tolerance']}; {content['at']}"
            ]
            yield f"## {name}\n\n" + to_markdown(
                losses_table(content["methods"]), lines, state["command"]
            )
        if published.exists():
            yield f"## {name}\n\n" + published.read_text(encoding="utf-8")
        for shown in (
            folder_tables(read_records(results / name))
            if any((results / name).glob("*/record.json"))
            else []
        ):
            yield f"## {name}, accuracy\n\n" + to_markdown(
                shown.wide, shown.lines(), state["command"]
            )


def main() -> int:
    """Leave the page, and print its beginning: what is wanted most."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    page = list(sections(arguments.results))
    write_atomically(arguments.out, "\n".join(page).encode())
    print("\n".join(page[:FIRST]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
