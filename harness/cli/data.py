"""The commands ``harness data ...``: raw downloads to stores, and a look at what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datasets.errors import DataError
from harness.cli.completion import encoders, one_dataset, one_method
from harness.cli.flags import Quiet
from harness.cli.help import HelpCommand, HelpGroup
from harness.errors import UsageError, usage_errors
from harness.progress import CHECKING, Reporter, at_work, print_table, say_lines

if TYPE_CHECKING:
    from datasets.raw.prepare import Prepared

_SHOWN_PROBLEMS = 10

data_app = typer.Typer(
    cls=HelpGroup,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Raw downloads to stores, and a look at what is in them.",
)


@data_app.command("prepare", cls=HelpCommand, epilog="data prepare ntu60 --raw raw/ntu60")
def prepare_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=one_dataset,
            help="A data set or format, e.g. ntu60; `ls datasets` lists them.",
        ),
    ],
    raw: Annotated[
        Path,
        typer.Option(
            metavar="PATH", help="The raw files: a folder, or one .npz or .pkl of NTU RGB+D."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            show_default="NAME in $MASKED_SKELETON_DATA",
            help="The store's folder.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            show_default="one per processor",
            help="Reading processes.",
            min=1,
            max=1024,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A broken file is an error, not skipped.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Turn a raw download into a store.

    `--dataset` opens it; a killed preparation goes on where it was.
    """
    with at_work(quiet=quiet) as reporter, usage_errors():
        from datasets.formats.store import stores_dir
        from datasets.raw import open_source
        from datasets.raw.prepare import prepare

        source = open_source(name, raw)
        with reporter.task(f"reading {name}", "part") as advance:
            prepared = prepare(
                source,
                name,
                out or stores_dir() / name,
                workers=workers,
                strict=strict,
                advance=advance,
            )
        for line in source.assumed:
            reporter.result(f"assumed: {line}")
        _tell(prepared, name if out is None else str(out), reporter)


@data_app.command("doctor", cls=HelpCommand, epilog="data doctor ntu60 --deep")
def doctor_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=one_dataset,
            help="A data set's name, a store's folder or an .npz file.",
        ),
    ],
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A split to look at besides its own; repeatable."),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Hash a store and compute its fingerprint afresh.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Leave a picture of sample clips there (PNG)."),
    ] = None,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Examine a data set.

    Counts, broken frames, bones, units, axes, left and right, leaks, fingerprint. Exit code 1
    when a finding is an error.
    """
    with at_work(stderr=as_json, announced=not as_json, quiet=quiet) as reporter:
        from harness.pictures.doctor import doctor, doctor_lines

        with reporter.long_task(CHECKING) as advance:
            examination = doctor(name, splits=split or [], deep=deep, plot=plot, advance=advance)
    if as_json:
        say_lines(examination.model_dump_json(indent=1))  # NaN becomes null
    else:
        for line in [*doctor_lines(examination), *([f"picture in {plot}"] if plot else [])]:
            reporter.result(line)
    if any(finding.severity == "error" for finding in examination.findings):
        raise typer.Exit(1)


@data_app.command("show", cls=HelpCommand, epilog="data show synthetic --method gfp")
def show_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=one_dataset,
            help="A data set's name, a store's folder or an .npz file.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The animation (GIF).")] = Path(
        "clip.gif"
    ),
    clip: Annotated[int, typer.Option(metavar="N", help="Number of the clip.", min=0)] = 0,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            autocompletion=one_method,
            help="Colour the tokens that this method sees, e.g. gfp.",
        ),
    ] = "",
    run: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A finished run's folder: its method and weights."),
    ] = None,
    train: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Train so many steps first, to see a reconstruction.",
            min=0,
            max=1_000_000,
        ),
    ] = 0,
    encoder: Annotated[
        str,
        typer.Option(
            metavar="SIZE", autocompletion=encoders, help="Encoder size: tiny, small or base."
        ),
    ] = "tiny",
    quiet: Quiet = False,
) -> None:
    """An animated stick figure of a clip.

    Visible and masked tokens coloured, the reconstruction beside it.
    """
    with at_work(announced=False, quiet=quiet) as reporter:
        from harness.pictures.show import show

        for line in show(
            name, out, clip=clip, method=method, run=run, train=train, encoder=encoder
        ):
            reporter.line(line)


@data_app.command("download", cls=HelpCommand, epilog="data download uiprmd")
def download_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=one_dataset,
            help="A data set; for most it says where to ask.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", show_default="raw/NAME", help="Folder for the download."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Download raw data where the licence allows it.

    It is checked; for the rest this says how to get it.
    """
    with at_work(quiet=quiet) as reporter, usage_errors():
        from datasets.origins import how_to_get, origin

        if origin(name).download is None:
            for line in how_to_get(name).splitlines():
                reporter.result(line)
            raise UsageError(f"{name} may not be downloaded by a program; the steps are above")
        from datasets.origins.download import fetch

        with reporter.task(f"downloading {name}", "byte") as advance:
            raw = fetch(name, out or Path("raw") / name, advance=advance, say=reporter.line)
        reporter.line(
            f"raw files in {raw}; next: python -m harness data prepare {name} --raw {raw}"
        )


def _tell(prepared: Prepared, dataset: str, reporter: Reporter) -> None:
    """Counts by stage, found and published split sizes, problems, fingerprint, and how to go on."""
    header = prepared.header
    reporter.result(
        f"{header.title}: " + ("prepared" if prepared.fresh else "was prepared already")
    )
    if prepared.note:
        reporter.result(f"note: {prepared.note}")
    width = max(map(len, header.counts))
    for stage, count in header.counts.items():
        reporter.result(f"  {stage:{width}}  {count:>9,}")
    rows = [[name, *map(str, found), published] for name, found, published in _split_rows(prepared)]
    if rows:
        print_table(reporter.console, ["split", "train", "test", "published"], rows, [])
    for problem in header.problems[:_SHOWN_PROBLEMS]:
        reporter.result(f"problem: {problem}")
    if len(header.problems) > _SHOWN_PROBLEMS:
        reporter.result(
            f"and {len(header.problems) - _SHOWN_PROBLEMS} more problems, listed in"
            f" {prepared.folder}/store.json"
        )
    reporter.result(f"fingerprint {header.fingerprint[:16]}; store in {prepared.folder}")
    reporter.line(f"next: python -m harness data doctor {dataset}, then run --dataset {dataset}")


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
