"""Everything a GPU is needed for, in one call: steps, memory-fair steps, waterfall, claim cards, projected hours.

    python benchmarks/gpu.py --out benchmarks/results/h200            # base encoder, NTU-60-sized clips, CUDA
    python benchmarks/gpu.py --out /tmp/try --rehearse                # the same code path on a CPU, tiny, in minutes
    python benchmarks/gpu.py --out ... --mamp ../MAMP                 # MAMP's released step too (as_published.py)

Each part is a command of the harness, so that its table names the command that made it. A part that fails or runs out
of time leaves the others unharmed; the exit code says so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

METHODS = "mamp:decoder_depth=5,mamp:decoder_depth=3,skeletonmae:decoder_depth=5,gfp,amr,skeleton2vec,sjepa"
BASELINE = "mamp:decoder_depth=5"
FAST = ("--set", "train.compile=true", "--precision", "bf16")
PLAIN = ("--set", "train.fused_attention=false", "--set", "train.fused_optimizer=false")
WORKERS = "10"
"""Loader processes of MAMP's released training."""
CLAIMS = ("gfp-6.2x", "amr-8.1x", "sjepa-0.2x", "gfp-6.1x")


@dataclass(frozen=True)
class Scale:
    """How large the parts are.

    Attributes:
        flags: of every command.
        seconds: of every interleaved measurement.
        memory_cap: GB of the memory-fair part.
        limit: seconds until a part is stopped; the time of the whole call stops it too.
        published: flags of the comparison with the released step.
    """

    flags: tuple[str, ...]
    seconds: float
    memory_cap: float
    limit: float
    published: tuple[str, ...]


FULL = Scale(
    ("--encoder", "base", "--device", "cuda", "--dataset", "ntu60-sized", "--batch-size", "256",
     "--set", "data.validation=0", "--set", f"data.workers={WORKERS}"), 20, 60, 300,
    ("--device", "cuda", "--batch-size", "256", "--workers", WORKERS, "--steps", "5", "--seconds", "20"),
)  # fmt: skip
REHEARSAL = Scale(
    ("--encoder", "tiny", "--device", "cpu", "--batch-size", "16"), 3, 0.1, 900,
    ("--device", "cpu", "--batch-size", "2", "--depths", "3", "--seconds", "3"),
)  # fmt: skip


def parts(scale: Scale, out: Path, mamp: Path | None) -> dict[str, list[str]]:
    """The commands by name, the most wanted first."""
    common = [*scale.flags, "--speed-seconds", str(scale.seconds)]
    harness, published = ["-m", "harness"], str(Path(__file__).parent / "as_published.py")
    speed = [*harness, "speed", "--methods", METHODS, "--baseline", BASELINE, *common]
    commands = {
        "steps, bf16, fused, compiled": [*speed, *FAST, "--out", str(out / "steps-bf16")],
        "claims": [*harness, "claim", *CLAIMS, *common, "--out", str(out / "claims")],
        "waterfall": [*harness, "explain", "gfp", BASELINE, *common, "--out", str(out / "waterfall-gfp")],
        "steps, fp32, unfused": [*speed, *PLAIN, "--out", str(out / "steps-fp32")],
        "steps, bf16, memory-fair": [
            *speed,
            *FAST,
            "--memory-cap",
            str(scale.memory_cap),
            "--out",
            str(out / "steps-memory-fair"),
        ],
    }
    if mamp:
        compared = [published, "--mamp", str(mamp), *scale.published, "--out", str(out / "as-published")]
        commands = {"released step beside 'as published'": compared, **commands}
    return commands


def main() -> int:
    """Run the parts one after the other until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true", help="tiny, on a CPU")
    parser.add_argument("--mamp", type=Path, help="folder of MAMP's released code, to time its step as well")
    parser.add_argument("--minutes", type=float, default=8.5, help="of the whole call: whatever runs then is stopped")
    arguments = parser.parse_args()
    scale = REHEARSAL if arguments.rehearse else FULL
    began, failed = time.perf_counter(), []
    for name, command in parts(scale, arguments.out, arguments.mamp).items():
        left = 60 * arguments.minutes - (time.perf_counter() - began)
        if left < 10:
            failed.append(f"{name}: no time left")
            continue
        print(f"== {name}", flush=True)
        try:
            subprocess.run([sys.executable, *command], check=True, timeout=min(left, scale.limit))
        except subprocess.CalledProcessError as problem:
            failed.append(f"{name}: exit code {problem.returncode}")
        except subprocess.TimeoutExpired:
            failed.append(f"{name}: stopped after its time")
    minutes = (time.perf_counter() - began) / 60
    print(f"{minutes:.1f} min; " + ("; ".join(failed) if failed else "every part done"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
