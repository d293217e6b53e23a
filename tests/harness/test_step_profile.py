"""The profile of MAMP's step: which runs stand beside the released loop,
and how operators are grouped.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest

from harness.machine import ROOT
from harness.spec.model import DataSpec, RunSpec
from tests.harness.small_run import CPU

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location(
            "step_profile", BENCHMARKS / "step_profile.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def test_runs_differ_from_the_last_one_only_in_what_their_names_say(script: ModuleType) -> None:
    specs: dict[str, RunSpec] = script.shown(script.stage_spec(5, 2, 1, CPU))
    last = specs["compiled and attention in fp32"].train.model_dump()
    found = {
        name: {key: value for key, value in spec.train.model_dump().items() if value != last[key]}
        for name, spec in specs.items()
    }
    plain = found.pop("present bodies only")
    assert {"fused_attention", "gradient_norm", "precision", "compile"} <= plain.keys()
    uncompiled, bf16 = {"compile": False}, {"attention_precision": "run"}
    assert found == {
        "every switch but bf16, uncompiled": {**uncompiled, **bf16, "precision": "fp32"},
        "every switch, uncompiled": {**uncompiled, **bf16},
        "and attention in fp32": uncompiled,
        "every switch, compiled": bf16,
        "compiled and attention in fp32": {},
    }
    assert {spec.data for spec in specs.values()} == {DataSpec(validation=0.0, workers=1)}


@pytest.mark.parametrize(
    ("operator", "group"),
    [
        ("aten::addmm", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "fused attention"),
        ("aten::_softmax_backward_data", "softmax"),
        ("aten::native_layer_norm", "layer norm"),
        ("aten::copy_", "copies and casts"),
        ("aten::_fused_adamw_", "optimiser"),
        ("aten::mul", "pointwise and other operators"),
    ],
)
def test_an_operator_has_one_group(script: ModuleType, operator: str, group: str) -> None:
    assert script.group_of(operator) == group
