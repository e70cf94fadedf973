"""Row ops spelled out mean what they mean as one op, rows of NaN and infinities included."""

import pytest
import torch
from dialect_cases import CASES
from mlir import ir

from keras_triton.lowering import dialect, mlir
from keras_triton.lowering.decompose import (
    DECOMPOSITIONS,
    can_decompose,
    decompose,
    decompose_module,
)
from keras_triton.lowering.errors import DialectError
from keras_triton.lowering.interpret import run
from keras_triton.lowering.mlir import TORCH_DTYPES, TensorType

NAN, INF = float("nan"), float("inf")
TILED = {"window": (2, 3), "strides": (2, 3), "pads": (0, 0, 0, 0)}
POOLING = ("max_pool2d", "max_pool2d_grad", "avg_pool2d", "avg_pool2d_grad")
STATISTICS = {"layer_norm_grad": slice(2, 4)} | {
    f"linear_cross_entropy_{part}_grad": slice(4, 6) for part in ("input", "weight")
}
CALLS = {"linear": {"matmul"}, "linear_cross_entropy": {"matmul", "cross_entropy"}} | {
    f"linear_cross_entropy_{part}_grad": {"matmul", "cross_entropy_grad"}
    for part in ("input", "weight")
}
"""Of what becomes calls again, the ops."""
SPECIAL_ROWS = torch.tensor(
    [
        [1.0, NAN, 3.0, -2.0, 0.0],
        [INF, 1.0, -INF, 2.0, 0.5],
        [-INF, -INF, -INF, -INF, -INF],
        [INF, INF, 0.0, 1.0, 2.0],
        [-0.0, 0.0, -INF, -1.0, 0.0],
        [7.0, 7.0, 7.0, 7.0, 7.0],
    ]
)


def typed(name: str, inputs: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    """Floats in `dtype`, statistics of half types in float32."""
    converted = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
    statistics = STATISTICS.get(name)
    if statistics and dtype != torch.float64:
        converted[statistics] = [x.float() for x in converted[statistics]]
    return converted


def pooling(name: str) -> tuple[list[torch.Tensor], dict]:
    """Windows that tile an image of [2, 4, 9, 3], with a NaN, infinities and equal elements in it."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(-3, 4, (2, 4, 9, 3), generator=generator).double()
    image[0, 0, 0, 0], image[0, 1, 4, 1], image[1, :2, :3] = NAN, INF, -INF
    pooled = torch.randn(2, 2, 3, 3, generator=generator, dtype=torch.float64)
    index = torch.randint(0, 6, pooled.shape, generator=generator, dtype=torch.int32)
    if not name.endswith("_grad"):
        return [image], TILED
    inputs = [pooled, index] if name.startswith("max") else [pooled]
    return inputs, {"shape": tuple(image.shape), **TILED}


def module_of(name: str, inputs: list[torch.Tensor], attributes: dict) -> ir.Module:
    """A module whose main returns the results of keras.<name> on its arguments."""
    mlir.context()  # fills dialect.OPS
    types = [TensorType.of_torch(x) for x in inputs]
    results = dialect.infer(dialect.OPS[name], types, attributes)
    arguments = ", ".join(f'%a{i}: {kind} {{keras.name = "a{i}"}}' for i, kind in enumerate(types))
    used = ", ".join(f"%a{i}" for i in range(len(types)))
    made = ", ".join(f"%r#{i}" for i in range(len(results))) if len(results) > 1 else "%r"
    shown = ", ".join(map(str, results))
    with mlir.context(), ir.Location.unknown():
        written = {key: dialect.to_attribute(value) for key, value in attributes.items()}
        spelled = ", ".join(f"{key} = {value}" for key, value in written.items())
    return mlir.parse(f"""module attributes {{keras.stage = "keras"}} {{
      func.func @main({arguments}) -> ({shown}) {{
        %r{f":{len(results)}" if len(results) > 1 else ""} = "keras.{name}"({used}) {{{spelled}}}
            : ({", ".join(map(str, types))}) -> ({shown}) loc("m/layer")
        return {made} : {shown}
      }}
    }}""")


def ops_of(module: ir.Module) -> list[ir.Operation]:
    main = mlir.functions(module)["main"]
    return [op.operation for op in main.regions[0].blocks[0].operations]


@pytest.mark.parametrize("dtype", ["f64", "f32", "bf16"])
@pytest.mark.parametrize("name", sorted(DECOMPOSITIONS))
def test_means_the_same(name, dtype):
    inputs, attributes = (
        pooling(name) if name in POOLING else (CASES[name].inputs, CASES[name].attributes)
    )
    inputs = typed(name, list(inputs), TORCH_DTYPES[dtype])
    module = module_of(name, inputs, attributes)
    before = mlir.text(module)
    plain = decompose_module(module, [name])
    assert mlir.text(module) == before
    used = {op.name.removeprefix("keras.") for op in ops_of(plain)}
    assert name not in used
    templates = {op for op in used & set(dialect.OPS) if dialect.OPS[op].template}
    assert templates == CALLS.get(name, set())
    assert {mlir.layer_of(op) for op in ops_of(plain)} <= {"m/layer", ""}
    for made, expected in zip(run(plain, inputs), run(module, inputs), strict=True):
        # Constants such as epsilon are rounded to float32 where the compute dtype is.
        tolerance = 1e-12 if dtype == "f64" else 1e-6 if dtype == "f32" else 1e-2
        torch.testing.assert_close(made, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "argmax", "argmin", "cross_entropy"])
def test_special_rows(name):
    inputs = [SPECIAL_ROWS.double()]
    if name == "cross_entropy":
        inputs.append(torch.tensor([0, 1, 2, 3, 4, 0]))
    attributes = {"axis": 1} if name.startswith("arg") else {}
    module = module_of(name, inputs, attributes)
    for made, expected in zip(
        run(decompose_module(module, [name]), inputs), run(module, inputs), strict=True
    ):
        torch.testing.assert_close(made, expected, equal_nan=True)


def test_argmax_of_other_axes_and_integers():
    x = torch.randint(-3, 4, (3, 4, 5), generator=torch.Generator().manual_seed(0))
    module = module_of("argmax", [x], {"axis": 1})
    (made,) = run(decompose_module(module, ["argmax"]), [x])
    assert torch.equal(made, x.argmax(1))


@pytest.mark.parametrize(
    "change", [{"strides": (1, 1)}, {"pads": (1, 0, 0, 0)}, {"window": (2, 2)}]
)
def test_windows_that_do_not_tile_are_left_alone(change):
    (image,), _ = pooling("max_pool2d")
    module = module_of("max_pool2d", [image], {**TILED, **change})
    (op,) = [op for op in ops_of(module) if op.name == "keras.max_pool2d"]
    assert not can_decompose(op)
    left = decompose_module(module, ["max_pool2d"])
    assert [op.name for op in ops_of(left)] == ["keras.max_pool2d", "func.return"]


def test_half_precision_computes_in_float32():
    x = torch.randn(2, 3, dtype=torch.bfloat16)
    plain = decompose_module(module_of("softmax", [x], {}), ["softmax"])
    exponentials = [op for op in ops_of(plain) if op.name == "keras.exp"]
    assert [TensorType.of(op.results[0]).dtype for op in exponentials] == ["f32"]


def test_other_ops_are_left_alone():
    module = module_of("softmax", [torch.zeros(2, 3)], {})
    assert [op.name for op in ops_of(decompose_module(module, ["argmax"]))] == [
        "keras.softmax",
        "func.return",
    ]


def test_op_without_decomposition_is_refused():
    flags = {"transpose_a": False, "transpose_b": False}
    module = module_of("matmul", [torch.zeros(2, 2)] * 2, flags)
    with pytest.raises(DialectError, match=r"keras\.matmul has no decomposition; these have: argm"):
        decompose(ops_of(module)[0])
