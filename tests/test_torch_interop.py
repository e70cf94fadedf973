"""Keras in torch and torch in Keras: one graph, compiled or not, gradients through both."""

import copy

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops

import keras_triton

F = torch.nn.functional
# Sums in another order.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def samples(count=12, width=6, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, width)).astype("float32")
    return x, generator.normal(size=(count, 1)).astype("float32")


def tensors(*shape):
    return torch.as_tensor(samples(*shape)[0]), torch.as_tensor(samples(*shape)[1])


def close(got, want):
    torch.testing.assert_close(got, want, **TOLERANCE)


def states(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same_state(one, other):
    assert list(one) == list(other)
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}"
        )


# Torch modules in Keras models


def train_in_keras(make_module, eagerly, *, epochs=2, freeze=False, width=5):
    """Trains a torch module in front of a Keras layer; gives the model, the module and the losses."""
    keras.utils.set_random_seed(0)
    torch.manual_seed(0)
    module = make_module()
    wrapped = layers.TorchModuleWrapper(module, output_shape=(None, width))
    wrapped.trainable = not freeze
    model = keras.Sequential([keras.Input((6,)), wrapped, layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), "mse", run_eagerly=eagerly)
    torch.manual_seed(1)
    x, y = samples()
    history = model.fit(x, y, batch_size=6, epochs=epochs, shuffle=False, verbose=0)
    losses = [*history.history["loss"], model.evaluate(x, y, verbose=0)]
    return model, module, [*losses, *model.predict(x, verbose=0).ravel()]


class Counting(torch.nn.Module):
    """Buffers written in place and replaced, and a parameter used by name."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(5))
        self.linear = torch.nn.Linear(6, 5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x):
        self.calls += 1
        hidden = F.linear(x, self.linear.weight, self.linear.bias) * self.scale
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * hidden.mean(0).detach()
        return F.gelu(hidden - self.mean)


MODULES = {
    "linear": lambda: torch.nn.Linear(6, 5),
    "batch_norm": lambda: torch.nn.Sequential(
        torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU()
    ),
    "dropout": lambda: torch.nn.Sequential(
        torch.nn.Dropout(0.3), torch.nn.Linear(6, 5), torch.nn.Dropout(0.5), torch.nn.Tanh()
    ),
    "convolution": lambda: torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 6)),
        torch.nn.Conv1d(1, 2, 2),
        torch.nn.GroupNorm(1, 2),
        torch.nn.MaxPool1d(2),
        torch.nn.Flatten(),
        torch.nn.LazyLinear(5),
    ),
    "counting": Counting,
    "attention": lambda: torch.nn.Sequential(
        torch.nn.Unflatten(1, (3, 2)),
        torch.nn.TransformerEncoderLayer(2, 1, 4, dropout=0.0, batch_first=True),
        torch.nn.Flatten(),
        torch.nn.Linear(6, 5),
    ),
    "recurrent": lambda: torch.nn.Sequential(
        torch.nn.Unflatten(1, (3, 2)), LastOf(torch.nn.GRU(2, 5))
    ),
    "tied": lambda: Tied(),
}


class LastOf(torch.nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        return self.cell(x.transpose(0, 1))[0][-1]


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(6, 5), torch.nn.Linear(6, 5)
        self.second.weight = self.first.weight

    def forward(self, x):
        return torch.sin(self.first(x)) + self.second(x)


def made(name):
    module = MODULES[name]()
    if name == "convolution":
        module(torch.zeros(2, 6))  # initializes the lazy layer
    return module


@pytest.mark.parametrize("name", MODULES)
def test_a_torch_module_trains_in_a_compiled_keras_model(name):
    model, module, found = train_in_keras(lambda: made(name), eagerly=False)
    for function in (model.train_function, model.test_function, model.predict_function):
        assert function.step.counts.op_by_op == 0, function.step.refused
    _, reference, wanted = train_in_keras(lambda: made(name), eagerly=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(module.state_dict()[key], value, rtol=1e-4, atol=1e-5)
    assert model.train_function.step.counts.captures == 1


def test_buffers_are_updated_in_training_only():
    model, module, _ = train_in_keras(MODULES["batch_norm"], eagerly=False)
    norm, x = module[1], samples()[0]
    assert int(norm.num_batches_tracked) == 4
    before = norm.running_mean.clone()
    model.predict(x, verbose=0)
    torch.testing.assert_close(norm.running_mean, before)
    inputs = model.train_function.step.captured[0].inputs
    assert "Sequential/1/running_mean" in [spec.name for spec in inputs]
    known = [spec.variable for spec in inputs if isinstance(spec.variable, keras.Variable)]
    wanted = {id(variable) for variable in model.layers[0].variables}
    assert wanted <= set(map(id, known)), "parameters go by the names Keras knows them by"


def test_dropout_of_torch_draws_anew_in_each_step_from_torchs_generator():
    """It stays torch's: counted as a fallback, and the same numbers as op by op (see above)."""
    dropout = keras_triton.jit(torch.nn.Dropout(0.5))
    x = torch.ones(64)
    torch.manual_seed(3)
    first, second = dropout(x), dropout(x)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    close(F.dropout(x, 0.5), first)
    assert any("bernoulli" in row.fallback for row in dropout.explain(x).fallbacks)


def test_a_frozen_torch_module_keeps_its_weights_and_thaws():
    model, module, _ = train_in_keras(MODULES["linear"], eagerly=False, freeze=True, epochs=1)
    start = states(made("linear"))
    torch.manual_seed(0)
    assert_same_state(states(module), states(MODULES["linear"]()))
    assert start.keys() == module.state_dict().keys()
    model.layers[0].trainable = True
    model.compile("sgd", "mse")
    before = states(module)
    x, y = samples()
    model.fit(x, y, verbose=0)
    assert not torch.equal(module.weight, before["weight"])


def test_modules_as_attributes_and_raw_torch_ops_in_a_keras_model():
    """Keras wraps torch modules that are assigned to attributes."""

    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = torch.nn.Conv2d(1, 2, 3)
            self.norm = torch.nn.BatchNorm2d(2)
            self.pool = torch.nn.MaxPool2d(2)
            self.top = layers.Dense(3)

        def call(self, x):
            x = F.relu(self.norm(self.convolution(x)))
            x = torch.flatten(self.pool(x), 1)
            x[:, 0] += 1.0
            x = torch.cumsum(x, 1).clamp(-3, 3) + torch.fft.rfft(x).real.sum(1, keepdim=True)
            return torch.softmax(self.top(x), -1)

    found = []
    for eagerly in (False, True):
        keras.utils.set_random_seed(0)
        model = Classifier()
        model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=eagerly)
        generator = np.random.default_rng(0)
        x = generator.normal(size=(6, 1, 6, 6)).astype("float32")
        losses = [model.train_on_batch(x, np.arange(6) % 3) for _ in range(4)]
        found.append([*losses, *np.asarray(model.norm.module.running_var.detach())])
        if not eagerly:
            counts = model.train_function.step.counts
            assert (counts.captures, counts.compiled) == (1, 4 - counts.op_by_op), counts
            assert counts.op_by_op <= 1, "the call that builds"
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_parameters_and_buffers_registered_with_a_keras_layer():
    class Scale(layers.Layer):
        def __init__(self):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.full((6,), 2.0))
            self.register_buffer("calls", torch.zeros(()))

        def call(self, x):
            self.calls.add_(1.0)
            return x * self.factor

    layer = Scale()
    fast = keras_triton.jit(layer)
    x, _ = tensors()
    with torch.no_grad():
        close(fast(x), 2 * x)
        layer.factor.fill_(3.0)
        close(fast(x), 3 * x)
    fast(x).sum().backward()
    close(layer.factor.grad, x.sum(0))
    assert float(layer.calls) == 3.0
    assert (fast.counts.op_by_op, fast.refused) == (1, []), "the call that builds"


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_model_with_a_torch_module_is_saved_and_loaded(tmp_path, suffix):
    model, module, _ = train_in_keras(MODULES["batch_norm"], eagerly=False, epochs=1)
    path, (x, _) = tmp_path / f"model{suffix}", samples()
    if suffix == ".keras":
        model.save(path)
        with pytest.raises(ValueError, match=r"torch\.load"):
            keras.models.load_model(path)
        loaded = keras.models.load_model(path, safe_mode=False)
    else:
        model.save_weights(path)
        loaded, _, _ = train_in_keras(MODULES["batch_norm"], eagerly=False, epochs=2)
        loaded.load_weights(path)
    assert_same_state(states(loaded.layers[0].module), states(module))
    want = model.predict(x, verbose=0)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), want, rtol=1e-5, atol=1e-6)
    loaded.compile("sgd", "mse")
    loaded.fit(x, samples()[1], verbose=0)
    assert loaded.train_function.step.counts.op_by_op == 0


# Keras layers in torch modules


class Net(torch.nn.Module):
    """Torch and Keras layers in turn, with buffers and statistics of both kinds."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(6, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.dense = layers.Dense(3, activation="gelu")
        self.dense.build((None, 4))
        self.keras_norm = layers.BatchNormalization()
        self.keras_norm.build((None, 3))
        self.head = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
        self.inner = layers.TorchModuleWrapper(torch.nn.Linear(1, 1))

    def forward(self, x):
        x = self.dense(F.relu(self.norm(self.first(x))))
        return self.inner(self.head(self.keras_norm(x, training=self.training)))


def net():
    keras.utils.set_random_seed(0)
    torch.manual_seed(0)
    return Net()


def train_in_torch(module, call, steps=5):
    optimizer = torch.optim.SGD(module.parameters(), 0.05, momentum=0.9)
    x, y = tensors()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.mse_loss(call(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_torch_module_with_keras_layers_has_their_parameters():
    module = net()
    names = [name for name, _ in module.named_parameters()]
    found = [f"{module.dense.name}/kernel", f"{module.keras_norm.name}/gamma", "first.weight"]
    for part in found:
        assert any(part in name for name in names), names
    trained = {id(p) for p in module.parameters()}
    assert {id(v.value) for v in module.head.trainable_variables} <= trained
    frozen = [n for n, p in module.named_parameters() if not p.requires_grad]
    assert all("moving" in name for name in frozen)


def test_a_torch_module_with_keras_layers_trains_compiled():
    fast, slow = net(), net()
    compiled = keras_triton.jit(fast)
    found, wanted = train_in_torch(fast, compiled), train_in_torch(slow, slow)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert compiled.counts.captures == 1
    assert compiled.counts.op_by_op == 0, compiled.refused
    for got, want in zip(fast.state_dict().values(), slow.state_dict().values(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert int(fast.norm.num_batches_tracked) == 5
    x, _ = tensors()
    fast.eval()
    slow.eval()
    close(compiled(x), slow(x))
    fast.train()
    compiled(x)
    assert compiled.counts.captures == 2, "one program a mode"


def test_the_state_of_such_a_module_is_saved_copied_and_moved():
    module, other = net(), net()
    train_in_torch(module, module)
    other.load_state_dict(dict(zip(other.state_dict(), states(module).values(), strict=True)))
    module.eval()
    other.eval()
    x, _ = tensors()
    close(other(x), module(x))
    twin = copy.deepcopy(module)
    close(twin(x), module(x))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.count_nonzero(twin(x)) == 0
    assert torch.count_nonzero(module(x)) > 0
    linear = torch.nn.Linear(6, 2)
    compiled = keras_triton.jit(linear)
    for dtype in (torch.float32, torch.float64):
        linear.to(dtype)
        close(compiled(x.to(dtype)), linear(x.to(dtype)))
    assert compiled.counts.op_by_op == 0


def test_gradients_flow_from_torch_through_keras_to_torch():
    dense = layers.Dense(3)
    dense.build((None, 6))
    before, after = torch.nn.Linear(6, 6), torch.nn.Linear(3, 1)
    x, _ = tensors()
    after(dense(before(x))).sum().backward()
    wanted = [p.grad.clone() for p in before.parameters()]
    before.zero_grad()
    after(keras_triton.jit(dense)(before(x))).sum().backward()
    for parameter, want in zip(before.parameters(), wanted, strict=True):
        close(parameter.grad, want)


# Tensors and arrays


def test_variables_are_arrays_and_share_their_memory_by_dlpack():
    variable = keras.Variable(np.arange(6.0).reshape(2, 3), dtype="float32", name="table")
    array = np.asarray(variable)
    array[0, 0] = 5.0
    assert float(variable[0, 0]) == 0.0, "a copy"
    assert np.array(variable, dtype="int16").dtype == np.int16
    shared = torch.from_dlpack(variable)
    shared[0, 0] = 7.0
    assert (float(variable[0, 0]), np.from_dlpack(variable)[0, 0]) == (7.0, 7.0)
    assert not shared.requires_grad
    np.array(variable, copy=False)[0, 1] = 8.0
    assert float(variable[0, 1]) == 8.0
    with pytest.raises(
        ValueError, match=r"table, a torch\.float32 on cpu, cannot be read as int16"
    ):
        np.asarray(variable, dtype="int16", copy=False)
    half = keras.Variable(np.ones(3), dtype="bfloat16")
    assert np.asarray(half).dtype == "bfloat16"


def test_torch_functions_take_variables_and_keras_ops_take_tensors_and_arrays():
    w = keras.Variable(np.eye(3, dtype="float32"), name="w")
    x = torch.ones(2, 3)
    fast = keras_triton.jit(
        lambda x: torch.einsum("bi,ij->bj", x, w) + ops.matmul(x.numpy(force=True), w)
    )
    slow = torch.einsum("bi,ij->bj", x, w) + ops.matmul(x.numpy(), w)
    with pytest.warns(UserWarning, match="conversion to numpy needs the value"):
        close(fast(x), slow)
    fast = keras_triton.jit(lambda x: torch.einsum("bi,ij->bj", x, w) + ops.matmul(x, w))
    close(fast(x), slow)
    assert fast.counts.compiled == 1


def test_a_tensor_with_gradients_in_a_closure_is_refused_in_a_model():
    loose = torch.ones(1, requires_grad=True)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(1), layers.Lambda(lambda x: x * loose)]
    )
    model.compile("sgd", "mse")
    x, y = samples()
    with pytest.warns(UserWarning, match=r"lambda.*, a tensor of shape .* that requires gradients"):
        model.train_on_batch(x, y)
    assert loose.grad is not None
    assert model.train_function.step.counts.op_by_op == 1
