"""Every command line of a page works: a quick test here runs it as it stands, or it is parsed and
marked with the test that runs its like, or it stands below with the reason why no test runs it.
Blocks of Python are run.
"""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer

import harness as door
from harness.cli import main
from harness.cli.config import expanded
from harness.cli.help import CONTEXT
from tests.harness.small_run import SMALL, harness, small_clips, small_file
from tests.test_readme import PAGES, text_of

ROOT = Path(__file__).parents[1]
LANGUAGES = {"sh", "bash", "console"}
"""Fenced blocks of these hold commands, as every indented block does."""
SHELVES = {
    "runs": "synthetic-quick",
    "runs/a": "uiprmd-quick",
    "runs/b": "utdmhad-quick",
    "runs/small": "uiprmd-trends",
    "runs/t": "uiprmd-trends",
    "study": "synthetic-quick",
}
"""Folders that commands name, and the committed records that stand in them for a test."""

OTHERS = {"--same-results", "--exclusive", "--requeue", "--help"}
"""Flags of `tests.versions` and of Slurm."""

# --- how each command is held ---

RUN = (
    "python -m harness -h",
    "python -m harness claim gfp-6.2x --from benchmarks/results/gpu-claims",
    "python -m harness compare runs/small",
    "python -m harness data doctor path/to/file.npz",
    "python -m harness diff runs/a runs/b",
    "python -m harness leaderboard runs ours=benchmarks/results/synthetic-quick --out board.md",
    "python -m harness ls claims",
    "python -m harness ls datasets",
    "python -m harness ls encoders",
    "python -m harness ls methods",
    "python -m harness ls protocols",
    "python -m harness ls runs --out runs/small",
    "python -m harness ls settings",
    "python -m harness merge runs/a runs/b --out runs/all",
    "python -m harness new-method my-method",
    "python -m harness ranking runs/t",
    'python -m harness shelve runs --to studies/trends --why "Whether the published trends show."',
    "python -m harness show-config --methods gfp,amr --encoder small > study.yaml",
    "python -m harness status study --watch",
    "python -m harness table benchmarks/results/small-speed",
    "python -m harness table runs",
    "python -m harness table runs --wide",
    "python -m harness table study",
    "python -m harness target runs/t --reference mamp --freeze mamp.yaml",
    "python -m harness trends runs/small",
    "python -m harness verify study",
)
"""As they stand, on committed records."""

RUN_SMALL = ("python -m harness run --config study.yaml --seeds 0-2",)
"""With tiny settings after what stands there."""

PARSED = {
    "make test": "test_readme.py::test_all_pages_are_found",
    "python -m pytest test_my_method.py": (
        "harness/test_new_method.py::test_the_test_that_it_writes_passes_and_can_fail"
    ),
    "python -m harness check-method my-method --plugin my_method.py": (
        "harness/test_new_method.py::test_the_commands_that_it_prints_work"
    ),
    "python -m harness run --methods my-method,gfp,skeletonmae --plugin my_method.py": (
        "test_readme.py::test_the_example_method_of_a_page_runs_beside_the_others"
    ),
    "python -m harness check-method mean-motion"
    " --plugin harness/conformance/templates/mean_motion.py": (
        "harness/test_conformance.py::test_the_readmes_method_passes"
    ),
    "python -m harness run --methods mean-motion,gfp,skeletonmae"
    " --plugin harness/conformance/templates/mean_motion.py": (
        "test_readme.py::test_the_example_method_of_a_page_runs_beside_the_others"
    ),
    "python -m harness data download uiprmd": (
        "datasets/origins/test_download.py::test_a_data_set_is_downloaded_and_unpacked_once"
    ),
    "python -m harness data prepare ntu60 --raw nturgbd_skeletons": (
        "harness/test_cli_data.py::test_a_raw_download_is_prepared_examined_and_run"
    ),
    "python -m harness data doctor ntu60": (
        "harness/test_cli_data.py::test_a_raw_download_is_prepared_examined_and_run"
    ),
    "python -m harness data doctor ntu60 --plot ntu60.png": (
        "harness/test_cli_data.py::test_pictures_are_left_where_asked"
    ),
    "python -m harness data show ntu60 --clip 7 --method gfp --out clip.gif": (
        "harness/test_show.py::test_masks_are_shown_without_a_reconstruction_unless_trained"
    ),
    "python -m harness run --dataset ntu60 --split xview": (
        "harness/test_cli_data.py::test_a_raw_download_is_prepared_examined_and_run"
    ),
    "python -m harness run --dataset utdmhad+nwucla+path/to/msrc12.npz"
    ' --split "xsub+twin-free+xsub"': (
        "harness/test_pool.py::test_training_sides_come_together_and_each_set_keeps_its_own"
    ),
    'python -m harness run --dataset path/to/file.npz --split "view:1,2->3"': (
        "harness/test_run.py::test_a_good_run_ends_with_code_0"
    ),
    **dict.fromkeys(
        ("python -m harness report runs", "python -m harness report smoke"),
        "harness/test_report_page.py::test_the_answer_stands_at_the_top",
    ),
    "python -m harness report runs/a runs/b --figures figures --latex table.tex": (
        "harness/test_paper.py::test_figures_and_tables_are_left_and_are_the_same_bytes_every_time"
    ),
    "python benchmarks/studies.py": (
        "test_studies.py::test_the_list_of_studies_is_the_one_that_its_script_writes"
    ),
    "python -m harness run --methods gfp:lambda_pred=5,cov_weight=1,skeletonmae:decoder_depth=1"
    " --encoder small --budget 300s --seeds 0-2 --batch-size 64 --out runs/small": (
        "harness/test_run.py::test_options_are_resolved_in_the_record"
    ),
    "python -m harness run --set encoder.depth=1 --set encoder.frames=24 --set probe.points=1"
    " --budget 10steps --speed-seconds 2 --out smoke": (
        "harness/test_run.py::test_a_good_run_ends_with_code_0"
    ),
    "python -m harness run --config benchmarks/answer/plan.yaml --part a-utdmhad": (
        "harness/test_config.py::test_each_part_is_a_command_of_its_own_with_what_all_share"
    ),
    "python -m harness evaluate runs --protocols linear,knn,linear-mamp,finetune,semi:ratio=0.1": (
        "harness/test_evaluate.py"
        "::test_every_encoder_and_control_is_evaluated_and_no_encoder_is_trained"
    ),
    "python -m harness run --protocols linear-mamp,finetune": (
        "harness/test_evaluate.py"
        "::test_run_evaluates_after_training_and_keeps_the_last_encoder_beside_the_selected_one"
    ),
    "python -m harness run --methods gfp,amr,skeletonmae --seeds 0-2 --tuning 5"
    " --out runs/tuned": "harness/test_tuning.py::test_runs_under_draws_are_runs_like_others",
    "python -m harness tuning runs/tuned": (
        "harness/test_tuning.py::test_runs_under_draws_are_runs_like_others"
    ),
    "python -m harness import-encoder checkpoint.pth --out encoder.safetensors": (
        "harness/test_import_encoder.py::test_the_command_writes_the_weights_and_says_what_they_are"
    ),
    "python -m harness import-encoder checkpoint.pth --out encoder.safetensors"
    " --dataset path/to/file.npz --split xsub": (
        "harness/test_import_encoder.py::test_with_data_it_is_probed_beside_the_untrained_one"
    ),
    "python -m harness run --methods gfp,mamp --seeds 0-2 --out study": (
        "harness/test_run.py::test_another_seed_adds_runs_and_keeps_the_others"
    ),
    "python -m harness plan --methods gfp,mamp --seeds 0-2 --out study": (
        "harness/test_plan.py::test_planning_measures_a_few_steps_and_writes_nothing"
    ),
    "python -m harness run --methods gfp,mamp,amr --seeds 0-5 --budget 60000clips"
    " --out /shared/study --claim": (
        "harness/test_submit.py::test_a_worker_leaves_what_others_have"
    ),
    "torchrun --nproc-per-node 2 -m harness run --methods gfp,mamp --budget 60000clips": (
        "harness/test_distributed.py::test_two_ranks_killed_and_continued_end_as_if_undisturbed"
    ),
    "torchrun --nproc-per-node 2 -m harness speed --methods gfp,mamp": (
        "harness/test_distributed.py::test_speed_on_two_ranks_says_what_the_second_is_worth"
    ),
    "python -m harness submit --methods gfp,mamp --seeds 0-2 --out study --executor local"
    " --parallel 2 --cpus 1": (
        "test_submit_here.py"
        "::test_jobs_here_that_are_stopped_and_submitted_again_end_as_one_process_does"
    ),
    "python -m harness submit --methods gfp,mamp --seeds 0-2 --out /shared/study"
    " --partition gpu --gpus 1 --dry-run": (
        "harness/test_submit.py::test_a_dry_run_prints_the_two_scripts"
    ),
    "python -m harness submit --methods gfp,mamp --seeds 0-2 --out /shared/study"
    " --partition gpu --gpus 1": (
        "harness/test_submit.py::test_jobs_go_to_sbatch_and_the_line_says_so"
    ),
    "python -m harness submit --methods gfp,mamp --out /shared/study --partition gpu --ranks 4"
    " --gpus 4 --cpus 32": "harness/test_submit.py::test_a_dry_run_shows_the_ranks_of_a_job",
    "python -m harness run ... --out /shared/study --claim --measure-only": (
        "harness/test_submit.py::test_a_worker_leaves_what_others_have"
    ),
    "python -m harness run ... --out /shared/study --claim --no-wait": (
        "test_submit_here.py"
        "::test_jobs_here_that_are_stopped_and_submitted_again_end_as_one_process_does"
    ),
    "python -m harness speed --methods gfp,amr,mamp,skeletonmae": (
        "harness/test_run.py::test_speed_can_be_measured_alone_and_serves_a_later_run"
    ),
    "python -m harness speed --methods gfp,mamp --processes 3": (
        "harness/test_replication.py::test_the_command_measures_in_fresh_processes"
    ),
    "python -m harness explain gfp mamp --encoder small --batch-size 16": (
        "harness/test_explain.py::test_the_record_lies_with_the_others_and_is_not_measured_twice"
    ),
    "python benchmarks/as_published.py --mamp FOLDER": (
        "harness/test_as_published.py::test_without_the_released_code_one_line_says_what_is_needed"
    ),
    "python -m harness claim gfp-6.2x amr-8.1x --encoder base --batch-size 8": (
        "harness/test_claims.py::test_the_command_measures_method_bound_and_baseline_at_both_ends"
    ),
    "python -m harness speed --what inference"
    " --encoders base,base:frames=64,patch=8,skeletonmae-graph": (
        "harness/test_inference.py::test_forward_passes_of_all_encoders_are_interleaved"
    ),
    "python -m harness run --methods gfp,amr,mamp --seeds 0-2 --budget 4000clips"
    " --set probe.every=1000clips --out runs/t": (
        "harness/test_targets.py::test_a_run_is_evaluated_at_the_same_clips_whatever_its_length"
    ),
    "python -m tests.step_counts": (
        "test_step_counts.py::test_a_step_costs_the_device_no_more_than_it_did"
    ),
    "python benchmarks/gpu.py --out OUT": (
        "test_gpu_script.py::test_the_same_call_goes_on_and_keeps_what_was_stopped"
    ),
}
"""Read by the command line; the test named (below `tests`) runs the same on small data."""

NOT_RUN = {
    "make run": "minutes; the command that it starts is the first line of `make`'s own rule",
    "make lint": "part of `make test`",
    "make test-long": "more than half an hour",
    "make bench": "minutes, and its figures are for people to read",
    "python -m pytest -m long tests/test_kills.py": "minutes; part of `make test-long`",
    "python benchmarks/overhead.py --methods gfp": "minutes on a machine with nothing else to do",
    "python -m harness speed --methods gfp,mamp --memory-cap 8": (
        "fills 8 GB; the search is tested in harness/test_memory.py"
    ),
    "pip install -e '.[cluster]'": "changes the environment",
    "sbatch --exclusive --wrap"
    ' "python -m harness run ... --out /shared/study --claim --measure-only"': "needs Slurm",
    "sbatch --dependency=afterok:71 --array=1-8 --requeue --signal=USR1@120 --wrap"
    ' "srun python -m harness run ... --out /shared/study --claim --no-wait"': "needs Slurm",
    "ssh node1 'cd /shared/checkout && .venv/bin/python -m harness run ..."
    " --out /shared/study --claim'": "needs two hosts",
    "ssh node2 'cd /shared/checkout && .venv/bin/python -m harness run ..."
    " --out /shared/study --claim'": "needs two hosts",
    "parallel --nonall --sshlogin node1,node2,node3,node4"
    " 'cd /shared/checkout && .venv/bin/python -m harness run ..."
    " --out /shared/study --claim --no-wait'": "needs four hosts",
}
"""No test runs them; all are read."""


# --- what stands on the pages ---


def blocks(page: str) -> Iterator[tuple[str, list[str]]]:
    """Code of a page as its language, empty for an indented block, and its lines."""
    fence, language, lines, blank = False, "", list[str](), True
    for line in [*text_of(page).splitlines(), ""]:
        if line.startswith("```"):
            if fence:
                yield language, lines
            fence, language, lines = not fence, line.removeprefix("```"), []
        elif fence:
            lines.append(line)
        elif line.startswith("    ") and (blank or lines):
            lines.append(line[4:])
        elif lines:
            yield "", lines
            lines = []
        blank = not line.strip()


def commands(page: str) -> list[str]:
    """Command lines of a page, each on one line and without its comment."""
    found = []
    for language, lines in blocks(page):
        if language in LANGUAGES or not language:
            text = "\n".join(lines).replace("\\\n", " ")
            found += [" ".join(re.sub(r"\s+# .*", "", line).split()) for line in text.split("\n")]
    return [command for command in found if command]


COMMANDS = sorted({command for page in PAGES for command in commands(page)})


def test_comments_and_continued_lines_are_understood() -> None:
    assert "make run" in commands("README.md")
    assert any(
        command.endswith("--out runs/small") for command in commands("harness/cli/README.md")
    )


def test_every_command_of_a_page_is_run_or_marked_or_has_a_reason() -> None:
    """A new command goes into `RUN`, or else `RUN_SMALL`, `PARSED` or `NOT_RUN`."""
    held = [*RUN, *RUN_SMALL, *PARSED, *NOT_RUN]
    assert [command for command in COMMANDS if command not in held] == []
    assert [command for command in held if command not in COMMANDS] == []
    assert len(held) == len(set(held))


@pytest.mark.parametrize("mark", sorted(set(PARSED.values())))
def test_the_test_that_a_command_is_marked_with_exists(mark: str) -> None:
    file, _, name = mark.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / "tests" / file).read_text(encoding="utf-8"), re.M)


# --- read ---


def words_of(command: str) -> list[str]:
    """What follows ``harness`` in a command line, also one within quotes for another program."""
    inner = next(word for word in [*reversed(shlex.split(command)), command] if "harness" in word)
    text = inner if "harness " in inner else command
    words = shlex.split(text.partition("-m harness ")[2])
    return [word for word in words[: words.index(">") if ">" in words else None] if word != "..."]


@pytest.mark.parametrize("command", [command for command in COMMANDS if "-m harness" in command])
def test_the_command_line_reads_it(command: str, place: Path) -> None:
    for line in expanded(words_of(command), options):
        if line != ["-h"]:
            found, words = found_command(line)
            # It knows every option and takes every value.
            found.make_context(line[0], words, **CONTEXT)


@cache
def whole_command() -> Any:
    return typer.main.get_command(main.app)


@cache
def options() -> Any:
    return main.file_options()


def found_command(line: list[str]) -> tuple[Any, list[str]]:
    """The command that a line names, in a group too (``data show``), and its own words."""
    found, words = whole_command(), list(line)
    while hasattr(found, "commands"):
        found = found.commands[words.pop(0)]
    return found, words


@pytest.mark.parametrize("page", PAGES)
def test_flags_and_commands_within_a_sentence_exist(page: str) -> None:
    prose = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    group = whole_command()
    names = {*group.commands, *group.commands["data"].commands}
    flags = {flag for found in every_command() for one in found.params for flag in one.opts}
    scripts = "".join(
        path.read_text("utf-8") for path in sorted((ROOT / "benchmarks").glob("*.py"))
    )
    for code in re.findall(r"`([^`]+)`", prose):
        words = code.split()
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code):
            assert flag in flags | OTHERS or f'"{flag}"' in scripts, code
        if words[0] == "harness" or words[:3] == ["python", "-m", "harness"]:
            named = words[words.index("harness") + 1 :]
            assert not named or named[0] in names or named[0].startswith("-"), code


def every_command() -> list[Any]:
    group = whole_command()
    return [group, *group.commands.values(), *group.commands["data"].commands.values()]


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if "-m harness" not in command]
)
def test_what_another_command_starts_is_there(command: str) -> None:
    program, *words = shlex.split(command)
    if program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.M)
    elif program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert words[-1].strip(".[]") in project["optional-dependencies"]
    elif words[:2] == ["-m", "pytest"]:
        assert (ROOT / words[-1]).exists() or words[-1] == "test_my_method.py"
    elif words[0] == "-m":
        assert (ROOT / words[1].replace(".", "/")).with_suffix(".py").exists()
    else:
        script = (ROOT / words[0]).read_text(encoding="utf-8")
        assert not [word for word in words if word.startswith("--") and f'"{word}"' not in script]


# --- run ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands name."""
    made = tmp_path_factory.mktemp("reader")
    for name, study in SHELVES.items():
        (made / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "benchmarks" / "results" / study / "records.jsonl", made / name)
    shutil.copytree(ROOT / "benchmarks" / "answer", made / "benchmarks" / "answer")
    for study in ("small-speed", "synthetic-quick", "gpu-claims"):
        shutil.copytree(
            ROOT / "benchmarks" / "results" / study, made / "benchmarks" / "results" / study
        )
    (made / "path" / "to").mkdir(parents=True)
    small_file(made / "path" / "to").rename(made / "path" / "to" / "file.npz")
    shown = harness("show-config", "--methods", "gfp,amr", "--encoder", "small")
    (made / "study.yaml").write_text(shown.out, encoding="utf-8")
    return made


@pytest.fixture
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a reader."""
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("command", RUN)
def test_a_command_runs_as_it_stands(command: str, place: Path) -> None:
    outcome = harness(*words_of(command))
    assert outcome.code == 0, outcome.err
    assert outcome.out
    if ">" in shlex.split(command):
        assert outcome.out == (place / shlex.split(command)[-1]).read_text(encoding="utf-8")


@pytest.mark.parametrize("command", RUN_SMALL)
def test_a_command_runs_with_tiny_settings(command: str, place: Path) -> None:
    small = ("--dataset", "path/to/file.npz", "--seeds", "0", "--out", "out", "--device", "cpu")
    outcome = harness(*words_of(command), *SMALL, *small)
    assert outcome.code == 0, outcome.err
    assert "study.yaml" in (place / "out" / "table.md").read_text(encoding="utf-8")


# --- Python ---


def python(page: str) -> list[str]:
    return ["\n".join(lines) for language, lines in blocks(page) if language == "python"]


def test_blocks_of_python_are_those_that_are_run() -> None:
    """That of `methods` by `test_readme.py`; that of `runs` needs Ray and is only compiled."""
    found = {page: len(python(page)) for page in PAGES if python(page)}
    assert found == {
        "README.md": 1,
        "harness/report/README.md": 1,
        "harness/runs/README.md": 1,
        "methods/README.md": 1,
    }
    compile(python("harness/runs/README.md")[0], "runs", "exec")


def test_python_of_the_report_s_page_runs(place: Path) -> None:
    (code,) = python("harness/report/README.md")
    found: dict[str, Any] = {}
    exec(code, found)
    assert len(found["records"].runs) == 4


def test_python_of_the_first_page_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On small data and with short budgets; every argument is one that the function takes."""
    (code,) = python("README.md")
    settings = {
        "dataset": "path/to/file.npz",
        "batch_size": 4,
        "device": "cpu",
        "speed_seconds": 1.0,
        "overrides": {"encoder.depth": 1, "encoder.width": 8, "encoder.heads": 2}
        | {"encoder.frames": 24, "data.min_crop": 8, "probe.points": 1},
    }

    def run(*words: Any, **more: Any) -> Any:
        asked = inspect.signature(door.run).bind(*words, **more)
        assert set(asked.kwargs) <= {"dataset", "budget", "out"}
        found = door.run(*words, **(more | settings | {"budget": "2steps", "out": "python"}))
        weights = next(Path("python").glob("gfp-*/encoder.safetensors"))
        shutil.copy(weights, "encoder.safetensors")
        return found

    def evaluate(where: str, protocols: str) -> Any:
        assert where == "runs"
        quick = ",".join(f"{name}:epochs=1" for name in protocols.split(","))
        return door.evaluate("python", quick)

    def measure_speed(methods: list[str], *, encoder: str) -> Any:
        return door.measure_speed(methods, encoder=encoder, out="python", **settings)

    own = SimpleNamespace(run=run, evaluate=evaluate, measure_speed=measure_speed)
    own.read_records, own.load_encoder = door.read_records, door.load_encoder
    clips = [np.asarray(small_clips().clip(number)) for number in range(3)]
    found: dict[str, Any] = {"harness": own, "clips": clips}
    exec(code.replace("import harness\n", ""), found)
    assert found["features"].shape == (3, 8)
    assert {record.label for record in found["evaluations"]} >= {"gfp", "skeletonmae"}
    assert len(found["records"]) == 4
    assert set(found["speed"].rows) >= {"gfp", "mamp"}
