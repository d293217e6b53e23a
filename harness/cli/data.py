"""The commands ``harness data ...``: raw downloads to stores, and a look at what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datasets.errors import DataError
from harness.errors import UsageError, usage_errors
from harness.progress import CHECKING, Reporter, at_work, print_table, say_lines

if TYPE_CHECKING:
    from datasets.raw.prepare import Prepared

_SHOWN_PROBLEMS = 10

data_app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Raw downloads to stores, and a look at what is in them.",
)


@data_app.command("prepare")
def prepare_command(
    name: Annotated[
        str, typer.Argument(help="A data set or format, e.g. ntu60; `ls datasets` lists them.")
    ],
    raw: Annotated[
        Path, typer.Option(help="The raw files: a folder, or one .npz or .pkl of NTU RGB+D.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The store's folder [NAME where --dataset NAME finds it].")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Reading processes [one per processor].", min=1, max=1024)
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A broken file is an error, not skipped.")
    ] = False,
) -> None:
    """Turn a raw download into a store that `--dataset` opens;
    a killed preparation goes on where it was.
    """
    with at_work() as report, usage_errors():
        from datasets.formats.store import stores_dir
        from datasets.raw import open_source
        from datasets.raw.prepare import prepare

        source = open_source(name, raw)
        with report.task(f"reading {name}", "part") as advance:
            prepared = prepare(
                source,
                name,
                out or stores_dir() / name,
                workers=workers,
                strict=strict,
                advance=advance,
            )
        for line in source.assumed:
            report.line(f"assumed: {line}")
        _tell(prepared, name if out is None else str(out), report)


@data_app.command("doctor")
def doctor_command(
    name: Annotated[
        str, typer.Argument(help="A data set's name, a store's folder or an .npz file.")
    ],
    split: Annotated[
        list[str] | None, typer.Option(help="A split to look at besides its own; repeatable.")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Hash a store and compute its fingerprint afresh.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Leave a picture of sample clips there (PNG).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Examine a data set: counts, broken frames, bones, units, axes, left and right, leaks,
    fingerprint.

    Exit code 1 when a finding is an error.
    """
    with at_work(stderr=as_json, announced=not as_json) as report:
        from harness.pictures.doctor import doctor, doctor_lines

        with report.long_task(CHECKING) as advance:
            examination = doctor(name, splits=split or [], deep=deep, plot=plot, advance=advance)
    if as_json:
        say_lines(examination.model_dump_json(indent=1))  # NaN becomes null
    else:
        for line in [*doctor_lines(examination), *([f"picture in {plot}"] if plot else [])]:
            report.line(line)
    if any(finding.severity == "error" for finding in examination.findings):
        raise typer.Exit(1)


@data_app.command("show")
def show_command(
    name: Annotated[
        str, typer.Argument(help="A data set's name, a store's folder or an .npz file.")
    ],
    out: Annotated[Path, typer.Option(help="The animation (GIF).")] = Path("clip.gif"),
    clip: Annotated[int, typer.Option(help="Number of the clip.", min=0)] = 0,
    method: Annotated[
        str, typer.Option(help="Colour the tokens that this method sees, e.g. gfp.")
    ] = "",
    run: Annotated[
        Path | None, typer.Option(help="A finished run's folder: its method and weights.")
    ] = None,
    train: Annotated[
        int,
        typer.Option(
            help="Train so many steps first, to see a reconstruction.", min=0, max=1_000_000
        ),
    ] = 0,
    encoder: Annotated[str, typer.Option(help="Encoder size: tiny, small or base.")] = "tiny",
) -> None:
    """An animated stick figure of a clip, visible and masked tokens coloured,
    the reconstruction beside it.
    """
    with at_work(announced=False) as report:
        from harness.pictures.show import show

        for line in show(
            name, out, clip=clip, method=method, run=run, train=train, encoder=encoder
        ):
            report.line(line)


@data_app.command("download")
def download_command(
    name: Annotated[str, typer.Argument(help="A data set; for most it says where to ask.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the download [raw/NAME].")] = None,
) -> None:
    """Download raw data where the licence allows it, and check it;
    for the rest say how to get it.
    """
    with at_work() as report, usage_errors():
        from datasets.origins import how_to_get, origin

        if origin(name).download is None:
            for line in how_to_get(name).splitlines():
                report.line(line)
            raise UsageError(f"{name} may not be downloaded by a program; the steps are above")
        from datasets.origins.download import fetch

        with report.task(f"downloading {name}", "byte") as advance:
            raw = fetch(name, out or Path("raw") / name, advance=advance, say=report.line)
        report.line(f"raw files in {raw}; next: python -m harness data prepare {name} --raw {raw}")


def _tell(prepared: Prepared, dataset: str, report: Reporter) -> None:
    """Counts by stage, found and published split sizes, problems, fingerprint, and how to go on."""
    header = prepared.header
    report.line(f"{header.title}: " + ("prepared" if prepared.fresh else "was prepared already"))
    if prepared.note:
        report.line(f"note: {prepared.note}")
    width = max(map(len, header.counts))
    for stage, count in header.counts.items():
        report.line(f"  {stage:{width}}  {count:>9,}")
    rows = [[name, *map(str, found), published] for name, found, published in _split_rows(prepared)]
    if rows:
        print_table(report.console, ["split", "train", "test", "published"], rows, [])
    for problem in header.problems[:_SHOWN_PROBLEMS]:
        report.line(f"problem: {problem}")
    if len(header.problems) > _SHOWN_PROBLEMS:
        report.line(
            f"and {len(header.problems) - _SHOWN_PROBLEMS} more problems, listed in"
            f" {prepared.folder}/store.json"
        )
    report.line(f"fingerprint {header.fingerprint[:16]}; store in {prepared.folder}")
    report.line(f"next: python -m harness data doctor {dataset}, then run --dataset {dataset}")


def _split_rows(prepared: Prepared) -> Iterator[tuple[str, tuple[str, str], str]]:
    """Clips on both sides of every official split, found and published."""
    from datasets.formats.store import open_store
    from datasets.splits import make_split

    clips = open_store(prepared.folder)
    for name in clips.splits:
        published = prepared.header.expected.get(name)
        try:
            split = make_split(clips, name, validation=0)
            found = f"{len(split.train):,}", f"{len(split.test):,}"
        except DataError:  # a part of the data set may hold one side alone
            found = "-", "-"
        yield name, found, f"{published[0]:,} / {published[1]:,}" if published else "-"
