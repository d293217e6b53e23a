"""`RunSpec`: everything that defines a run, typed and complete before any work starts; its hash is
the address.

An address must outlive the suite's growth. A field that is added to a section or to a method's
options after the first release is marked ``json_schema_extra={"later": True}``; at its default it
is left out of the address (rule 2), so what was finished before it existed stays finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from harness.errors import UsageError, is_utf8, nearest, shortened
from harness.spec.budget import UNITS, check_budget

Model = TypeVar("Model", bound=BaseModel)

_IN_UTF8 = "rename the file, or set PYTHONUTF8=1 where only the locale is another"
MOST_SEEDS, MOST_EVALUATIONS = 1000, 10_000
"""Of one command, and of one run."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
BudgetText = Annotated[
    str, AfterValidator(check_budget), Field(description=f"a number and {' or '.join(UNITS)}")
]
Words = Annotated[str, Field(max_length=4096)]
"""A name, a path or an expression."""

ADDRESS_RULE = 2
"""How addresses are made; it stands in each. Rule 1 (no number) hashed every field,
the data's name among them.
"""


class Section(BaseModel):
    """Base of all parts of a spec: immutable; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MethodSpec(Section):
    """A method and its options (after `resolve`, every option with its value).

    Attributes:
        implied: options that came later and stand at their default: no part of the address.
    """

    name: str
    options: dict[str, Any] = {}
    implied: tuple[str, ...] = Field(default=(), json_schema_extra={"later": True})

    @property
    def identity(self) -> dict[str, Any]:
        """Name and options, without what is implied."""
        options = {key: value for key, value in self.options.items() if key not in self.implied}
        return {"name": self.name, "options": options}

    def agrees_with(self, resolved: MethodSpec) -> bool:
        """The same method, and each option given here has the value that it has there, however
        that is written.
        """
        return self.name == resolved.name and all(
            key in resolved.options and _is_written(value, resolved.options[key])
            for key, value in self.options.items()
        )

    def __str__(self) -> str:
        options = ",".join(f"{key}={_plain(value)}" for key, value in self.options.items())
        return f"{self.name}:{options}" if options else self.name


class EncoderSpec(Section):
    """Encoder size by name, each number of it open to override."""

    size: Words = "tiny"
    depth: int | None = Field(default=None, ge=1, le=256)
    width: int | None = Field(default=None, ge=1, le=16_384)
    heads: int | None = Field(default=None, ge=1, le=256)
    frames: int | None = Field(default=None, ge=1, le=10_000)
    patch: int | None = Field(default=None, ge=1, le=10_000)

    @property
    def text(self) -> str:
        """``tiny``, or where numbers are given beside the size ``tiny (depth=1, frames=24)``."""
        given = self.model_dump(exclude={"size"}, exclude_none=True)
        numbers = ", ".join(f"{name}={value}" for name, value in given.items())
        return f"{self.size} ({numbers})" if numbers else self.size


class DataSpec(Section):
    """Which clips, labels and split, and how clips become batches.

    `name` is a registered data set or a path, or several of one skeleton, ``a+b+c``: pre-training
    sees their training sides together, by `sampling` each clip as often as any (``size``) or each
    set as often as any (``even``), and probes look at each apart; `split` and `label` are then for
    all, or one each with a + between.

    `fingerprint` is filled in when the data is read: that of the clips, and eight digits for
    classes and split (`harness.training.data.parts_hash`). `loader` is there to measure the
    published feeder's cost: ``workers`` makes batches sample by sample in that many processes,
    ``published`` does so with the operations of MAMP's released feeder
    (`datasets.published_feeder`).
    """

    name: Words = "synthetic"
    split: Words = ""
    label: Words = "label"
    validation: float = Field(default=0.2, ge=0, lt=1)
    drop_leaks: bool = False
    center: bool = True
    include_empty_bodies: bool = False
    loader: Literal["device", "workers", "published"] = "device"
    workers: int = Field(default=2, ge=1, le=256)
    crop: tuple[float, float] = (0.5, 1.0)
    min_crop: int = Field(default=64, ge=1, le=1_000_000)
    rotation: float = Field(default=0.3, ge=0, le=2 * math.pi)
    fingerprint: str = ""
    sampling: Literal["size", "even"] = Field(default="size", json_schema_extra={"later": True})

    @field_validator("loader")
    @classmethod
    def _whole_clips(cls, loader: str, info: ValidationInfo) -> str:
        if loader != "device" and not info.data.get("include_empty_bodies"):
            raise ValueError(
                "worker processes batch every body slot: set data.include_empty_bodies=true as well"
            )
        return loader

    @field_validator("crop")
    @classmethod
    def _ordered(cls, crop: tuple[float, float]) -> tuple[float, float]:
        if not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError("expected two shares with 0 < low <= high <= 1")
        return crop


class TrainSpec(Section):
    """Budget, optimiser, schedule and precision, held equal for every method of a run.

    The optimiser is AdamW; the schedule a linear warm-up over `warmup` of the budget, then a half
    cosine from `lr` to `lr * final_lr`, as in MAMP's released code (main_pretrain.py, config/).
    `precision`: ``tf32`` is fp32 whose matrix products round their inputs to TF32 on a GPU's tensor
    cores; ``bf16`` is autocast.

    `sdpa` is the order in which torch's fused attention kernels are asked on a GPU
    (`methods.parts.kernels`); its own differs between its versions. `attention_precision` ``fp32``
    leaves fused attention in float32 in a run in bf16: a CPU is faster so, a GPU slower. `compile`
    is for the batches' crop, resize and turn and for the loss; with `compile_scope` ``blocks`` of a
    loss only the transformer blocks, which all share one compilation of each shape.

    Off by default, and there to measure what MAMP's released step costs (engine_pretrain.py,
    util/misc.py): `scale_scores` multiplies attention's N x N scores by its scale, not the queries;
    `gradient_norm` computes and logs the norm of all gradients, parameter by parameter;
    `gradient_scaler` scales the loss and unscales the gradients on a GPU; `synchronise` reads the
    loss and waits for the device in every step.
    """

    budget: BudgetText = "60s"
    batch_size: int = Field(default=64, ge=2, le=1_000_000)
    lr: float = Field(default=1e-3, gt=0, le=100)
    final_lr: float = Field(default=0.5, ge=0, le=1)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0, le=1000)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.95,
    )
    clip_gradient: float | None = Field(default=None, gt=0, le=1e6)
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    fused_attention: bool = True
    fused_optimizer: bool = True
    compile: bool = False
    cuda_graphs: bool = False
    scale_scores: bool = Field(default=False, json_schema_extra={"later": True})
    gradient_norm: bool = Field(default=False, json_schema_extra={"later": True})
    gradient_scaler: bool = Field(default=False, json_schema_extra={"later": True})
    synchronise: bool = Field(default=False, json_schema_extra={"later": True})
    sdpa: Literal["default", "cudnn-first", "flash-first", "efficient-first"] = Field(
        default="default", json_schema_extra={"later": True}
    )
    attention_precision: Literal["run", "fp32"] = Field(
        default="run", json_schema_extra={"later": True}
    )
    compile_scope: Literal["loss", "blocks"] = Field(
        default="loss", json_schema_extra={"later": True}
    )

    @field_validator("sdpa")
    @classmethod
    def _fused_attention(cls, order: str, info: ValidationInfo) -> str:
        if order != "default" and not info.data.get("fused_attention"):
            raise ValueError(
                "plain attention has no kernels to choose from: set train.fused_attention=true as"
                " well"
            )
        return order

    @field_validator("attention_precision")
    @classmethod
    def _other_precision(cls, precision: str, info: ValidationInfo) -> str:
        if precision == "fp32" and not (
            info.data.get("fused_attention") and info.data.get("precision") == "bf16"
        ):
            raise ValueError(
                "for the fused kernel of a run in bf16, the only one that computes in another"
                " precision"
            )
        return precision

    @field_validator("compile_scope")
    @classmethod
    def _compiled_blocks(cls, scope: str, info: ValidationInfo) -> str:
        if scope == "blocks" and not info.data.get("compile"):
            raise ValueError("blocks are compiled with train.compile=true")
        if scope == "blocks" and info.data.get("cuda_graphs"):
            raise ValueError("a CUDA graph holds a whole loss: set train.cuda_graphs=false as well")
        return scope

    @field_validator("scale_scores")
    @classmethod
    def _plain_attention(cls, scale: bool, info: ValidationInfo) -> bool:
        if scale and info.data.get("fused_attention"):
            raise ValueError(
                "the fused kernel has no scores to scale: set train.fused_attention=false as well"
            )
        return scale

    @field_validator("cuda_graphs")
    @classmethod
    def _compiled(cls, graphs: bool, info: ValidationInfo) -> bool:
        if graphs and not info.data.get("compile"):
            raise ValueError("CUDA graphs come with train.compile=true")
        return graphs


class ProbeSpec(Section):
    """Frozen-feature probes: when during training, and how.

    Evaluations stand `points` times evenly over the budget, or, given `every` (such as
    ``2000clips``), at its multiples and at the end: at the same clips seen for every method, which
    time-to-target needs.
    """

    points: int = Field(default=3, ge=1, le=MOST_EVALUATIONS)
    every: str = Field(default="", description="nothing, or as a budget")
    regularisation: tuple[Annotated[float, Field(gt=0, le=1e9)], ...] = Field(
        default=(0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0), min_length=1, max_length=100
    )
    neighbours: int = Field(default=1, ge=1, le=10_000)

    @field_validator("every")
    @classmethod
    def _budget_or_nothing(cls, every: str) -> str:
        return every and check_budget(every)


class RunSpec(Section):
    """One cell of the matrix: one method, one seed."""

    method: MethodSpec
    encoder: EncoderSpec = EncoderSpec()
    data: DataSpec = DataSpec()
    train: TrainSpec = TrainSpec()
    probe: ProbeSpec = ProbeSpec()
    seed: Seed = 0
    device: str = "cpu"

    def with_train(self, **changes: Any) -> RunSpec:
        """The same spec, trained another way."""
        return self.model_copy(update={"train": self.train.model_copy(update=changes)})

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values of everything that makes this run another run than its neighbours (address
        rule 2).
        """
        return {**self.by_rule_1, "data": without_place(self.by_rule_1["data"])}

    @property
    def by_rule_1(self) -> dict[str, Any]:
        """The same by address rule 1: with the data's name,
        and only the fields that existed then where it can.
        """
        return {
            **without_later(RunSpec, self.model_dump(mode="json")),
            "method": self.method.identity,
        }

    @property
    def address(self) -> str:
        """Stable name of the run: method name, seed,
        the address rule and a hash of the `identity`.
        """
        return f"{self._row}-v{ADDRESS_RULE}-{digest(self.identity)}"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where a record of this run may lie: the address, and the one that rule 1 gave it."""
        return self.address, f"{self._row}-{digest(self.by_rule_1)}"

    @property
    def _row(self) -> str:
        return f"{self.method.name}-s{self.seed}"

    @property
    def held_equal(self) -> str:
        """Hash of everything but the method and the seed: rows of one table share it."""
        return _held_equal(self.identity)

    @property
    def held_equal_by_rule_1(self) -> str:
        """`held_equal` as frozen targets of version 1 name it, with the data's name in it."""
        return _held_equal(self.by_rule_1)


class _SeedList(Section):
    """The seeds of a command."""

    seeds: list[Seed] = Field(min_length=1, max_length=MOST_SEEDS)


def _held_equal(identity: dict[str, Any]) -> str:
    return digest({key: value for key, value in identity.items() if key not in ("method", "seed")})


SECTIONS: dict[str, type[Section]] = {
    "encoder": EncoderSpec,
    "data": DataSpec,
    "train": TrainSpec,
    "probe": ProbeSpec,
}
"""The parts of a spec that a user sets, by the name that ``--set`` gives them."""


def is_later(field: FieldInfo) -> bool:
    """The field came after the first release (``json_schema_extra={"later": True}``)."""
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("later"))


def without_later(model: type[BaseModel], plain: dict[str, Any]) -> dict[str, Any]:
    """Plain JSON values of a model without the fields that came later
    and stand at their default.
    """
    kept = dict(plain)
    for name, field in model.model_fields.items():
        if is_later(field) and kept.get(name, field.default) == _as_json(field.default):
            kept.pop(name, None)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            kept[name] = without_later(field.annotation, kept[name])
    return kept


def without_place(data: dict[str, Any]) -> dict[str, Any]:
    """A plain data section without its name or path: once read, data is what it holds,
    not where it lies.
    """
    return {key: value for key, value in data.items() if key != "name" or not data["fingerprint"]}


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def digest(value: object) -> str:
    """12 hex digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def parse_methods(text: str) -> list[MethodSpec]:
    """``gfp:lambda_pred=5,cov_weight=1,skeletonmae`` to method specs (`parse_specs`)."""
    return parse_specs(text, "--methods", "gfp,skeletonmae")


def parse_specs(text: str, flag: str, example: str) -> list[MethodSpec]:
    """Names with options, separated by commas, as a flag gives them.

    A piece with ``=`` and no ``:`` continues the options of the name before it.
    """
    if not is_utf8(text):
        raise UsageError(f"{flag} {shortened(repr(text))}: expected text in UTF-8")
    what, specs = flag.strip("-").removesuffix("s"), list[MethodSpec]()
    for piece in filter(None, (part.strip() for part in text.split(","))):
        name, _, option = piece.partition(":")
        if re.search(r"[\s;|]", name.strip()):
            raise UsageError(
                f"{flag} {shortened(repr(text))}: expected commas between {what}s, found {name!r}"
            )
        if not option and "=" in name:
            if not specs:
                raise UsageError(
                    f"{flag} {text!r}: an option stands before any {what}; write name:option=value"
                )
            name, option = specs[-1].name, piece
            options = specs.pop().options
        else:
            options = {}
        specs.append(
            MethodSpec(
                name=name.strip(), options={**options, **_parse_option(option, f"{flag} {text!r}")}
            )
        )
    if not specs:
        raise UsageError(f"{flag}: expected at least one {what}, e.g. {flag} {example}")
    return list({str(spec): spec for spec in specs}.values())


def read_spec(text: str) -> MethodSpec:
    """A method as `str` writes it, its options as texts; a `UsageError` for text that is not
    UTF-8. What is nothing of that kind has a name that no method has.
    """
    if not is_utf8(text):
        raise UsageError(f"{shortened(repr(text))}: expected text in UTF-8")
    name, _, options = text.partition(":")
    pairs = (option.partition("=") for option in options.split(",") if option)
    return MethodSpec(
        name=name.strip(), options={key.strip(): value.strip() for key, _, value in pairs}
    )


def row_named(asked: str, rows: Iterable[tuple[str, MethodSpec]]) -> str | None:
    """The label of the row that a text names, however its options are written:
    ``mamp:decoder_depth=5`` is ``mamp`` where 5 is the default. None where no row is that one.

    Args:
        rows: their labels, which show what differs from the defaults, and methods, resolved.
    """
    rows = list(rows)
    if any(asked == label for label, _ in rows):
        return asked
    wanted = read_spec(asked)
    for label, method in rows:
        shown = read_spec(label)
        if (
            shown.name == wanted.name
            and shown.options.keys() <= wanted.options.keys()
            and wanted.agrees_with(method)
        ):
            return label
    return None


def _parse_option(option: str, where: str) -> dict[str, str]:
    if not option:
        return {}
    key, equals, value = option.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise UsageError(f"{where}: expected option=value, found {option!r}")
    return {key.strip(): value.strip()}


def parse_seeds(text: str) -> list[int]:
    """``0-2,7`` to ``[0, 1, 2, 7]``."""
    seeds: list[int] = []
    where = f"--seeds {shortened(repr(text))}"
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        try:
            if not first.isdecimal() or (dash and not last.isdecimal()):
                raise ValueError
            low, high = int(first), int(last or first)  # of 4,300 digits at most
        except ValueError:
            raise UsageError(f"{where}: expected numbers and ranges such as 0 or 0-2,7") from None
        if high < low:
            raise UsageError(
                f"{where}: expected the lower end of a range first, found {low}-{high}; write"
                f" {high}-{low}"
            )
        if high - low >= MOST_SEEDS:
            raise UsageError(
                f"{where}: expected at most {MOST_SEEDS:,} seeds, found {high - low + 1:,}"
            )
        seeds.extend(range(low, high + 1))
    return check_seeds(seeds, where)


def check_seeds(seeds: list[int], where: str = "seeds") -> list[int]:
    """The seeds of a command, each once; a `UsageError` for none, for too many,
    or for one that no generator takes.
    """
    return list(dict.fromkeys(build(_SeedList, {"seeds": seeds}, where).seeds))


def parse_shard(text: str) -> tuple[int, int]:
    """``2/8`` to ``(2, 8)``: the second of eight parts."""
    first, slash, of = text.partition("/")
    if not (slash and first.isdecimal() and of.isdecimal() and 1 <= int(first) <= int(of)):
        raise UsageError(f"--shard {text!r}: expected i/n with 1 <= i <= n, e.g. 2/8")
    return int(first), int(of)


def build(model: type[Model], values: dict[str, Any], where: str) -> Model:
    """Validate ``values`` as ``model``; every problem becomes a one-line `UsageError`
    with the nearest name.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{where}: {validation_message(error, model)}") from None


def validation_message(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a validation error in one line."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        names = _fields_at(model, path[:-1])
        return (
            f"unknown option {'.'.join(path)!r}{nearest(path[-1], names)} (options:"
            f" {', '.join(names)})"
        )
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_unicode":  # a path as the command line gave it
        message = f"expected text in UTF-8; {_IN_UTF8}"
    return f"{'.'.join(path)}: {message}, found {shortened(repr(first['input']))}"


def _fields_at(model: type[BaseModel], path: Iterable[str]) -> list[str]:
    for part in path:
        inner = model.model_fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def _is_written(text: object, value: object) -> bool:
    """Whether a text stands for a value: ``0.50`` and ``5e-1`` for 0.5."""
    if text == value or text == _plain(value):
        return True
    with contextlib.suppress(ValidationError):
        return bool(TypeAdapter(type(value)).validate_python(text) == value)
    return False


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return "/".join(map(_plain, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
