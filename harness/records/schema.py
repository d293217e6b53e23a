"""What records hold: data that knows nobody but the spec, so that reading it loads neither torch
nor scikit-learn.

One `RunRecord` per run and one `SpeedRecord` per measurement, each a JSON file
(`harness.records.store`): the truth that every table derives from.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    Field,
    ValidationError,
    model_validator,
)

from harness.records.part import Count, NotNegative, Positive, RecordPart, Share, Some
from harness.spec.model import DataSpec, EncoderSpec, RunSpec, TrainSpec, digest, validation_message

SCHEMA = 2
"""2: addresses by rule 2; versions of the code instead of a hash of its text."""
RANDOM_INIT = "random-init"
RAW_FLOOR = "raw-pca"
BOUND = "encoder-only"
"""Names of the control rows, shared by the run matrix that makes them and the tables
that show them.
"""
STAGE_MARK = " @ "
EVERY_SWITCH = "every switch on"
"""Name of the last of the two stages that claims are measured at."""
INFERENCE = "inference"
"""The one stage of a measurement of encoders' forward passes: none of training,
and no table of runs shows it.
"""
_LAUNCH_BOUND = 0.1
"""Share of a step that a GPU has left to do when its host is done with a block,
below which the host is the slower.
"""
BODIES_PER_CLIP = 2
"""FLOPs per clip are quoted for two bodies: so counted, GFP's printed costs (arXiv 2509.03609)
come out.
"""
Status = Literal["ok", "failed", "oom", "diverged", "interrupted"]
FINISHED: tuple[Status, ...] = ("ok", "diverged")


Verdict = Literal["supported", "not supported", "not measurable here", "in doubt"]
DoubtKind = Literal[
    "above the bound",
    "not as timed",
    "steps skipped",
    "part of the batch",
    "FLOPs differ",
    "batch changed",
    "trained off the clock",
]
"""What numbers give away (`harness.records.doubts`), as it stands in a row's verdict."""


class Ratio(RecordPart):
    """A ratio with its 95 % interval and the number of pairs behind it."""

    value: Positive
    low: NotNegative
    high: float = Field(ge=0)  # infinite where nothing bounds it
    pairs: Count

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError("expected a value inside its interval")
        return self


class Doubt(RecordPart):
    """Something that a method must not do, and what showed it;
    nothing that its row says is supported then.
    """

    kind: DoubtKind
    text: str


class Accuracy(RecordPart):
    """Shares of correctly classified clips; validation figures are absent when there is no
    validation part.

    Probes for the test side are fitted on training and validation clips together, with the
    `regularisation` that `choose_regularisation` found.

    Attributes:
        linear_validation: of the validation clips, whose subjects pre-training never saw, by a
            probe fitted on the training clips alone; `knn_validation` likewise. Kept to be read:
            they choose nothing.
        sets: of a run on several data sets, what each got by probes of its own. The figures beside
            it are then of all test clips together, `selection` is the mean over sets, and
            `regularisation` that of the first.
        selection: what chooses among regularisations, and among a run's evaluations where it has
            validation clips: accuracy of the linear probe on subjects it was not fitted on. Those
            are the validation subjects where there are enough, else folds of the whole training
            side, pre-training's subjects among them. None where no subject is known to be another.
            Earlier records call it ``held_out``.
    """

    linear_validation: Share | None
    linear_test: Share
    knn_validation: Share | None
    knn_test: Share
    regularisation: Positive
    selection: Share | None = Field(
        default=None, validation_alias=AliasChoices("selection", "held_out")
    )
    test_clips: Count
    sets: tuple[Accuracy, ...] = ()


DeviceClass = Literal["cpu", "gpu"]


class Environment(RecordPart):
    """Machine and software of a record.

    Attributes:
        tf32: fp32 matrix products may round their inputs to TF32 on a GPU; None in records of
            before it was kept. Steps of ``precision=tf32`` do so whatever stands here.
        attention: kernels that torch may take for attention on a GPU, its first choice first; None
            on a CPU.
        allocator: what the environment says of how torch holds a GPU's memory; None on a CPU.
        ranks: processes that trained together, on as many devices (torchrun); threads are those of
            each.
        study: the file that asked for it with ``--config``: its name and the first 16 digits of its
            SHA-256.
    """

    device: str
    processor: str
    cores: Some
    threads: Some
    memory_gib: NotNegative
    system: str
    versions: dict[str, str]
    commit: str
    tf32: bool | None = None
    attention: tuple[str, ...] | None = None
    allocator: str | None = None
    ranks: Some = 1
    study: str = ""

    @property
    def device_class(self) -> DeviceClass:
        """The kind of hardware that computed."""
        return "cpu" if self.device == "cpu" else "gpu"

    @property
    def fingerprint(self) -> str:
        """Records are comparable in speed only when this agrees: device, processor, cores, threads,
        versions, TF32.

        On a GPU attention's kernels and the allocator's settings too; where there are several ranks
        their number.
        """
        switched = {name for name in ("tf32", "attention", "allocator") if getattr(self, name)}
        switched |= {"ranks"} if self.ranks > 1 else set()
        return digest(
            self.model_dump(
                include={"device", "processor", "cores", "threads", "versions", *switched}
            )
        )


class Health(RecordPart):
    """What happened around the blocks of a speed measurement.

    Attributes:
        blocks: blocks that count.
        repeated: blocks that were thrown away as disturbed and timed again.
        disturbed: blocks that count although they stayed disturbed after two more tries.
        foreign_share: largest share of all processor time that others took during a counted block.
        clock_mhz: lowest and highest GPU clock seen after a block, empty without NVML.
        temperature_c: highest GPU temperature seen.
        reasons: why blocks were called disturbed.
        gpu_watched: clocks, heat and other users of the GPU were read; None without a GPU.
    """

    blocks: Count = 0
    repeated: Count = 0
    disturbed: Count = 0
    foreign_share: NotNegative = 0.0
    clock_mhz: tuple[int, ...] = ()
    temperature_c: int | None = None
    reasons: tuple[str, ...] = ()
    gpu_watched: bool | None = None

    @property
    def disturbed_share(self) -> float:
        """Share of counted blocks that stayed disturbed."""
        return self.disturbed / self.blocks if self.blocks else 0.0


class MethodInfo(RecordPart):
    """What ran: the method's own words about itself, and the versions of the code it is built on.

    Attributes:
        versions: module -> version (`harness.versions`); empty for controls and in records of
            schema 1.
        source: schema 1 only: a hash of the text of the files, which says nothing any more.
    """

    title: str
    paper: str
    code: str
    epochs: int | None = None
    deviations: tuple[str, ...]
    choices: tuple[str, ...]
    division: Literal["closed", "open"]
    control: bool
    versions: dict[str, str] = Field(default={})
    source: str = ""


class EncoderInfo(RecordPart):
    """The shared encoder."""

    architecture: str
    parameters: Count
    tokens: Count


class DataInfo(RecordPart):
    """The data as used: counts after the split, and what is worth saying about it.

    Attributes:
        split: of one of several sets; likewise the known people of its training side, validation
            included, and of its test side.
        sets: the data sets, where the run is on several; the counts are then their sums.
    """

    name: str
    fingerprint: str
    classes: Count
    train_clips: Count
    validation_clips: Count
    test_clips: Count
    train_sequences: Count
    bodies_per_clip: Positive
    notes: tuple[str, ...]
    split: str = ""
    training_people: Count = 0
    test_people: Count = 0
    sets: tuple[DataInfo, ...] = ()


def _of_a_block(means: dict[str, float]) -> dict[str, float]:
    if not {"step", "loss"} <= means.keys() or not means["step"].is_integer():
        raise ValueError("expected the step and the loss of a block")
    return means


Losses = Annotated[dict[str, float], AfterValidator(_of_a_block)]
"""What a block of training steps ended with: its last step,
the mean loss and the means of its named parts.
"""


class Training(RecordPart):
    """What the training loop did.

    Attributes:
        seconds: time on the training clock.
        step_seconds: median step time of this run.
        interleaved_step_seconds: step time of the speed measurement that planned the run.
        own_step_seconds: mean of what the process itself took per step
            (`harness.training.clock.StepClock.own_seconds`) in blocks that nothing disturbed,
            without the first; None where that is too little to judge.
        interleaved_own_step_seconds: the same of the speed measurement.
    """

    steps: Some
    clips_seen: NotNegative
    seconds: NotNegative
    step_seconds: Positive
    interleaved_step_seconds: Positive | None = None
    own_step_seconds: NotNegative | None = None
    interleaved_own_step_seconds: NotNegative | None = None
    flops: NotNegative
    losses: list[Losses]


class Point(RecordPart):
    """One evaluation during training: how much was spent until then, and what the probes said."""

    step: Count
    clips_seen: NotNegative
    seconds: NotNegative
    accuracy: Accuracy
    diagnosis: dict[str, float] = Field(default={})


class Continuation(RecordPart):
    """A process took up a run that another one had begun.

    Attributes:
        step: where from.
        same_machine: device, processor, threads and versions were those of the state: the end is
            the same bit for bit.
    """

    step: Count
    at: AwareDatetime
    same_machine: bool


class RunRecord(RecordPart):
    """One run: a method, or a control, on one seed.

    Attributes:
        weights: SHA-256 of the weight files beside the record, by name; empty where none were
            written, and in records of before it was kept.
        continued: where it was taken up after a stop.
        doubts: what its speed measurement gave away, and the run itself.
    """

    schema_version: Some = SCHEMA
    kind: Literal["run"] = "run"
    address: str
    label: str
    status: Status
    error: str = ""
    traceback: str = ""
    spec: RunSpec
    method: MethodInfo
    encoder: EncoderInfo | None = None
    data: DataInfo
    environment: Environment
    training: Training | None = None
    phases: dict[str, float] = Field(default={})
    wall_seconds: NotNegative = 0.0
    untracked: float = Field(default=0.0, le=1)
    curve: list[Point] = Field(default=[])
    accuracy: Accuracy | None = None
    untrained: Accuracy | None = None
    warnings: tuple[str, ...] = ()
    weights: dict[str, str] = Field(default={})
    continued: tuple[Continuation, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    started: AwareDatetime
    finished: AwareDatetime

    def on(self, number: int) -> RunRecord:
        """The run as it did on one of its data sets: data and every accuracy are that set's."""

        def of(accuracy: Accuracy | None) -> Accuracy | None:
            return accuracy.sets[number] if accuracy else None

        curve = [
            point.model_copy(update={"accuracy": point.accuracy.sets[number]})
            for point in self.curve
        ]
        own = {
            "data": self.data.sets[number],
            "accuracy": of(self.accuracy),
            "untrained": of(self.untrained),
        }
        return self.model_copy(update={**own, "curve": curve})


class Start(RecordPart):
    """What a run under a budget in seconds was first started with; it goes when the run's record is
    finished.

    Attributes:
        step_seconds: interleaved step time, from which the number of steps follows.
    """

    step_seconds: Positive


class ArmRecord(RecordPart):
    """One method's side of a speed measurement.

    Attributes:
        blocks: mean seconds per step of every block.
        clips: clips per step, by which all ratios are formed; 0 in records of before it was kept.
        ratio: clips/s over the baseline's, above 1 is faster.
        flop_ratio: the same as the methods' FLOPs per clip predict; None where one of them has none
            that are counted.
        warnings: what the method left behind while it was timed.
        forward_shares: shares of a step's forward FLOPs by the method's modules
            (`harness.speed.flops.forward_shares`).
        epochs: length of the method's published schedule.
        own_step_seconds: as in `Training`.
        bound_flops: FLOPs of a step of the encoder alone on the same tokens; None where it was not
            timed beside it.
        doubts: what the measurement, and the trial steps before it, gave away.
        over_one_process: where several ranks trained, their clips/s over those of one process with
            the same batch.
        host_step_seconds: on a GPU, time that the host takes to hand a step to it, the wait for it
            left out; median over blocks. None on a CPU, and where each step is told to wait.
        encoder: where rows are encoders and no methods (`harness.speed.forward`).
    """

    label: str
    step_seconds: Positive
    clips: NotNegative = 0.0
    batch_size: Count = 0
    clips_per_second: Positive
    blocks: list[Positive]
    steps_per_block: Some
    phases: dict[str, NotNegative]
    warmup_seconds: NotNegative
    step_flops: NotNegative
    flop_ratio: NotNegative | None
    forward_shares: dict[str, Share] = Field(default={})
    peak_bytes: Count | None
    epochs: Count | None = None
    division: Literal["closed", "open"]
    control: bool
    ratio: Ratio
    verdict: Verdict
    warnings: tuple[str, ...] = ()
    own_step_seconds: NotNegative | None = None
    bound_flops: NotNegative | None = None
    doubts: tuple[Doubt, ...] = ()
    host_step_seconds: NotNegative | None = None
    encoder: EncoderInfo | None = None
    over_one_process: Ratio | None = None

    @property
    def launch_bound(self) -> bool:
        """The GPU waits for its host: it has next to nothing left to do when the host has handed
        out a block.

        A GPU that is the slower one has up to a thousand kernels before it then; a queue that is
        full holds its host up, so that the host's time per step alone says nothing.
        """
        if self.host_step_seconds is None:
            return False
        left = self.steps_per_block * (self.step_seconds - self.host_step_seconds)
        return left < _LAUNCH_BOUND * self.step_seconds

    @property
    def clip_seconds(self) -> list[float]:
        """Seconds per clip of every block."""
        return [seconds / self.clips for seconds in self.blocks]

    @property
    def clip_flops(self) -> float:
        """Model FLOPs per clip of a training step."""
        return self.step_flops / self.clips


class _Measured(BaseModel):
    """What readers count on in the spec of a measurement, which has more,
    and not the same in all versions.
    """

    encoder: EncoderSpec
    data: DataSpec
    train: TrainSpec
    device: str
    methods: list[str] = []
    stages: list[str] = []
    rows: list[str] = []
    memory_cap: float | None = Field(default=None, gt=0, allow_inf_nan=False)


_SAID = {
    "encoder": {"size"},
    "data": {"name", "split", "fingerprint"},
    "train": {"batch_size", "lr", "precision"},
}
"""Settings that every measurement names, whatever they are by default."""


def _clear(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec, if it says what was measured; `ValueError` otherwise."""
    try:
        _Measured.model_validate(spec)
    except ValidationError as error:
        raise ValueError(validation_message(error, _Measured)) from None
    missing = [
        f"{part}.{name}"
        for part, names in _SAID.items()
        for name in sorted(names - spec[part].keys())
    ]
    if missing:
        raise ValueError(f"expected the settings that were measured, without {', '.join(missing)}")
    return spec


class SpeedRecord(RecordPart):
    """An interleaved speed measurement of several methods.

    Attributes:
        same: the baseline against itself; `floor` is the factor inside which no ratio means
            anything.
        health: what disturbed the blocks.
        matmul_flops: FLOP/s of a large matrix product on the same device in the same precision.
        rules: version of benchmarks/RULES.md that it follows.
        rounds: of each process, where there were several: blocks are in their order, and intervals
            over processes.
        failures: why methods could not be timed, by label.
        planned_rounds: of a measurement that is not finished, or was stopped: the rounds it was to
            have; None in a finished one.
    """

    schema_version: Some = SCHEMA
    kind: Literal["speed"] = "speed"
    address: str
    spec: Annotated[dict[str, Any], AfterValidator(_clear)]
    baseline: str
    batch_size: Count
    bodies_per_clip: Positive
    arms: list[ArmRecord]
    same: Ratio
    floor: float = Field(ge=1)  # infinite after a single round
    health: Health | None = None
    matmul_flops: Positive | None = None
    rules: str = ""
    rounds: tuple[Count, ...] = ()
    failures: dict[str, str] = Field(default={})
    encoder: EncoderInfo
    data: DataInfo
    environment: Environment
    started: AwareDatetime
    finished: AwareDatetime
    planned_rounds: Count | None = None

    @property
    def done_rounds(self) -> int:
        """Rounds that it has, of all processes."""
        return max((len(arm.blocks) for arm in self.arms), default=0)

    @property
    def stages(self) -> list[str]:
        """Names of the stages that its rows went through (`harness.studies.explain`);
        empty for a plain measurement.
        """
        return list(self.spec.get("stages", ()))

    @property
    def rows(self) -> list[str]:
        """Methods that went through them; the first records of stages name them
        in their arms only.
        """
        return list(
            self.spec.get("rows")
            or dict.fromkeys(arm.label.partition(STAGE_MARK)[0] for arm in self.arms)
        )

    def arm(self, label: str) -> ArmRecord | None:
        """The arm with that label, if it was measured."""
        return next((arm for arm in self.arms if arm.label == label), None)

    def flop_speedup(self, one: str, other: str) -> float | None:
        """Clips/s of one arm over another's as FLOPs per clip predict it;
        None where one was not measured.
        """
        arms = self.arm(one), self.arm(other)
        return flop_ratio(arms[0].clip_flops, arms[1].clip_flops) if arms[0] and arms[1] else None


def plain_spec(record: RunRecord | SpeedRecord) -> dict[str, Any]:
    """Sections and device of what was asked, as plain values."""
    return record.spec if isinstance(record, SpeedRecord) else record.spec.model_dump(mode="json")


def flop_ratio(own: float, others: float) -> float | None:
    """Speedup over another method that FLOPs predict;
    None where either has none that are counted.
    """
    return others / own if own and others else None


def at_stage(method: str, stage: str) -> str:
    """Label of a method's arm at a stage of a waterfall."""
    return f"{method}{STAGE_MARK}{stage}"
