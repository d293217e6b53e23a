"""A plugin's mistake leads into the plugin: the line to change and what to change, in
`check-method` and in `run`.
"""

from __future__ import annotations

import re
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jaxtyping
import pytest

from harness.conformance.specimen import Specimen
from harness.conformance.suite import CHECKS, Result, examine, examine_all, summary
from harness.isolation.guard import Guard
from harness.isolation.hints import HINTS, Hint
from harness.isolation.mistakes import Mistake, forget_frames, mistake
from harness.records.schema import RunRecord
from harness.records.store import RecordStore
from harness.registry import load_plugin
from methods.base import About, Method
from tests.harness.method_mistakes import MISTAKES, loss, plugin
from tests.harness.small_run import SMALL, Outcome, harness, plugin_file, small_file

COMPILE = "works under torch.compile"


@pytest.fixture(autouse=True, scope="module")
def _no_checked_shapes() -> Iterator[None]:
    """Outside the tests it is torch that meets a mistake."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every mistake as a plugin file of its own."""
    folder = tmp_path_factory.mktemp("mistakes")
    return {
        name: plugin_file(folder, re.sub(r"\W", "_", name), case.text)
        for name, case in MISTAKES.items()
    }


@contextmanager
def loaded(file: Path) -> Iterator[Specimen]:
    """The class of a plugin file, under examination."""
    module = load_plugin(file, Guard())
    try:
        yield Specimen(module.Mistaken)
    finally:
        del sys.modules[module.__name__]


def examined(file: Path, name: str) -> Result:
    """What one check finds in a plugin."""
    with loaded(file) as specimen:
        return examine(next(check for check in CHECKS if check.name == name), specimen)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_what_to_change(
    name: str, files: dict[str, Path]
) -> None:
    case = MISTAKES[name]
    result = examined(files[name], case.check)
    assert result.outcome == "fail"
    assert "\n" not in result.reason
    assert f"({files[name].name}, line {case.line})" in result.reason
    for words in case.words:
        assert words in result.reason


# --- the same in a run ---


@pytest.fixture(scope="module")
def run(
    files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Outcome, dict[str, list[RunRecord]]]:
    """All mistakes that a run can meet, as rows of one run beside a method that is right;
    two seeds.
    """
    folder = tmp_path_factory.mktemp("run")
    found = {name: file for name, file in files.items() if MISTAKES[name].runs}
    plugins = [word for file in found.values() for word in ("--plugin", file)]
    methods = ",".join(file.stem.replace("_", "-") for file in found.values())
    outcome = harness(
        "run",
        *SMALL,
        "--dataset",
        small_file(folder),
        *plugins,
        "--methods",
        f"encoder-only,{methods}",
        "--baseline",
        "encoder-only",
        "--seeds",
        "0-1",
        "--out",
        folder / "out",
    )
    records: dict[str, list[RunRecord]] = {}
    for record in RecordStore(folder / "out").runs():
        records.setdefault(record.label, []).append(record)
    return outcome, records


def test_a_run_with_mistakes_ends_with_all_its_rows(
    run: tuple[Outcome, dict[str, list[RunRecord]]],
) -> None:
    outcome, records = run
    assert (outcome.code, outcome.err) == (1, "")
    assert [record.status for record in records["encoder-only"]] == ["ok", "ok"]


@pytest.mark.parametrize("name", [name for name, case in MISTAKES.items() if case.runs])
def test_a_run_says_the_same_once_for_all_seeds(
    name: str, run: tuple[Outcome, dict[str, list[RunRecord]]], files: dict[str, Path]
) -> None:
    outcome, records = run
    label, case = files[name].stem.replace("_", "-"), MISTAKES[name]
    one, other = records[label]
    assert (one.status, one.error) == ("failed", other.error)
    assert f"({files[name].name}, line {case.line})" in one.error
    for words in case.words:
        assert words in one.error
    assert outcome.lines.count(f"failed: {label}, seeds 0, 1: {one.error}") == 1


# --- what follows from the first is not told again ---


def test_nothing_that_needs_a_step_is_tried_where_none_can_be_taken(files: dict[str, Path]) -> None:
    found = harness("check-method", "a-fixed-width", "--plugin", files["a fixed width"])
    assert (found.code, found.err) == (1, "")
    rows = {
        check: rest
        for check, *rest in (re.split(" {2,}", line.strip()) for line in found.out.splitlines())
    }
    outcomes = [rows[check.name][0] for check in CHECKS]
    assert outcomes.count("fail") == 1
    assert outcomes.count("pass") == 3  # what needs no step: options and words
    assert outcomes.count("not tried") == len(CHECKS) - 4
    assert found.out.endswith(
        f"a-fixed-width: 3 checks passed, 1 failed, 0 not applicable; {len(CHECKS) - 4} not tried,"
        " as they all need a step\n"
    )


def test_a_loss_that_is_no_number_is_told_with_its_line_and_ends_the_examination(
    tmp_path: Path,
) -> None:
    text = plugin(
        loss=loss("made = self.head(self.encoder(x).mean(1))", "return made.mean() / 0, {}  # here")
    )
    line = 1 + text[: text.index("# here")].count("\n")
    with loaded(plugin_file(tmp_path, "nothing", text)) as specimen:
        results = examine_all(specimen)
    assert (
        f"found {'-' * ('-inf' in results[0].reason)}inf (nothing.py, line {line})"
        in results[0].reason
    )
    assert sum(result.outcome == "not tried" for result in results) == len(CHECKS) - 4


@pytest.mark.long
def test_the_same_exception_from_the_same_line_is_told_once(files: dict[str, Path]) -> None:
    with loaded(files["fixed joints"]) as specimen:
        results = {result.check: result for result in examine_all(specimen)}
    assert "(75) must match" in results["works with 15 joints"].reason
    for joints in (20, 22):
        again = results[f"works with {joints} joints"]
        assert (again.outcome, again.reason) == ("fail", "as in 'works with 15 joints'")
    assert (
        summary(list(results.values()))
        == f"{len(CHECKS) - 4} checks passed, 3 failed, 1 not applicable"
    )


# --- the compiler ---

ONLY_COMPILED = plugin(
    loss=loss(
        "wide = torch.ones(256, 3, device=x.device)",
        "made = self.head(self.encoder(x).mean(1))",
        "if torch.compiler.is_compiling():",
        "    made = made + self.encoder(x).mean(1) @ wide  # here",
        "return (made - x.mean((1, 2))).square().mean(), {}",
    )
)


def test_what_fails_when_compiled_is_told_without_the_compilers_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = 1 + ONLY_COMPILED[: ONLY_COMPILED.index("# here")].count("\n")
    result = examined(plugin_file(tmp_path, "only", ONLY_COMPILED), COMPILE)
    assert result.outcome == "fail"
    assert (
        f"under torch.compile (only.py, line {line}); the layer was built for 256 numbers and is"
        " given 16" in (result.reason)
    )
    assert "Explanation" not in result.reason
    assert capfd.readouterr().err == ""


# --- the line itself ---


def thrown(error: BaseException) -> Callable[[], None]:
    def throw() -> None:
        raise error

    return throw


class Derived(Method):
    about = About(title="Derived", paper="none: made up for a test")


def caught(call: Callable[[], None], method: type[Method] | Path | None) -> Mistake:
    with pytest.raises(Exception) as error:  # noqa: PT011 - any
        call()
    return mistake(error.value, method)


def test_the_innermost_line_of_the_methods_own_file_counts() -> None:
    def wrong() -> None:
        re.compile("(")

    found = caught(wrong, Derived)
    line = wrong.__code__.co_firstlineno + 1
    assert found.place == f"{Path(__file__).name}, line {line}"
    assert "PatternError" in found.words or "error: " in found.words


def test_without_a_method_the_innermost_line_of_all_counts() -> None:
    found = caught(lambda: re.compile("("), None)  # type: ignore[arg-type,return-value]
    assert Path(__file__).name not in found.place


def test_a_long_message_is_cut_and_a_librarys_words_for_its_developers_are_left_out() -> None:
    text = "first " * 100 + "\nfrom user code:\n lines"
    found = caught(thrown(ValueError(text)), Derived)
    assert len(found.words) < 300
    short = caught(
        thrown(ValueError("first\nException raised from here (most recent call first)")), Derived
    )
    assert short.words == "ValueError: first"


def test_mistakes_are_the_same_whatever_the_numbers_in_their_words() -> None:
    one, other = (
        Mistake("RuntimeError: 3 x 5", "a.py, line 3"),
        Mistake("RuntimeError: 4 x 5", "a.py, line 3"),
    )
    assert one.same == other.same
    assert Mistake("RuntimeError: 3 x 5").same != Mistake("RuntimeError: 4 x 5").same


@pytest.mark.parametrize("hint", HINTS, ids=lambda hint: hint.sign[:30])
def test_every_hint_can_be_filled_in(hint: Hint) -> None:
    assert hint.text.format(**dict.fromkeys(re.compile(hint.sign).groupindex, "7"))


class Activations:
    """What a step leaves in the variables of its frames."""


def test_a_kept_exception_lets_go_of_what_its_frames_held_and_reads_as_before() -> None:
    held: list[weakref.ref[Activations]] = []

    def step() -> None:
        activations = Activations()
        held.append(weakref.ref(activations))
        raise MemoryError("full")

    def guarded() -> None:
        try:
            step()
        except MemoryError as problem:
            activations = Activations()
            held.append(weakref.ref(activations))
            raise ValueError("in a row") from problem

    try:
        guarded()
    except ValueError as problem:
        kept = problem
    assert [reference() is not None for reference in held] == [True, True]
    before = traceback.format_exception(kept), str(mistake(kept, None))
    forget_frames(kept)
    assert [reference() for reference in held] == [None, None]
    assert (traceback.format_exception(kept), str(mistake(kept, None))) == before
