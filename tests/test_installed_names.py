"""The names that the suite brings into an environment,
and other packages that have the same ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import editables
import pytest

from harness.errors import UsageError
from harness.registry import Registry

ROOT = Path(__file__).parents[1]

IMPORT_OWN = """
from harness.foreign_packages import check_packages
check_packages()
import datasets.errors, methods
print(datasets.__file__, methods.__file__, sep="\\n")
"""
OWN = f"{ROOT / 'datasets' / '__init__.py'}\n{ROOT / 'methods' / '__init__.py'}\n"


def run_python(
    *arguments: str | Path,
    cwd: Path,
    path: tuple[Path, ...] = (),
    python: str | Path = sys.executable,
) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONUTF8": "1"}
    return subprocess.run(
        [python, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def write_module(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("Dataset = 1\n")
    return path


def assert_one_line(done: subprocess.CompletedProcess[str], foreign: Path) -> None:
    name = foreign.stem if foreign.stem != "__init__" else foreign.parent.name
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == f"error: another package called {name!r} ({foreign}) shadows the suite's own; "
        f"run `python -m harness` from {ROOT}, or in an environment without that package\n"
    )


@pytest.fixture(scope="module")
def editable_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``pip install -e .`` builds and unpacks."""
    folder = tmp_path_factory.mktemp("wheel")
    done = run_python(
        "-c", f"from hatchling.build import *; build_editable({str(folder)!r})", cwd=ROOT
    )
    assert not done.returncode, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture
def installed(tmp_path: Path, editable_wheel: Path) -> tuple[Path, Path]:
    """Python of an environment with the suite installed,
    and the environment's folder of packages.
    """
    home = tmp_path / "environment"
    venv.create(home, symlinks=os.name != "nt")
    places = sysconfig.get_paths(
        "venv", vars={"base": str(home), "platbase": str(home), "installed_base": str(home)}
    )
    packages = Path(places["purelib"])
    zipfile.ZipFile(editable_wheel).extractall(packages)
    shutil.copytree(Path(editables.__file__).parent, packages / "editables")
    return Path(places["scripts"]) / "python", packages


@pytest.mark.parametrize(
    "foreign", ["datasets/__init__.py", "datasets.py", "methods/__init__.py", "methods.py"]
)
def test_a_foreign_module_in_the_working_directory_is_one_line(
    tmp_path: Path, foreign: str
) -> None:
    path = write_module(tmp_path / foreign)
    assert_one_line(run_python("-m", "harness", "ls", "encoders", cwd=tmp_path, path=(ROOT,)), path)


@pytest.mark.parametrize(
    "command", [["-m", "harness"], ["-c", "from harness.__main__ import main; main()"]]
)
def test_a_foreign_package_on_pythonpath_is_one_line(tmp_path: Path, command: list[str]) -> None:
    path = write_module(tmp_path / "elsewhere" / "datasets" / "__init__.py")
    done = run_python(*command, "ls", "encoders", cwd=tmp_path, path=(path.parents[1], ROOT))
    assert_one_line(done, path)


def test_the_checkout_as_working_directory_goes_before_pythonpath(tmp_path: Path) -> None:
    path = write_module(tmp_path / "datasets" / "__init__.py")
    assert run_python("-c", IMPORT_OWN, cwd=ROOT, path=(path.parents[1],)).stdout == OWN
    done = run_python("-m", "harness", "--help", cwd=ROOT, path=(path.parents[1],))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_package_loaded_before_is_one_line(tmp_path: Path) -> None:
    """As in a notebook that has imported it."""
    foreign = write_module(tmp_path / "datasets.py")
    code = (
        f"import sys, datasets; sys.path[0] = {str(ROOT)!r}\nfrom harness.__main__ import main;"
        " main()"
    )
    assert_one_line(run_python("-c", code, cwd=tmp_path), foreign)


def test_folders_of_these_names_are_in_nobody_s_way(tmp_path: Path) -> None:
    """Data lies in a folder ``datasets`` often;
    without ``__init__.py`` it gives way to a package.
    """
    for name in ("datasets", "methods", "benchmarks"):
        write_module(tmp_path / name / "errors.py")
    assert run_python("-c", IMPORT_OWN, cwd=tmp_path, path=(ROOT,)).stdout == OWN


def test_a_foreign_package_called_benchmarks_is_in_nobody_s_way(tmp_path: Path) -> None:
    write_module(tmp_path / "benchmarks" / "__init__.py")
    done = run_python("-m", "harness", "--help", cwd=tmp_path, path=(ROOT,))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_checkout_that_is_not_whole_is_one_line(tmp_path: Path) -> None:
    for name in ("__init__.py", "__main__.py", "foreign_packages.py"):
        path = write_module(tmp_path / "harness" / name)
        path.write_bytes((ROOT / "harness" / name).read_bytes())
    done = run_python("-m", "harness", "ls", "encoders", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: the suite's folder {tmp_path} has no datasets/__init__.py; restore it\n"
    )


def test_an_install_brings_one_name(installed: tuple[Path, Path], tmp_path: Path) -> None:
    python, _ = installed
    names = "harness", "datasets", "methods", "benchmarks", "tests", "noxfile"
    code = (
        f"from importlib.util import find_spec; print([name for name in {names} if"
        " find_spec(name)])"
    )
    assert run_python("-c", code, cwd=tmp_path, python=python).stdout == "['harness']\n"


def test_an_install_finds_the_suite_s_own_packages(
    installed: tuple[Path, Path], tmp_path: Path
) -> None:
    python, _ = installed
    (tmp_path / "datasets").mkdir()  # a user's folder of data
    assert run_python("-c", IMPORT_OWN, cwd=tmp_path, python=python).stdout == OWN


def test_beside_hugging_face_s_package_the_checkout_alone_runs(
    installed: tuple[Path, Path], tmp_path: Path
) -> None:
    python, packages = installed
    foreign = write_module(packages / "datasets" / "__init__.py")
    assert_one_line(
        run_python("-m", "harness", "ls", "encoders", cwd=tmp_path, python=python), foreign
    )
    assert run_python("-c", IMPORT_OWN, cwd=ROOT, python=python).stdout == OWN
    assert (
        run_python("-c", "from datasets import Dataset", cwd=tmp_path, python=python).returncode
        == 0
    )


def test_a_plugin_that_means_hugging_face_s_package_is_told_which_it_got(tmp_path: Path) -> None:
    plugin = tmp_path / "means_another.py"
    plugin.write_text("from datasets import load_dataset\n")
    with pytest.raises(
        UsageError, match="cannot import name 'load_dataset' from 'datasets'"
    ) as error:
        Registry([plugin])
    assert str(ROOT / "datasets" / "__init__.py") in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_of_an_install_checks_first(editable_wheel: Path) -> None:
    with zipfile.ZipFile(editable_wheel) as wheel:
        (entries,) = (
            wheel.read(name).decode()
            for name in wheel.namelist()
            if name.endswith("entry_points.txt")
        )
    assert "harness = harness.__main__:main" in entries


@pytest.mark.parametrize(("build", "what"), [("build_wheel", "wheel"), ("build_sdist", "sdist")])
def test_other_builds_fail_with_one_line(tmp_path: Path, build: str, what: str) -> None:
    done = run_python("-c", f"from hatchling.build import *; {build}({str(tmp_path)!r})", cwd=ROOT)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"error: masked-skeleton-benchmark has no {what}, it runs from its checkout; "
        "clone the repository and run `pip install -e .` in it\n"
    )
    assert not list(tmp_path.iterdir())
