"""Inductor's kernels of the steps that are lowered here: how they are counted, and that ours are fewer."""

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch.fx.experimental.proxy_tensor import make_fx

from keras_triton.bench import blocks, compiler, inductor
from keras_triton.explanation import capture_example


@pytest.fixture(autouse=True)
def loop_op():
    inductor.define_loop()


def test_loop_nests_functions_and_calls_are_counted():
    def fn(x, w):
        return (x @ w).relu().sum(0), x.exp()

    graph = make_fx(fn, tracing_mode="fake")(torch.ones(6, 5), torch.ones(5, 4))
    kernels, functions, calls = inductor.count(graph)
    assert calls == 1  # the product
    assert 2 <= kernels <= 3  # what is folded, and what is not
    assert 1 <= functions <= kernels


def test_a_loop_counts_as_often_as_it_runs():
    def counted(length):
        inputs = keras.Input((length, 3))
        model = keras.Model(inputs, layers.SimpleRNN(4)(inputs))
        data = np.zeros((2, length, 3), "float32")
        return inductor.count(capture_example(model, data).graph)

    few, many = counted(4), counted(9)
    each = (many[0] - few[0]) / 5
    assert each == int(each) >= 1
    assert many[2] - few[2] == 5  # the recurrent product


def test_no_model_has_more_generated_kernels_than_inductor_makes():
    known = {row.model: row.kernels for row in inductor.read()}
    assert set(known) == set(blocks.MODELS)
    more = [row for row in compiler.read() if row.generated > known[row.model]]
    assert not more


def test_kept_counts_are_shown(capsys):
    assert inductor.main(["--kept"]) == 0
    assert "Generated kernels and calls" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        inductor.main(["unheard_of"])
    assert "no model is called 'unheard_of'" in capsys.readouterr().err
