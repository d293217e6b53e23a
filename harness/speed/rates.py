"""FLOP/s that training reaches on a device that is not here: as given, or as speed records of such
devices show.

A device is known by the FLOP/s of a large matrix product (`harness.speed.peak`). Training reaches a
share of it that depends on encoder size and precision; the records hold both numbers, so the share
is measured and its range is known.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets.wording import counted
from harness import ROOT
from harness.errors import UsageError, first_few, nearest
from harness.records.ratios import MOSTLY_DISTURBED
from harness.records.schema import DeviceClass, SpeedRecord
from harness.records.store import records_below
from harness.spec.model import EncoderSpec, TrainSpec

RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class OwnRate:
    """What one method's steps reached.

    Attributes:
        flops: model FLOP/s.
        launching: seconds of a step that the host took to launch kernels, where the device waited
            for it: a smaller batch takes no less; 0 elsewhere.
    """

    flops: float
    launching: float


@dataclass(frozen=True)
class Rate:
    """Model FLOP/s of training.

    Attributes:
        device: that reaches it.
        value: expected.
        low: slow end of what the source leaves open; 0 where nothing bounds it.
        high: fast end.
        source: where it comes from.
        own: of methods that ran on the device, by their labels.
    """

    device: str
    value: float
    low: float
    high: float
    source: str
    own: Mapping[str, OwnRate] = field(default_factory=dict)


@dataclass(frozen=True)
class Reached:
    """What one method's training step reached in one record.

    Attributes:
        flops: model FLOPs of the step over its time.
        matmul: FLOP/s of a large matrix product on the same device in the same precision; None
            where not measured.
        launching: seconds of the step, where the device waited for the host; 0 elsewhere.
    """

    label: str
    device: str
    device_class: DeviceClass
    threads: int
    precision: str
    encoder: str
    compiled: bool
    flops: float
    matmul: float | None
    record: str
    launching: float = 0.0

    @property
    def share(self) -> float | None:
        """Of the matmul rate."""
        return self.flops / self.matmul if self.matmul else None


def parse_rate(text: str, flag: str) -> float:
    """FLOP/s of ``2e13`` or ``2e13flops``; `UsageError` for anything else."""
    match = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(?:flops?(?:/s)?)?\s*", text.lower())
    try:
        value = float(match[1]) if match else 0.0
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{flag} {text!r}: expected FLOP/s, positive and finite, e.g. 2e13flops")
    return value


def given_rate(text: str) -> Rate:
    """``--rate``: what training reaches, taken as it is."""
    value = parse_rate(text, "--rate")
    return Rate(
        f"a device at {value:.3g} FLOP/s",
        value,
        value,
        value,
        f"FLOPs of the step at {value:.3g} FLOP/s, as given by --rate",
    )


@dataclass(frozen=True)
class Way:
    """How the planned runs train: records count in their precision, and of their encoder size if
    there are any.

    Attributes:
        encoder: name of the size.
    """

    encoder: str
    precision: str
    compiled: bool

    @classmethod
    def of(cls, encoder: EncoderSpec, train: TrainSpec) -> Way:
        """As the settings have it."""
        return cls(encoder.size, train.precision, train.compile)


def rate_of_device(
    text: str, reached: Sequence[Reached], way: Way, device_class: DeviceClass
) -> Rate:
    """``--device-rate NAME=FLOPS``, a matmul rate, or ``NAME``, a device of the records.

    Args:
        reached: what the records hold.
        device_class: of the device that is not among the records.
    """
    name, equals, flops = (part.strip() for part in text.partition("="))
    if not name:
        raise UsageError(
            f"--device-rate {text!r}: expected NAME=FLOPS, or the NAME of a device in the records"
        )
    if equals:
        return _rate_of_unknown(
            name, parse_rate(flops, f"--device-rate {name}="), reached, way, device_class
        )
    return _rate_of_known(name, reached, way)


def _rate_of_known(name: str, reached: Sequence[Reached], way: Way) -> Rate:
    """What methods reached on a device of the records; `UsageError` where none is called so."""
    known = list(dict.fromkeys(one.device for one in reached))
    exact = [device for device in known if device.casefold() == name.casefold()]
    found = exact or [device for device in known if name.casefold() in device.casefold()]
    if len(found) != 1:
        problem = (
            f"{len(found)} devices of that name"
            if found
            else f"none of that name{nearest(name, known)}"
        )
        devices = first_few(known, 5) or "there is none"
        raise UsageError(
            f"--device-rate {name!r}: expected a device of the records ({devices}), found "
            f"{problem}; or give the FLOP/s of a matrix product on it: NAME=FLOPS"
        )
    own = [one for one in reached if one.device == found[0]]
    alike = _closest([one for one in own if one.precision == way.precision], way)
    if not alike:
        precisions = ", ".join(sorted({one.precision for one in own}))
        raise UsageError(
            f"--device-rate {name!r}: expected a record in {way.precision}, found {precisions}"
            " only; give its matmul rate: NAME=FLOPS"
        )
    rates = [one.flops for one in alike]
    shares = [one.share for one in alike if one.share]
    of_matmul = f", {_span(shares)} of its matmul rate" if shares else ""
    threads = "/".join(map(str, sorted({one.threads for one in alike})))
    value = statistics.median(rates)
    return Rate(
        found[0],
        value,
        min(rates),
        max(rates),
        f"FLOPs of the step at {value:.3g} FLOP/s, the median of what methods reached on {found[0]}"
        f" with {threads} threads ({min(rates):.3g} to {max(rates):.3g}{of_matmul};"
        f" {_what(alike)})",
        _own_rates(alike),
    )


def _own_rates(alike: Sequence[Reached]) -> dict[str, OwnRate]:
    """Of each label the median over its steps, and the longest time of launching kernels."""
    labels = dict.fromkeys(one.label for one in alike)
    steps = {label: [one for one in alike if one.label == label] for label in labels}
    return {
        label: OwnRate(
            statistics.median(one.flops for one in own), max(one.launching for one in own)
        )
        for label, own in steps.items()
    }


def _rate_of_unknown(
    name: str, matmul: float, reached: Sequence[Reached], way: Way, device_class: DeviceClass
) -> Rate:
    """A share of a matmul rate, as methods reach it on devices of that class."""
    shared = [one for one in reached if one.share and one.precision == way.precision]
    alike = _closest([one for one in shared if one.device_class == device_class], way)
    kind = {"gpu": "GPU", "cpu": "CPU"}[device_class]
    if not alike:
        others = [one.share for one in shared if one.share]
        elsewhere = f"; other devices reach {_span(others)} of theirs" if others else ""
        return Rate(
            name,
            matmul,
            0.0,
            matmul,
            f"at least: FLOPs of the step at the whole matmul rate of {name}, {matmul:.3g} FLOP/s,"
            f" which no training reaches; no record says what share one does on a {kind} in"
            f" {way.precision}{elsewhere}",
        )
    shares = [one.share for one in alike if one.share]
    middle = statistics.median(shares)
    return Rate(
        name,
        matmul * middle,
        matmul * min(shares),
        matmul * max(shares),
        f"FLOPs of the step at {matmul * middle:.3g} FLOP/s, {middle:.2f} of the matmul rate of"
        f" {name} ({matmul:.3g} FLOP/s): the median of what methods reach on a {kind},"
        f" {_span(shares)} ({_what(alike)})",
    )


def _closest(found: Sequence[Reached], way: Way) -> list[Reached]:
    """Those of the same encoder size, and compiled or not as the run is, where there are any."""
    same_size = [one for one in found if one.encoder == way.encoder] or list(found)
    return [one for one in same_size if one.compiled == way.compiled] or same_size


def _span(values: Sequence[float]) -> str:
    """``0.41 to 0.56``."""
    return f"{min(values):.2f} to {max(values):.2f}"


def _what(alike: Sequence[Reached]) -> str:
    """How many steps of which kind a figure rests on."""
    sizes, precisions = (
        "/".join(sorted({getattr(one, key) for one in alike})) for key in ("encoder", "precision")
    )
    steps, records = (
        counted(len(alike), "step time"),
        counted(len({one.record for one in alike}), "record"),
    )
    return f"{steps} in {records}, {sizes} encoder, {precisions}"


def all_reached(folders: Iterable[Path]) -> list[Reached]:
    """What methods reached, from every plain speed record below some folders;
    records that are refused are left out.
    """
    return [
        one
        for place, record in records_below(folders, SpeedRecord)
        for one in _reached_in(record, place)
    ]


def _reached_in(record: SpeedRecord, place: Path) -> Iterator[Reached]:
    if record.stages or record.environment.ranks > 1:
        return
    if record.health and record.health.disturbed_share > MOSTLY_DISTURBED:
        return
    environment, train = record.environment, record.spec["train"]
    for arm in record.arms:
        if arm.step_flops and not arm.control and arm.division == "closed":
            yield Reached(
                label=arm.label,
                device=(
                    environment.processor
                    if environment.device_class == "cpu"
                    else environment.device
                ),
                device_class=environment.device_class,
                threads=environment.threads,
                precision=train["precision"],
                encoder=record.spec["encoder"]["size"],
                compiled=bool(train.get("compile")),
                flops=arm.step_flops / arm.step_seconds,
                matmul=record.matmul_flops,
                record=str(place),
                launching=arm.step_seconds if arm.launch_bound else 0.0,
            )
