"""Times MAMP's released training step beside the waterfall's stage "as published": they must cost
the same.

    git clone https://github.com/maoyunyao/MAMP ../MAMP
    python benchmarks/as_published.py --mamp ../MAMP --out runs/as-published

Both train the same model at `base` on the same padded clips, interleaved in one process: the
released `train_one_epoch` with its feeder, model, scaler and AdamW, and this suite's trainer at
that stage. The feeders are timed alone as well, sample by sample, and the losses of both models are
compared on the same weights, batch and mask.

Exit codes: 0 every ratio's interval is within 5 % and the losses agree; 1 one is not; 2 there is no
released code.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import shlex
import subprocess
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import yaml
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

import harness  # noqa: F401 - makes its neighbours importable  # isort: split
from datasets.published_feeder import PREFETCH, PublishedClips
from harness.encoders.importing import converted
from harness.machine import describe_environment, select_device
from harness.records.ratios import paired_ratio
from harness.records.schema import Environment, Ratio
from harness.records.store import now, write_atomically
from harness.report.table import to_markdown
from harness.spec.model import DataSpec, EncoderSpec, MethodSpec, RunSpec, TrainSpec
from harness.speed.interleave import Arm, measure
from harness.speed.timed import Timed
from harness.studies.explain import STAGES
from harness.training.build import build_method
from harness.training.clock import StepClock
from harness.training.data import LoadedData, augmentation, load_data
from harness.training.trainer import LAST_PHASE, Trainer
from methods.mamp import MAMP

CLOSE = 0.05
"""How far the stage's cost may be from the released step's."""
ROUNDING = 1e-4
"""How far two fp32 losses of about 1 may be apart, relatively: sums in another order,
far below any real difference.
"""
STEPS = 100_000
FEEDER_ROUNDS, FEEDER_SAMPLES = 60, 64
NEEDED = "engine_pretrain.py"
CONFIG = "config/ntu60_xsub_joint/pretrain_mamp_t120_layer8+{depth}_mask90.yaml"


class Released:
    """The released code in a folder, with what it needs to run under today's versions.

    Attributes:
        feeder: its data set class.
        model: its network class.
        epoch: its loop over the batches of an epoch.
        scaler: its gradient scaler class.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        sys.path.insert(0, str(folder))
        sys.modules["torch._six"] = types.SimpleNamespace(inf=math.inf)  # type: ignore[assignment] # gone from torch 2
        if not torch.cuda.is_available():
            torch.cuda.synchronize = lambda *_: None
        import engine_pretrain
        import feeder.feeder_ntu
        import feeder.tools
        import model_mamp.transformer
        import util.misc

        feeder.tools.np = ScalarFloor()
        self.feeder, self.model = feeder.feeder_ntu.Feeder, model_mamp.transformer.Transformer
        self.epoch, self.scaler = (
            engine_pretrain.train_one_epoch,
            util.misc.NativeScalerWithGradNormCount,
        )

    def config(self, depth: int) -> argparse.Namespace:
        """The arguments of its released run with that decoder."""
        read = yaml.safe_load((self.folder / CONFIG.format(depth=depth)).read_text())
        rates = {key: float(read[key]) for key in ("lr", "min_lr")}  # YAML takes 1e-3 for a word
        return argparse.Namespace(
            **{"accum_iter": 1, "enable_amp": False, "motion_stride": 1, **read, **rates}
        )


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Neither what the released code prints nor that its names are deprecated."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class ScalarFloor:
    """NumPy as the released feeder finds it:
    the floor of an array of one element can be turned into an int.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def floor(self, values: np.ndarray) -> float:
        """A plain number: today's NumPy refuses `int` of an array."""
        return float(np.floor(values).item())


@dataclass
class Stream:
    """A loader's batches, the first `lead` of them before the clock starts;
    a step ends where the next is asked for.
    """

    loader: DataLoader[Any]
    lead: int
    steps: int
    clock: StepClock

    def __len__(self) -> int:
        return self.lead + self.steps

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        for number in range(len(self)):
            if number == self.lead:
                self.clock.start()
            elif number > self.lead:
                self.clock.mark(LAST_PHASE)
            yield next(batches)
        self.clock.mark(LAST_PHASE)
        self.clock.stop(LAST_PHASE)


class ReleasedTrainer:
    """The released loop in blocks, set up as in its main_pretrain.py on one device, for
    `harness.speed.interleave`.
    """

    def __init__(
        self,
        released: Released,
        dataset: Any,
        depth: int,
        clips: int,
        workers: int,
        device: torch.device,
    ) -> None:
        self.released, self.arguments, self.device = released, released.config(depth), device
        with quietly():
            self.model: nn.Module = released.model(**self.arguments.model_args).to(device)
            self.scaler = released.scaler()
        groups = param_groups_weight_decay(self.model, self.arguments.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=self.arguments.lr, betas=(0.9, 0.95))
        self.lead = PREFETCH * workers
        self.loader: DataLoader[Any] = DataLoader(
            dataset,
            clips,
            sampler=RandomSampler(dataset, num_samples=clips * STEPS),
            num_workers=workers,
            prefetch_factor=PREFETCH,
            pin_memory=device.type == "cuda",
            drop_last=True,
        )

    def run_block(self, steps: int, clock: StepClock) -> None:
        """Its loop over one short epoch."""
        stream = Stream(self.loader, self.lead, steps, clock)
        with quietly():
            self.released.epoch(
                self.model,
                stream,
                self.optimizer,
                self.device,
                0,
                self.scaler,
                None,
                self.arguments,
            )


# --- what both train on ---


def stage_spec(
    depth: int, clips: int, workers: int, device: torch.device, data: LoadedData | None = None
) -> RunSpec:
    """The run of this suite at the stage "as published"."""
    spec = RunSpec(
        method=MethodSpec(name="mamp", options={"decoder_depth": depth}),
        encoder=EncoderSpec(size="base"),
        data=data.spec if data else DataSpec(validation=0.0, workers=workers),
        train=TrainSpec(batch_size=2 * clips),
        device=device.type,
    )
    return STAGES[0].applied(spec)


def write_released(data: LoadedData, path: Path) -> None:
    """The padded training clips in the file that the released feeder opens."""
    padded = data.padded.transpose(0, 2, 4, 3, 1)  # as stored: [N, 300, M, V, 3]
    labels = np.eye(len(data.class_names))[data.labels[data.split.train]]
    np.savez(path, x_train=padded.reshape(*padded.shape[:2], -1), y_train=labels)


# --- comparisons ---


def ours_from_released(state: dict[str, Tensor], method: MAMP) -> None:
    """Give the method the released model's weights."""
    encoder, rest = converted(dict(state), Path("released"))
    names = {
        "decoder_embed": "project",
        "mask_token": "fill.mask_token",
        "decoder_temp_embed": "fill.positions.time",
        "decoder_pos_embed": "fill.positions.joint",
        "decoder_blocks": "blocks",
        "decoder_norm": "norm",
        "decoder_pred": "predict",
    }
    decoder = {}
    for name in rest:
        stem, dot, tail = name.partition(".")
        value = state[name]
        decoder[names[stem] + dot + tail] = (
            value[0] if stem.endswith(("temp_embed", "pos_embed")) else value
        )
    method.encoder.load_state_dict(encoder)
    method.decoder.load_state_dict(decoder)


def losses(
    released: nn.Module, method: MAMP, samples: Tensor, config: argparse.Namespace
) -> tuple[float, float]:
    """Loss of the released model and of ours, same weights,
    batch ``[N, 3, T, V, M]`` and random numbers.
    """
    ours_from_released(released.state_dict(), method)
    with torch.no_grad():
        torch.manual_seed(0)
        theirs, _, _ = released(
            samples, mask_ratio=config.mask_ratio, motion_aware_tau=config.motion_aware_tau
        )
        torch.manual_seed(0)
        ours, _ = method.loss(PublishedClips.sequences(samples))
    return theirs.item(), ours.item()


def feeder_milliseconds(datasets: dict[str, Dataset[Any]]) -> dict[str, list[float]]:
    """Processor milliseconds per sample of every data set, in turns,
    on one thread as in a worker.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {name: [] for name in datasets}
    for counted in range(-1, FEEDER_ROUNDS):
        for name, dataset in datasets.items():
            began = time.process_time()
            for row in range(FEEDER_SAMPLES):
                dataset[row]
            if counted >= 0:
                found[name].append((time.process_time() - began) * 1000 / FEEDER_SAMPLES)
    torch.set_num_threads(threads)
    return found


@dataclass(eq=False)
class TimedArm(Arm):
    """An arm that keeps the processor seconds of its steps too, of every counted block.

    Neighbours lengthen them far less than the wall's.
    """

    processor: tuple[float, ...] = ()

    def count(self, clock: StepClock) -> None:
        """Keep a block's times."""
        super().count(clock)
        self.processor = (*self.processor, clock.processor_seconds / len(clock.steps))


def arm_of(
    label: str, trainer: Trainer | ReleasedTrainer, clips: float, steps: int = 1
) -> TimedArm:
    """One side of a comparison, in blocks of so many steps.

    The released trainer has as much of a `Timed` as warm arms are asked for.
    """
    return TimedArm(label, cast(Timed, trainer), clips, steps)


@dataclass
class Comparison:
    """Released over ours: the table's rows, the record's numbers,
    and what is not as it should be.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, what: str, theirs: Sequence[float], ours: Sequence[float], unit: str) -> None:
        """A pair of paired times."""
        ratio = paired_ratio(theirs, ours)
        self.numbers[what] = {
            "released": list(theirs),
            "as published": list(ours),
            "unit": unit,
            "ratio": ratio.model_dump(),
        }
        self.rows.append(
            {
                "what": what,
                "released": f"{np.median(theirs):.3g} {unit}",
                "as published": f"{np.median(ours):.3g} {unit}",
                "released over ours [95 %]": interval(ratio),
                "pairs": str(ratio.pairs),
                "within 5 %": (close := closeness(ratio)),
            }
        )
        if close != "yes":
            self.wrong.append(f"{what} {close}: {interval(ratio)}")


def closeness(ratio: Ratio) -> str:
    """Whether all of the interval is within 5 % of 1, or none;
    a wide one across the limit tells nothing.
    """
    low, high = 1 / (1 + CLOSE), 1 + CLOSE
    if low <= ratio.low and ratio.high <= high:
        return "yes"
    return "no" if ratio.low > high or ratio.high < low else "not resolved"


def interval(ratio: Ratio) -> str:
    """A ratio with its interval."""
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def compare(
    released: Released, arguments: argparse.Namespace, device: torch.device
) -> Iterator[tuple[Comparison, list[str]]]:
    """Feeders, then losses and steps at every depth; after each of them what there is so far,
    and what to note.
    """
    clips, workers = arguments.batch_size // 2, arguments.workers
    first = stage_spec(arguments.depths[0], clips, workers, device)
    data = load_data(first.data, device, patch=4)
    found, lines = Comparison(), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        write_released(data, Path(folder) / "clips.npz")
        options = {
            **released.config(arguments.depths[0]).train_feeder_args,
            "data_path": str(Path(folder) / "clips.npz"),
        }
        feeder = released.feeder(**options)
        ours = PublishedClips(data.padded, frames=120, augmentation=augmentation(first.data))
        times = feeder_milliseconds({"released": feeder, "as published": ours})
        found.add("feeder, a sample", times["released"], times["as published"], "ms")
        yield found, lines
        for depth in arguments.depths:
            spec = stage_spec(depth, clips, workers, device, data)
            method = build_method(MAMP, spec, data.clips.layout, device)
            assert isinstance(method, MAMP)
            mine = Trainer(method, data.batches(spec, 120), spec.train, STEPS)
            theirs = ReleasedTrainer(released, feeder, depth, clips, workers, device)
            samples = torch.stack([feeder[row][0] for row in range(clips)]).to(device)
            one, two = losses(theirs.model, method, samples, theirs.arguments)
            lines.append(
                f"loss, decoder depth {depth}, same weights, batch and mask: released {one:.7f},"
                f" ours {two:.7f}"
            )
            if abs(one - two) > ROUNDING * abs(one):
                found.wrong.append(lines[-1])
            arms = [
                arm_of("released", theirs, clips, arguments.steps),
                arm_of("as published", mine, clips, arguments.steps),
            ]
            for arm in arms:
                arm.run()
            failures: dict[str, Exception] = {}
            again = measure(arms[:1], arms[1], seconds=arguments.seconds, failures=failures)
            for problem in failures.values():
                raise problem
            same = paired_ratio(again, arms[1].clip_seconds)
            lines.append(f"decoder depth {depth}: ours against itself {interval(same)}")
            found.add(f"step, decoder depth {depth}", arms[0].blocks, arms[1].blocks, "s")
            if device.type == "cpu":
                found.add(
                    f"the same in processor time, depth {depth}",
                    arms[0].processor,
                    arms[1].processor,
                    "s",
                )
            yield found, lines


def absent(mamp: Path | None, needed: str = NEEDED) -> str:
    """What there is instead of a copy of the released code; empty where it is there."""
    if mamp is None:
        return "no --mamp"
    return "" if (mamp / needed).is_file() else f"no {needed} in {mamp}"


def command_of(script: str, mamp: Path) -> str:
    """The command that a script was given, with the released code's folder by its name alone."""
    words = [mamp.name if word == str(mamp) else word for word in sys.argv[1:]]
    return f"python benchmarks/{script}.py {shlex.join(words)}"


def machine_line(environment: Environment) -> str:
    """Machine, versions, commit and time."""
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return (
        f"machine: {environment.device}, {environment.processor}, {environment.cores} cores,"
        f" {environment.threads} threads; {versions}; commit {environment.commit};"
        f" {now():%Y-%m-%d %H:%M} UTC"
    )


def leave(out: Path, name: str, text: str, record: Mapping[str, Any]) -> None:
    """Write a page and its numbers."""
    write_atomically(out / f"{name}.md", text.encode())
    write_atomically(out / f"{name}.json", (json.dumps(record, indent=1) + "\n").encode())


def commit_of(folder: Path) -> str:
    """The commit of a checkout."""
    if not (folder / ".git").exists():
        return "a copy of unknown commit"
    command = ["git", "-C", str(folder), "rev-parse", "--short=7", "HEAD"]
    return (
        "commit "
        + subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    )


def main() -> int:
    """Compare and print; leave a table and the numbers where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mamp", type=Path, help="folder of the released code (maoyunyao/MAMP)")
    parser.add_argument(
        "--depths", type=int, nargs="+", choices=(3, 5), default=[5, 3], help="of the decoder"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="body slots, two a clip")
    parser.add_argument("--workers", type=int, default=1, help="of the loader")
    parser.add_argument(
        "--steps", type=int, default=1, help="timed steps of a block, beside those before it"
    )
    parser.add_argument(
        "--seconds", type=float, default=120, help="of the measurement at each depth"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of torch on a CPU")
    parser.add_argument("--out", type=Path, help="folder for the table and the numbers")
    arguments = parser.parse_args()
    if found := absent(arguments.mamp):
        print(
            f"as_published: expected --mamp FOLDER with a copy of maoyunyao/MAMP, found {found};"
            " nothing was timed"
        )
        return 2
    device = select_device(arguments.device)
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    environment = describe_environment(device)
    conditions = [
        (
            f"batch {arguments.batch_size} body slots, {arguments.workers} loader workers,"
            f" synthetic clips, fp32; released code: {commit_of(arguments.mamp)}"
        ),
        machine_line(environment),
    ]
    command, compared, text = command_of("as_published", arguments.mamp), Comparison(), ""
    for compared, lines in compare(Released(arguments.mamp.resolve()), arguments, device):
        text = to_markdown(pd.DataFrame(compared.rows), [*lines, *conditions], command)
        if arguments.out:  # a call that is stopped leaves what it has
            record = {
                "command": command,
                "environment": environment.model_dump(),
                "comparisons": compared.numbers,
            }
            leave(arguments.out, "as-published", text, record)
    print(text)
    if compared.wrong:
        print(f"not as published: {'; '.join(compared.wrong)}", file=sys.stderr)
    return 1 if compared.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
