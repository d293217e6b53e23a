"""Everything that a GPU is needed for, in few calls of at most ten minutes; what is wanted most
comes first.

    python benchmarks/gpu.py --out OUT                 # as far as time goes; again: the rest
    python benchmarks/gpu.py --out OUT --parts memory-fair    # these parts only
    python benchmarks/gpu.py --out OUT --mamp ../MAMP  # MAMP's released step too (as_published.py)
    python benchmarks/gpu.py --out OUT --rehearse             # the same path on a CPU, tiny

Every part is a command in a process of its own that gets the time that is left; one that took
longer when it was timed is left for another call. Stopped or killed, it leaves what it measured,
and the same call goes on with the parts that did not end. The smoke parts, a minute that shows
whether a machine can do anything at all, only run where they are asked for. OUT gets two
files: `results.tar.gz`, written anew every quarter of a minute, and `report.md` at the end
(`gpu_report.py`). Results and the compilers' caches lie in `runs/gpu`, which git ignores.

It needs no network and no installation. It says what is missing first; wheels in `runs/gpu/wheels`
are unpacked.

Exit codes: 0 every part is done; 1 one is not; 2 a package is missing; 128 + n stopped by signal n.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from gpu_packages import ROOT, say_missing, unpack

HERE = Path(__file__).resolve().parent
SCRIPTS = f"{HERE.relative_to(ROOT)}/"
"""Every command is run in the repository's root: the same words on every machine."""
END, GRACE = 30.0, 10.0
"""Seconds of a call kept for its end; of them, for a part that is stopped to leave its results."""
SHORTEST = 15.0
"""Seconds: with less left no part begins."""
LOOK, ARCHIVE = 0.5, 15.0
"""Seconds between two looks at a part, and between two archives."""
ENDED = ("done", "failed")
WEIGHTS = "*.safetensors"
"""Too large to come back."""

# --- the parts, as data ---

EVERY_METHOD = (
    "mamp,gfp,amr,skeletonmae,mamp:decoder_depth=3,sjepa,skeleton2vec,"
    "skeletonmae-region,skeletonmae-graph,gfp:covariance=bf16"
)
OF_BLOCKS = EVERY_METHOD.replace("skeletonmae-graph,", "")
"""Those whose encoder has transformer blocks, which can be compiled one by one."""
FEW_METHODS = "mamp,gfp,amr"
BASELINE = "mamp"
CLAIMS = ("gfp-6.2x", "amr-8.1x")
SJEPA_CLAIMS = ("sjepa-0.2x", "gfp-6.1x")
BF16 = ("--precision", "bf16")
COMPILED = (*BF16, "--set", "train.compile=true")
BLOCKS = (*COMPILED, "--set", "train.compile_scope=blocks")
GRAPHS = (*COMPILED, "--set", "train.cuda_graphs=true")
UNFUSED = ("--set", "train.fused_attention=false", "--set", "train.fused_optimizer=false")


class Scale(NamedTuple):
    """How large the parts are.

    Attributes:
        model: flags of every command.
        batch: of every command that trains.
        small: the same where launching kernels is to take the time.
        data: of what is to be as in a real training.
        seconds: of an interleaved measurement.
        memory_cap: GB of the memory-fair part.
        published: flags of `as_published.py`.
        cudnn: flags that put cuDNN's attention first; a CPU has none.
        environment: of every part but the smoke.
    """

    model: tuple[str, ...]
    batch: tuple[str, ...]
    small: tuple[str, ...]
    data: tuple[str, ...]
    seconds: float
    memory_cap: float
    published: tuple[str, ...]
    cudnn: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}


FULL = Scale(
    ("--encoder", "base", "--device", "cuda"),
    ("--batch-size", "256"),
    ("--batch-size", "64"),
    ("--dataset", "ntu60-sized", "--set", "data.validation=0", "--set", "data.workers=10"),
    20,
    60,  # MAMP's workers
    (
        "--device",
        "cuda",
        "--batch-size",
        "256",
        "--workers",
        "10",
        "--steps",
        "5",
        "--seconds",
        "20",
    ),
    cudnn=("--set", "train.sdpa=cudnn-first"),
)
REHEARSAL = Scale(
    ("--encoder", "tiny", "--device", "cpu"),
    ("--batch-size", "4", "--set", "encoder.depth=1", "--set", "encoder.frames=24"),
    ("--batch-size", "2"),
    ("--set", "data.workers=1"),
    1,
    0.1,
    ("--device", "cpu", "--batch-size", "2", "--depths", "3", "--seconds", "3"),
    environment={
        "TORCH_COMPILE_DISABLE": "1"
    },  # on a CPU a method takes minutes to compile: only the smoke does
)


MEASURED_ON = "an NVIDIA H200 on 2026-11-26"
MEASURED = {"eager": 73, "losses": 78, "claims": 201, "claims-sjepa": 184}
"""Seconds that parts took there at full scale, with empty caches; of claims-sjepa, warming up its
arms alone.
"""


class Part(NamedTuple):
    """One command.

    Attributes:
        command: what Python is given; the folder for its results is added.
        asked: it only runs where it is asked for by name.
        environment: what is set for it.
        took: seconds, where it was timed: with less left it is not begun.
    """

    name: str
    command: tuple[str, ...]
    asked: bool = False
    environment: Mapping[str, str] = {}
    took: float = 0.0


def all_parts(scale: Scale, mamp: Path | None = None) -> list[Part]:
    """The most wanted first."""
    harness, trained = ("-m", "harness"), (*scale.model, *scale.batch)
    smoke = (*harness, "speed", *trained, "--speed-seconds", str(min(5, scale.seconds)))
    sized = (*trained, *scale.data, "--speed-seconds", str(scale.seconds))
    speed = (*harness, "speed", *sized, "--baseline", BASELINE, "--methods")
    accuracy = (
        *trained,
        *BF16,
        "--speed-seconds",
        "5",
        "--budget",
        f"{scale.seconds}s",
        "--methods",
        "gfp,mamp",
    )
    published = (SCRIPTS + "as_published.py", "--mamp", str(mamp), *scale.published)
    smokes = [
        Part("smoke", (*smoke, *BF16, "--methods", "mamp,gfp"), asked=True),
        Part(
            "smoke-compiled",
            (*smoke, *BLOCKS, "--methods", "mamp:decoder_depth=1", "--set", "encoder.depth=1"),
            asked=True,
        ),
    ]
    parts = [
        Part("eager", (*speed, EVERY_METHOD, *BF16)),
        Part("losses", (SCRIPTS + "gpu_losses.py", *scale.model)),
        Part("claims", (*harness, "claim", *CLAIMS, *sized)),
        Part("compiled", (*speed, FEW_METHODS, *COMPILED)),
        Part("graphs", (*speed, FEW_METHODS, *GRAPHS, *scale.small)),
        Part("claims-sjepa", (*harness, "claim", *SJEPA_CLAIMS, *sized)),
        Part("waterfall", (*harness, "explain", "gfp", BASELINE, *sized)),
        Part("cudnn-first", (*speed, f"{FEW_METHODS},sjepa,skeleton2vec", *BF16, *scale.cudnn)),
        *([Part("as-published", published)] if mamp else []),
        Part("fp32", (*speed, EVERY_METHOD, *UNFUSED)),
        Part("blocks", (*speed, OF_BLOCKS, *BLOCKS)),
        Part("accuracy", (*harness, "run", *accuracy)),
        Part(
            "memory-fair",
            (*speed, EVERY_METHOD, *BF16, "--memory-cap", str(scale.memory_cap)),
            asked=True,
        ),
    ]
    timed = MEASURED if scale is FULL else {}
    return [
        *smokes,
        *(
            part._replace(environment=scale.environment, took=timed.get(part.name, 0.0))
            for part in parts
        ),
    ]


# --- running them ---


class Call:
    """One call of this script.

    Args:
        work: folder of results and caches.
        out: folder for what is to come back.
        deadline: reading of the clock at which the last part is stopped.

    Attributes:
        states: of every part that was begun, in this call or an earlier one.
    """

    def __init__(self, work: Path, out: Path, deadline: float) -> None:
        self.work, self.results, self.out, self.deadline = work, work / "results", out, deadline
        self.archived = 0.0
        noted = self.results / "parts.json"
        self.states: dict[str, dict[str, str]] = (
            json.loads(noted.read_text()) if noted.exists() else {}
        )
        paths = (str(ROOT), str(work / "packages"), os.environ.get("PYTHONPATH", ""))
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONUNBUFFERED": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(work / "cache" / "inductor"),
            "TRITON_CACHE_DIR": str(work / "cache" / "triton"),
        }

    def has_ended(self, part: Part) -> bool:
        """It need not be run again."""
        return self.states.get(part.name, {}).get("state", "").startswith(ENDED)

    def run(self, part: Part) -> None:
        """Run a part until it ends, or the time is up, or a signal says so."""
        folder, began, state = self.results / part.name, time.monotonic(), "stopped by a signal"
        if folder.exists():  # what an earlier call measured stays: this one may be stopped sooner
            earlier = f"{folder}.{1 + len(list(self.results.glob(f'{part.name}.*')))}"
            if self.has_ended(part):
                folder.rename(earlier)
            else:  # the command goes on with what is finished of it
                shutil.copytree(folder, earlier, ignore=shutil.ignore_patterns(WEIGHTS))
        folder.mkdir(parents=True, exist_ok=True)
        say(f"{part.name}, {self.deadline - began:.0f} s left")
        command = (*part.command, "--out", os.path.relpath(folder, ROOT))
        self.note(part, command, "running", began)
        log = (folder / "log.txt").open("a+b")
        shown = log.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**self.environment, **part.environment},
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - no threads here
        )
        try:
            while process.poll() is None and time.monotonic() < self.deadline:
                time.sleep(LOOK)
                shown += show(log.name, shown)
                self.archive(every=ARCHIVE)
            state = "stopped, no time left" if process.poll() is None else ended(process.returncode)
        finally:
            stop(process)
            show(log.name, shown)
            self.note(part, command, state, began)
            self.archive()
            say(f"{part.name} {state} after {time.monotonic() - began:.0f} s")

    def note(self, part: Part, command: Iterable[str], state: str, began: float) -> None:
        """Keep how far a part has come."""
        self.states[part.name] = {
            "state": state,
            "seconds": f"{time.monotonic() - began:.0f}",
            "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "command": f"python {shlex.join(command)}",
        }
        write(self.results / "parts.json", json.dumps(self.states, indent=1).encode())

    def archive(self, every: float = 0.0) -> None:
        """Write all results but weights into one file, unless that was done so many seconds ago."""
        if time.monotonic() - self.archived < every:
            return
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            for path in sorted(self.results.rglob("*")):
                about = tarfile.TarInfo(str(path.relative_to(self.results)))
                if path.is_file() and not path.name.startswith(".") and not path.match(WEIGHTS):
                    with contextlib.suppress(FileNotFoundError):  # a part is done with it
                        found = path.read_bytes()
                        about.size, about.mtime = len(found), int(time.time())
                        archive.addfile(about, io.BytesIO(found))
        write(self.out / "results.tar.gz", content.getvalue())
        self.archived = time.monotonic()

    def report(self) -> None:
        """Print what was measured beside what was expected, and leave it."""
        command = [
            str(HERE / "gpu_report.py"),
            str(self.results),
            "--out",
            str(self.out / "report.md"),
        ]
        subprocess.run([sys.executable, *command], check=False, env=self.environment)


def end_with_parent() -> None:
    """Linux will send this process a SIGTERM when its parent is gone, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def say(text: str) -> None:
    """Print a line of this script's own, with the time in UTC."""
    print(f"== {time.strftime('%H:%M:%S', time.gmtime())} {text}", flush=True)


def show(path: str, start: int) -> int:
    """Print what was written into a file from there on; how many bytes."""
    with open(path, "rb") as file:
        file.seek(start)
        found = file.read()
    sys.stdout.write(found.decode(errors="replace"))
    sys.stdout.flush()
    return len(found)


def ended(code: int) -> str:
    """The state of a part that ended with this exit code."""
    if 0 <= code < 128:
        return f"failed, exit code {code}" if code else "done"
    return f"stopped by {signal.Signals(code - 128 if code > 0 else -code).name}"


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, which has some seconds to leave its results."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write(path: Path, content: bytes) -> None:
    """Replace a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    temporary.replace(path)


def leave(number: int, frame: object) -> None:
    """The handler of the first signal that ends this call: what follows only leaves results,
    and is not broken off.
    """
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run what has not ended, most wanted first, until the time is up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="for the archive and the report")
    parser.add_argument("--seconds", type=float, default=560, help="of the whole call")
    parser.add_argument(
        "--parts", help="names, such as losses,memory-fair: these, though they have ended before"
    )
    parser.add_argument(
        "--mamp", type=Path, help="folder of MAMP's released code, to time its step as well"
    )
    parser.add_argument("--rehearse", action="store_true", help="tiny, on a CPU")
    parser.add_argument(
        "--work", type=Path, help="for results and caches [runs/gpu, or runs/gpu-rehearsal]"
    )
    arguments, began = parser.parse_args(), time.monotonic()
    work = (
        arguments.work or ROOT / "runs" / ("gpu-rehearsal" if arguments.rehearse else "gpu")
    ).resolve()
    scale = REHEARSAL if arguments.rehearse else FULL
    parts = {
        part.name: part for part in all_parts(scale, arguments.mamp and arguments.mamp.resolve())
    }
    asked = arguments.parts.split(",") if arguments.parts else []
    if unknown := [name for name in asked if name not in parts]:
        parser.error(f"--parts: expected some of {', '.join(parts)}, found {', '.join(unknown)}")
    unpack(work / "wheels", work / "packages")
    if say_missing(work / "wheels"):
        return 2
    call = Call(work, arguments.out.resolve(), began + arguments.seconds - END)
    waiting = [part for part in parts.values() if not part.asked and not call.has_ended(part)]
    chosen = [parts[name] for name in asked] or waiting
    for number in SIGNALS:
        signal.signal(number, leave)
    try:
        for part in chosen:
            left = call.deadline - time.monotonic()
            if left < part.took and part.name not in asked:
                took = f"{part.name} took {part.took:.0f} s on {MEASURED_ON}"
                say(f"{took}: not begun, {left:.0f} s left")
            elif left > SHORTEST:
                call.run(part)
    finally:
        if call.states:
            call.report()
        rest = ", ".join(part.name for part in chosen if not call.has_ended(part))
        say(
            f"{time.monotonic() - began:.0f} s; "
            + (f"left for another call: {rest}" if rest else "every part ended")
        )
    return 0 if all(call.states.get(part.name, {}).get("state") == "done" for part in chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
