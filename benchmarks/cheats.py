"""How often honest methods are called in doubt, and which cheats are caught (benchmarks/RULES.md,
"In doubt").

    python benchmarks/cheats.py --rounds 4 --out benchmarks/results/cheats
    python benchmarks/cheats.py --specimens --out benchmarks/results/cheats

A round is one honest run of three built-in methods on small made-up data: measured side by side,
then trained and probed. Each call adds its rounds, with seeds that go on, to `rounds.jsonl`, and
renders `table.md` from all of them. Every doubt about an honest method is a false alarm.
`--specimens` runs methods of `cheating_methods.py`, all or those named, beside an honest one, and
adds their verdicts to `specimens.jsonl`.

With `--even-disturbed` no block counts as disturbed. The judgement of steps in training is never
silent then, which is harder on honest methods than the rule is, and says something on a busy
machine too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import harness
from datasets.formats.npz import write_npz
from datasets.synthetic.generation import generate
from harness.machine import describe_environment, select_device
from harness.records.doubts import doubts_of, step_factor
from harness.records.schema import RunRecord, SpeedRecord
from harness.speed.disturbance import Watch

TRIPLES = (
    "gfp,mamp,skeletonmae",
    "amr,skeleton2vec,skeletonmae",
    "gfp,sjepa,skeletonmae",
    "amr,gfp,skeletonmae",
    "skeletonmae-region,skeletonmae-graph,skeletonmae",
)
ACTIONS = ("pick_up", "wave", "march", "kick", "clap", "throw")
PLUGIN = Path(__file__).with_name("cheating_methods.py")
SPECIMENS = (
    "cheats-when-timed",
    "cheats-with-the-batch",
    "cheats-on-meta",
    "cheats-with-tokens",
    "cheats-with-steps",
    "cheats-in-place",
    "cheats-in-diagnose",
)
HONEST = ("honest",)


def main() -> int:
    """Run what was asked for and render the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seeds-from", type=int, default=0)
    parser.add_argument("--specimens", nargs="*", choices=SPECIMENS, metavar="NAME")
    parser.add_argument("--budget", default="4s", help="of each training [4s]")
    parser.add_argument("--speed-seconds", type=float, default=8.0)
    parser.add_argument("--even-disturbed", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file, settings = arguments.out / "rounds.jsonl", vars(arguments)
    if arguments.even_disturbed:
        Watch.since = lambda self, moment: ""  # type: ignore[method-assign]
    for _ in range(arguments.rounds):
        number = arguments.seeds_from + len(rounds(file))
        found = one_round(TRIPLES[number % len(TRIPLES)].split(","), number, settings)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(found) + "\n")
        print(json.dumps(found["rows"]))
    if arguments.specimens is not None:
        found = one_round([*(arguments.specimens or SPECIMENS), *HONEST], 0, settings)
        with (arguments.out / "specimens.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(found) + "\n")
    (arguments.out / "table.md").write_text("\n".join(page(arguments.out)) + "\n", encoding="utf-8")
    return 0


def rounds(file: Path) -> list[dict[str, Any]]:
    """All rounds so far."""
    return (
        [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        if file.exists()
        else []
    )


def one_round(methods: list[str], seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """One run; what each row gave away, and what its steps took
    in training over the interleaved ones.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        write_npz(data, generate(subjects=6, actions=ACTIONS))
        result = harness.run(
            methods,
            seeds=[seed],
            dataset=str(data),
            encoder="tiny",
            batch_size=8,
            budget=settings["budget"],
            speed_seconds=settings["speed_seconds"],
            device=settings["device"],
            out=Path(folder) / "out",
            baseline=methods[-1],
            plugins=[PLUGIN],
            overrides={"probe.points": 1},
        )
    environment = describe_environment(select_device(settings["device"]))
    return {
        "seed": seed,
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        "machine": f"{environment.device}, {environment.processor}, {environment.threads} threads",
        "versions": {
            name: environment.versions[name] for name in ("python", "torch", "timm", "numpy")
        },
        "commit": environment.commit,
        "settings": {
            name: settings[name] for name in ("budget", "speed_seconds", "even_disturbed")
        },
        "disturbed": result.speed.health.disturbed_share if result.speed.health else 0.0,
        "rows": {label: row(label, result.records, result.speed) for label in methods},
    }


def row(label: str, records: Sequence[RunRecord], speed: SpeedRecord) -> dict[str, Any]:
    """The doubts about a method, and its factor; None where that cannot be judged."""
    (record,) = (record for record in records if record.label == label)
    return {
        "status": record.status,
        "factor": step_factor(record),
        "doubts": [doubt.model_dump() for doubt in doubts_of(label, records, speed)],
    }


# --- the page ---


def page(folder: Path) -> list[str]:
    """False alarms, then specimens."""
    done, specimens = rounds(folder / "rounds.jsonl"), rounds(folder / "specimens.jsonl")
    lines = ["# Rows in doubt: false alarms, and cheats", ""]
    for even in (False, True):
        if some := [one for one in done if one["settings"]["even_disturbed"] is even]:
            lines += false_alarms(some)
    for found in specimens:
        lines += caught(found)
    return lines


def false_alarms(done: list[dict[str, Any]]) -> list[str]:
    """Counts over all rounds, and by method."""
    rows = [
        (label, found, one["disturbed"]) for one in done for label, found in one["rows"].items()
    ]
    judged = [
        (label, found)
        for label, found, disturbed in rows
        if found["factor"] is not None and disturbed <= 0.5
    ]
    doubted = [(label, doubt) for label, found, _ in rows for doubt in found["doubts"]]
    timed = [label for label, doubt in doubted if doubt["kind"] == "not as timed"]
    last, even = done[-1], done[-1]["settings"]["even_disturbed"]
    lines = [
        (
            f"`python benchmarks/cheats.py --rounds N{' --even-disturbed' * even}`, {len(done)}"
            f" honest runs of three methods in all; rules 4; {conditions(last)}"
        ),
        "",
        f"- rows: {len(rows)}; in doubt for any reason (false alarms): {len(doubted)}",
        (
            f"- steps in training against interleaved ones: judged in {len(judged)} rows, false"
            f" alarms {len(timed)}; silent in {len(rows) - len(judged)} (blocks disturbed, or under"
            " half a second of them)"
        ),
        (
            "- factor: processor time of a step in training over the same while timed; far is above"
            " 1.5 or below 0.67"
        ),
        *(f"- false alarm: {label}: {doubt['kind']}: {doubt['text']}" for label, doubt in doubted),
        "",
        "| method | rows | judged | lowest factor | highest | false alarms |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted({label for label, _, _ in rows}):
        factors = [found["factor"] for label, found in judged if label == name]
        ends = [f"{min(factors):.2f}", f"{max(factors):.2f}"] if factors else ["-", "-"]
        count = sum(label == name for label, _, _ in rows)
        alarms = sum(label == name for label, _ in doubted)
        lines.append(f"| {name} | {count} | {len(factors)} | {ends[0]} | {ends[1]} | {alarms} |")
    return [*lines, ""]


def caught(found: dict[str, Any]) -> list[str]:
    """The verdict on every specimen."""
    settings = found["settings"]
    asked = (
        f"--specimens NAMES --budget {settings['budget']} --speed-seconds"
        f" {settings['speed_seconds']:g}"
    )
    lines = [
        (
            "`python benchmarks/cheats.py"
            f" {asked}{' --even-disturbed' * settings['even_disturbed']}`: the methods of"
            f" `benchmarks/cheating_methods.py` in one run; {conditions(found)};"
            f" {found['disturbed']:.0%} of the blocks disturbed"
        ),
        "",
        "| method | verdict | what gave it away |",
        "|---|---|---|",
    ]
    for label, one in found["rows"].items():
        doubts = one["doubts"]
        names = ", ".join(dict.fromkeys(doubt["kind"] for doubt in doubts))
        reasons = "; ".join(doubt["text"] for doubt in doubts)
        lines.append(f"| {label} | {f'in doubt ({names})' if doubts else '-'} | {reasons or '-'} |")
    return [*lines, ""]


def conditions(one: dict[str, Any]) -> str:
    """Machine, versions, commit and date."""
    versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
    return f"{one['machine']}; {versions}; commit {one['commit']}; {one['date']} UTC"


if __name__ == "__main__":
    sys.exit(main())
