"""Kernels of the compiler through the tuner, in Triton's interpreter and with given times."""

import torch

from keras_triton.autotune import tuner
from keras_triton.autotune.search import Random
from keras_triton.kernels.device import H200
from keras_triton.lowering import mlir
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.plan_reader import read_plan
from keras_triton.targets import tuning

CPU = torch.device("cpu")
SOFTMAX = """module attributes {keras.stage = "keras"} {
  func.func @main(%x: tensor<6x33xf32> {keras.name = "x"}, %b: tensor<33xf32> {keras.name = "b"}) -> tensor<6x33xf32> {
    %0 = "keras.softmax"(%x) : (tensor<6x33xf32>) -> tensor<6x33xf32>
    %1 = "keras.mul"(%0, %b) : (tensor<6x33xf32>, tensor<33xf32>) -> tensor<6x33xf32>
    return %1 : tensor<6x33xf32>
  }
}"""  # noqa: E501


def kernels(decompose):
    plan = read_plan(lower(mlir.parse(SOFTMAX), decompose=decompose))
    return plan, list(plan.kernels.values())


def tune(function, monkeypatch, seconds):
    monkeypatch.setattr(tuner.measure, "seconds", lambda run, device: seconds.pop())
    made = tuning.candidate(function, H200, CPU, interpret=True)
    seen = []
    best = tuner.tune(made, Random(trials=3), 60.0, CPU, lambda trial, best: seen.append(trial))
    return made, best, seen


def test_loops_and_templates_are_tuned_and_checked(monkeypatch):
    for decompose in (True, False):
        plan, functions = kernels(decompose)
        for function in functions:
            made, best, seen = tune(function, monkeypatch, [1.0, 3.0, 2.0])
            assert [trial.error for trial in seen] == [""] * len(seen)
            assert seen[0].config == made.guess
            assert best.seconds == min(trial.seconds for trial in seen)
            assert made.allows(best.config)
        del plan


def test_a_configuration_of_another_space_is_not_allowed():
    plan, (function, *_) = kernels(True)
    made = tuning.candidate(function, H200, CPU, interpret=True)
    assert not made.allows({"tile": 64})
    assert not made.allows({**made.guess, "num_warps": 3})
    del plan


def test_a_wrong_result_is_seen(monkeypatch):
    plan, (function, *_) = kernels(True)
    monkeypatch.setattr(tuning, "_close", lambda got, want: False)
    _, best, seen = tune(function, monkeypatch, [1.0, 1.0, 1.0])
    assert best is None
    assert {trial.error for trial in seen} == {"wrong result"}
    del plan


def test_the_key_follows_kernel_and_device():
    plan, (function, *_) = kernels(True)
    key = tuning.candidate(function, H200, CPU).key
    assert (key.kernel, key.device) == ("loop", "NVIDIA H200")
    other_plan, (other, *_) = kernels(False)
    assert tuning.candidate(other, H200, CPU).key != key
    del plan, other_plan
