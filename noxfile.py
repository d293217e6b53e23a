"""The suite on other versions, Pythons and processor kernels, and its long tests:
``make test-long``.

Every session makes an environment of its own and leaves its result as a row of ``tests/LONG.md``.
What follows ``--`` replaces how pytest's processes stand side by side: ``nox -s oldest -- -n 0``.
"""

from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"

PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))
RESULTS = Path("tests/LONG.md")
READER = "tests/test_tested_versions.py"  # asks for the rows that are still to be written
SIDE_BY_SIDE = ("--numprocesses", "logical", "--maxprocesses", "4", "--dist", "loadfile")

# With the newest versions a library's warnings are errors too, deprecations as well: who runs this
# can mend it. So is text that a package of ours reads or writes in the encoding of the user's
# locale. What pooch leaves open of a download that was refused is closed some time later, in
# whatever test runs then. torch's compiler asks every tensor for its gradient.
STRICT = (
    "error",
    "ignore::DeprecationWarning:torch.*",
    "ignore::DeprecationWarning:timm.*",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
    "ignore:unclosed:ResourceWarning",
    "ignore::EncodingWarning",
    "error::EncodingWarning:(datasets|harness|methods)",
)

# One instruction set for torch's own kernels, its two matrix libraries, and NumPy's and SciPy's.
KERNELS = {
    "default": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "avx512": {},
}

ENVIRONMENT = """
import importlib.metadata, json, torch
from harness.machine import describe_environment
here = describe_environment(torch.device("cpu"))
names = ("matplotlib", "pydantic", "typer", "rich", "pytest")
more = {name: importlib.metadata.version(name) for name in names}
kernels = torch.backends.cpu.get_cpu_capability().lower()
processor = f"{here.processor}, {here.cores} cores"
print(json.dumps({**here.versions, **more, "kernels": kernels, "processor": processor}))
"""


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """The newest versions that resolve."""
    session.install("--editable", ".[dev]")
    check(session, session.name, strict=True)


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """The oldest versions that pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", "--editable", ".[dev]")
    check(session, session.name)


@nox.session(python=PYTHONS[0])
@nox.parametrize("kernel", list(KERNELS), ids=list(KERNELS))
def kernels(session: nox.Session, kernel: str) -> None:
    """Every set of kernels that torch has for this processor."""
    session.install("--editable", ".[dev]")
    names, own = list(KERNELS), environment(session)["kernels"]
    if names.index(kernel) > (names.index(own) if own in names else 0):
        session.skip(f"this processor has no {kernel}")
    check(
        session, session.name, strict=True, env={"ATEN_CPU_CAPABILITY": kernel, **KERNELS[kernel]}
    )


@nox.session(python=PYTHONS[0])
def long(session: nox.Session) -> None:
    """The tests marked ``long``, which `make test` leaves out."""
    session.install("--editable", ".[dev]")
    check(session, session.name, "-m", "long")


def check(
    session: nox.Session,
    name: str,
    *options: str,
    strict: bool = False,
    env: dict[str, str] | None = None,
) -> None:
    """Run pytest, write the row, and fail where a test failed."""
    report = Path(session.virtualenv.location) / "junit.xml"
    report.unlink(missing_ok=True)
    env = {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", **(env or {})}
    if strict:
        env |= {"PYTHONWARNDEFAULTENCODING": "1"}
        options = (*options, "-o", "filterwarnings=" + "\n".join(STRICT))
    processes = session.posargs or SIDE_BY_SIDE
    command = (
        "python",
        "-m",
        "pytest",
        *processes,
        *options,
        f"--ignore={READER}",
        f"--junit-xml={report}",
    )
    session.run(
        *command, env=env, success_codes=[0, 1, 5]
    )  # 1: some tests failed; 5: none was selected
    suite = ElementTree.parse(report).getroot()[0].attrib
    failed = int(suite["failures"]) + int(suite["errors"])
    passed = int(suite["tests"]) - failed - int(suite["skipped"])
    result = {"passed": str(passed), "failed": str(failed), "skipped": suite["skipped"]}
    when = {
        "minutes": f"{float(suite['time']) / 60:.1f}",
        "date": str(datetime.date.today()),
        "commit": COMMIT,
    }
    write_row({"session": name, **result, **when, **environment(session, env)})
    if failed:
        session.error(f"{name}: {failed} of {passed + failed} tests failed")


def environment(session: nox.Session, env: dict[str, str] | None = None) -> dict[str, str]:
    """Versions of what the results depend on, torch's kernels, the processor."""
    printed = session.run("python", "-c", ENVIRONMENT, env=env, silent=True)
    return dict(json.loads(str(printed).strip().splitlines()[-1]))


def write_row(cells: dict[str, str]) -> None:
    """Put a session's result in place of its last one."""
    text = RESULTS.read_text(encoding="utf-8")
    head, rule, *rows = [line for line in text.splitlines() if line.startswith("|")]
    columns = [column.strip() for column in head.strip("|").split("|")]
    kept = [row for row in rows if row.split("|")[1].strip() != cells["session"]]
    rows = sorted([*kept, "| " + " | ".join(cells[column] for column in columns) + " |"])
    RESULTS.write_text(
        text.partition("|")[0] + "\n".join([head, rule, *rows]) + "\n", encoding="utf-8"
    )


def commit() -> str:
    """What is tested; a plus where it is not all committed."""
    head = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
    )
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], check=False).returncode
    return head.stdout.strip() + "+" * changed


COMMIT = commit()  # before the first row makes the checkout differ
