"""Specs: the grammar of methods and seeds, unknown keys, and the address."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from harness.errors import UsageError
from harness.registry import Registry
from harness.runs.protocols import Protocols
from harness.spec.model import (
    SECTIONS,
    DataSpec,
    EncoderSpec,
    MethodSpec,
    ProbeSpec,
    RunSpec,
    Section,
    TrainSpec,
    build,
    check_seeds,
    digest,
    parse_methods,
    parse_seeds,
    without_later,
)

ROOT = Path(__file__).parents[2]


def spec(**changes: Any) -> RunSpec:
    return RunSpec(
        **{"method": MethodSpec(name="gfp", options={"tau": 0.8, "cov_weight": 1.0}), **changes}
    )


# --- encoders ---


def test_an_encoder_is_its_size_and_the_numbers_beside_it() -> None:
    assert EncoderSpec().text == "tiny"
    assert EncoderSpec(size="base", depth=1, frames=24).text == "base (depth=1, frames=24)"


# --- methods ---


def test_methods_are_separated_by_commas_and_keep_their_order() -> None:
    assert [method.name for method in parse_methods("gfp, skeletonmae,mamp")] == [
        "gfp",
        "skeletonmae",
        "mamp",
    ]


def test_options_follow_a_colon_and_go_on_after_commas() -> None:
    assert parse_methods("gfp:lambda_pred=5,cov_weight=1,skeletonmae:decoder_depth=3") == [
        MethodSpec(name="gfp", options={"lambda_pred": "5", "cov_weight": "1"}),
        MethodSpec(name="skeletonmae", options={"decoder_depth": "3"}),
    ]


def test_an_option_belongs_to_the_method_before_it() -> None:
    first, second = parse_methods("skeletonmae,gfp:tau=0.5,mask_ratio=0.8")
    assert (first.options, second.options) == ({}, {"tau": "0.5", "mask_ratio": "0.8"})


def test_a_value_may_hold_slashes_and_equal_signs() -> None:
    assert parse_methods("gfp:windows=6/3/1,note=a=b")[0].options == {
        "windows": "6/3/1",
        "note": "a=b",
    }


def test_the_same_method_twice_is_one_row_and_with_other_options_two() -> None:
    assert [str(method) for method in parse_methods("gfp,gfp:tau=1,gfp,gfp:tau=1")] == [
        "gfp",
        "gfp:tau=1",
    ]


def test_the_later_of_two_values_of_an_option_counts() -> None:
    assert parse_methods("gfp:tau=1,tau=2")[0].options == {"tau": "2"}


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_no_method_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="expected at least one method"):
        parse_methods(text)


def test_an_option_before_any_method_is_an_error() -> None:
    with pytest.raises(UsageError, match="an option stands before any method"):
        parse_methods("tau=1,gfp")


@pytest.mark.parametrize("text", ["gfp:tau", "gfp:tau=", "gfp:=1", "gfp:tau=1,cov_weight="])
def test_an_option_needs_a_name_and_a_value(text: str) -> None:
    with pytest.raises(UsageError, match="expected option=value"):
        parse_methods(text)


def test_a_method_prints_as_it_is_typed() -> None:
    text = "gfp:windows=6/3/1,tau=0.5"
    assert str(parse_methods(text)[0]) == text
    assert str(MethodSpec(name="gfp", options={"windows": (6, 3, 1), "tau": 0.5})) == text


# --- seeds ---


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0", [0]),
        ("0-2", [0, 1, 2]),
        ("0-2,7", [0, 1, 2, 7]),
        (" 3 , 1 ", [3, 1]),
        ("1,0-2", [1, 0, 2]),
    ],
)
def test_seeds_are_numbers_and_ranges_each_once(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "-1", "1-", "0-b", "1.5", "0,,1", "3-1"])
def test_bad_seeds_are_one_line(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_seeds(text)
    assert str(error.value).startswith(f"--seeds {text!r}: ")
    assert "\n" not in str(error.value)


def test_a_digit_that_is_no_decimal_is_a_bad_seed() -> None:
    with pytest.raises(UsageError):
        parse_seeds("²")


@pytest.mark.parametrize("seeds", [[], [-1], [2**63], [0.5], list(range(1001))])
def test_seeds_from_python_have_the_same_limits(seeds: list[Any]) -> None:
    with pytest.raises(UsageError, match=r"^seeds: "):
        check_seeds(seeds)


# --- limits ---


def numbers(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All numbers of a JSON schema, by where they stand."""
    inner = [
        *schema.get("anyOf", []),
        *schema.get("prefixItems", []),
        *([schema["items"]] if "items" in schema else []),
    ]
    if schema.get("type") in ("integer", "number"):
        yield path, schema
    for part in inner:
        yield from numbers(part, path)
    for name, part in schema.get("properties", {}).items():
        yield from numbers(part, f"{path}.{name}")


CHECKED_OTHERWISE = ("data.crop", "amr.windows", "gfp.windows")
"""Against each other, or against the encoder's time steps."""


def test_every_number_has_limits() -> None:
    models: dict[str, type[BaseModel]] = {**SECTIONS}
    models |= {name: method.Options for name, method in Registry().methods.items()}
    models |= {
        f"protocol {name}": protocol.Options for name, protocol in Protocols().protocols.items()
    }
    found = [
        place
        for name, model in models.items()
        for place in numbers(model.model_json_schema(), name)
    ]
    assert len(found) > 40
    for path, schema in found:
        limited = {"minimum", "exclusiveMinimum"} & schema.keys() and {
            "maximum",
            "exclusiveMaximum",
        } & schema.keys()
        assert limited or path in CHECKED_OTHERWISE, path


# --- sections ---


@pytest.mark.parametrize(
    ("model", "key", "close"),
    [
        (EncoderSpec, "detph", "depth"),
        (DataSpec, "rotatoin", "rotation"),
        (TrainSpec, "batchsize", "batch_size"),
        (ProbeSpec, "neighbors", "neighbours"),
    ],
)
def test_an_unknown_key_names_the_nearest_and_all(
    model: type[Section], key: str, close: str
) -> None:
    with pytest.raises(UsageError) as error:
        build(model, {key: 1}, "here")
    message = str(error.value)
    assert message.startswith(f"here: unknown option {key!r}, did you mean {close!r}?")
    assert all(name in message for name in model.model_fields)
    assert "\n" not in message


def test_an_unknown_key_of_a_part_of_a_spec_is_named_with_its_path() -> None:
    with pytest.raises(
        UsageError, match=r"unknown option 'train\.warmpu', did you mean 'warmup'\?"
    ) as error:
        build(RunSpec, {"method": {"name": "gfp"}, "train": {"warmpu": 1}}, "spec")
    assert "weight_decay" in str(error.value)


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        (TrainSpec, "lr", 0),
        (TrainSpec, "batch_size", 1),
        (TrainSpec, "precision", "fp8"),
        (TrainSpec, "warmup", 1.0),
        (EncoderSpec, "depth", 0),
        (DataSpec, "validation", 1.0),
        (DataSpec, "crop", [0.5]),
        (ProbeSpec, "points", 0),
        (ProbeSpec, "neighbours", "two"),
        (ProbeSpec, "regularisation", []),
        (ProbeSpec, "regularisation", [0.0]),
    ],
)
def test_an_impossible_value_is_one_line_with_the_key_and_what_was_found(
    model: type[Section], key: str, value: object
) -> None:
    with pytest.raises(UsageError) as error:
        build(model, {key: value}, "here")
    message = str(error.value)
    assert message.startswith(f"here: {key}")
    assert "found " in message
    assert "\n" not in message


SECTIONS_AND_OPTIONS = [
    EncoderSpec,
    DataSpec,
    TrainSpec,
    ProbeSpec,
    *(method.Options for method in Registry().methods.values()),
]


@pytest.mark.parametrize("value", ["nan", "1e400", "-inf", math.nan, math.inf])
@pytest.mark.parametrize("model", SECTIONS_AND_OPTIONS, ids=lambda model: model.__name__)
def test_a_number_that_is_not_finite_is_refused_everywhere(
    model: type[BaseModel], value: object
) -> None:
    for name, field in model.model_fields.items():
        kind = str(field.annotation)
        if "float" in kind and "Literal" not in kind:
            with pytest.raises(
                UsageError, match=f"^here: {name}.*(finite number|greater than|less than)"
            ):
                build(model, {name: [value, value] if "tuple" in kind else value}, "here")


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (DataSpec, {"loader": "workers"}, "loader: .*set data.include_empty_bodies=true as well"),
        (
            DataSpec,
            {"loader": "workers", "include_empty_bodies": False},
            "loader: .*include_empty_bodies=true",
        ),
        (TrainSpec, {"cuda_graphs": True}, "cuda_graphs: .*come with train.compile=true"),
        (TrainSpec, {"cuda_graphs": True, "compile": False}, "cuda_graphs: .*train.compile=true"),
        (
            TrainSpec,
            {"sdpa": "cudnn-first", "fused_attention": False},
            "sdpa: .*train.fused_attention=true",
        ),
        (TrainSpec, {"sdpa": "cudnn"}, "sdpa: .*'cudnn-first'"),
        (
            TrainSpec,
            {"attention_precision": "fp32"},
            "attention_precision: for the fused kernel of a run in bf16",
        ),
        (TrainSpec, {"compile_scope": "blocks"}, "compile_scope: .*train.compile=true"),
        (
            TrainSpec,
            {"compile": True, "cuda_graphs": True, "compile_scope": "blocks"},
            "compile_scope: .*train.cuda_graphs=false",
        ),
    ],
)
def test_a_switch_that_needs_another_says_so(
    model: type[Section], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build(model, values, "here")


def test_switches_come_with_what_they_need() -> None:
    data = build(DataSpec, {"loader": "workers", "include_empty_bodies": True}, "here")
    assert (data.loader, data.include_empty_bodies) == ("workers", True)
    train = build(TrainSpec, {"cuda_graphs": True, "compile": True}, "here")
    assert train.cuda_graphs
    assert not build(TrainSpec, {"compile": True}, "here").cuda_graphs
    assert build(DataSpec, {"include_empty_bodies": True}, "here").loader == "device"


def test_specs_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        spec().seed = 1


# --- address ---


def test_the_address_does_not_depend_on_the_order_of_options() -> None:
    turned = MethodSpec(name="gfp", options={"cov_weight": 1.0, "tau": 0.8})
    assert spec(method=turned).address == spec().address


def test_the_address_is_the_same_in_another_process() -> None:
    code = (
        "from harness.spec.model import *;print(RunSpec(method=MethodSpec(name='gfp',"
        " options={'cov_weight': 1.0, 'tau': 0.8})).address)"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(
        command, cwd=ROOT, env={"PYTHONHASHSEED": "1"}, check=True, capture_output=True, text=True
    )
    assert run.stdout.strip() == spec().address


# Another valid value for every field of every part of a spec.
CHANGES: dict[str, dict[str, Any]] = {
    "method": {"name": "mamp", "options": {"tau": 0.9}},
    "encoder": {"size": "base", "depth": 3, "width": 16, "heads": 2, "frames": 60, "patch": 3},
    "data": {
        "name": "other",
        "split": "xview",
        "label": "label,correct",
        "validation": 0.3,
        "drop_leaks": True,
        "center": False,
        "crop": (0.6, 1.0),
        "min_crop": 32,
        "rotation": 0.2,
        "include_empty_bodies": True,
        "sampling": "even",
        "loader": "workers",
        "workers": 3,
        "fingerprint": "f00",
    },
    "train": {
        "budget": "61s",
        "batch_size": 65,
        "lr": 0.002,
        "final_lr": 0.4,
        "warmup": 0.06,
        "weight_decay": 0.06,
        "betas": (0.9, 0.96),
        "clip_gradient": 1.0,
        "precision": "bf16",
        "fused_attention": False,
        "fused_optimizer": False,
        "compile": True,
        "cuda_graphs": True,
        "scale_scores": True,
        "gradient_norm": True,
        "gradient_scaler": True,
        "synchronise": True,
        "sdpa": "cudnn-first",
        "attention_precision": "fp32",
        "compile_scope": "blocks",
    },
    "probe": {"points": 4, "every": "5clips", "regularisation": (1.0,), "neighbours": 5},
}


@pytest.mark.parametrize(
    ("part", "field"), [(part, field) for part, fields in CHANGES.items() for field in fields]
)
def test_the_address_changes_with_every_field(part: str, field: str) -> None:
    section = getattr(spec(), part)
    changed = section.model_copy(update={field: CHANGES[part][field]})
    assert changed != section
    assert spec(**{part: changed}).address != spec().address


def test_the_address_changes_with_seed_and_device() -> None:
    assert len({spec().address, spec(seed=1).address, spec(device="cuda").address}) == 3


def test_no_field_is_missing_from_the_list_of_changes() -> None:
    parts = {name: set(type(getattr(spec(), name)).model_fields) for name in CHANGES}
    assert {name: set(fields) for name, fields in CHANGES.items()} == {
        **parts,
        "method": {"name", "options"},
    }
    assert set(CHANGES) | {"seed", "device"} == set(RunSpec.model_fields)


# --- addresses that last ---


def read(name: str) -> RunSpec:
    """A spec whose data was read from that place."""
    return spec(data=DataSpec(name=name, fingerprint="f00", split="xsub"))


def test_data_is_what_it_holds_not_where_it_lies() -> None:
    assert read("here.npz").address == read("there/it/is.npz").address
    assert read("here.npz").held_equal == read("there/it/is.npz").held_equal
    assert read("here.npz").addresses[1] != read("there/it/is.npz").addresses[1]  # rule 1


def test_addresses_of_the_first_release_stay_what_they_are() -> None:
    """The two addresses were made by the release that began rule 2 and, the second,
    by the one before it.
    """
    address, by_rule_1 = read("here.npz").addresses
    assert (address, by_rule_1) == ("gfp-s0-v2-32f6961344fd", "gfp-s0-5cdd76744884")


class Grown(TrainSpec):
    """Training settings of a later release."""

    averaging: float = Field(default=0.0, json_schema_extra={"later": True})
    halves: tuple[int, ...] = Field(default=(1, 2), json_schema_extra={"later": True})


def test_a_setting_that_came_later_is_left_out_at_its_default() -> None:
    grown = Grown().model_dump(mode="json")
    assert grown["halves"] == [1, 2]
    assert without_later(Grown, grown) == without_later(
        TrainSpec, TrainSpec().model_dump(mode="json")
    )
    assert without_later(Grown, grown | {"averaging": 0.5})["averaging"] == 0.5


def test_an_option_that_came_later_is_left_out_where_it_is_implied() -> None:
    before = MethodSpec(name="gfp", options={"tau": 0.8})
    after = MethodSpec(name="gfp", options={"tau": 0.8, "new": "default"}, implied=("new",))
    assert spec(method=after).addresses == spec(method=before).addresses
    assert (
        spec(method=after.model_copy(update={"implied": ()})).address != spec(method=before).address
    )


def test_the_address_is_safe_as_a_file_name() -> None:
    address = spec(
        method=MethodSpec(name="gfp", options={"windows": "6/3/1", "note": "ü ../.. * \n"})
    ).address
    assert re.fullmatch(r"[A-Za-z0-9._-]+", address)
    assert address.startswith("gfp-s0-")


def test_runs_that_differ_in_method_and_seed_only_are_held_equal() -> None:
    other = spec(method=MethodSpec(name="mamp"), seed=5)
    assert other.held_equal == spec().held_equal
    assert spec(train=TrainSpec(lr=0.1)).held_equal != spec().held_equal


def test_a_digest_is_twelve_digits_of_the_sha256_of_canonical_json() -> None:
    # printf '{"a": 1, "b": [2]}' | sha256sum
    assert digest({"b": [2], "a": 1}) == "ae8a9a505246"
