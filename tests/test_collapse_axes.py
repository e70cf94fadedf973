"""Elementwise work moved to merged axes: which merges an op bears, and equal values after all of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlir import ir

from keras_triton.lowering import dialect, interpret
from keras_triton.lowering.axes import cuts_between, cuts_where, merged
from keras_triton.lowering.mlir import TensorType, context, parse, text
from keras_triton.lowering.passes.collapse_axes import CollapseAxes


@pytest.mark.parametrize(
    ("fine", "coarse", "cuts"),
    [
        ((8, 128, 256), (1024, 256), {0, 2}),
        ((8, 128, 4, 64), (1024, 256), {0, 2}),
        ((2, 1, 3), (2, 3), {0, 1}),
        ((1, 6), (6,), {0}),
        ((6, 1), (6,), {0}),
        ((4, 6), (4, 6), {0, 1}),
        ((4, 6), (6, 4), None),
        ((4, 6), (4, 2, 3), None),
        ((4, 6), (), None),
    ],
)
def test_cuts_between(fine, coarse, cuts):
    found = cuts_between(fine, coarse)
    assert found == (None if cuts is None else frozenset(cuts))
    assert found is None or merged(fine, found) == coarse


def test_axes_of_extent_1_go_with_any_neighbour():
    assert cuts_where([True, None, True]) == {0}
    assert cuts_where([True, None, False]) == {0, 2}
    assert cuts_where([None, False, False]) == {0}


def test_a_sum_over_axes_of_extent_1_is_a_reshape():
    module = parse("""module attributes {keras.stage = "keras"} {
      func.func @main(%x: tensor<1x4xf32> {keras.name = "x"}) -> (tensor<1x4xf32>, tensor<1x4xf32>) {
        %0 = "keras.exp"(%x) : (tensor<1x4xf32>) -> tensor<1x4xf32>
        %1 = "keras.reshape"(%0) {shape = array<i64: 1, 1, 1, 4>} : (tensor<1x4xf32>) -> tensor<1x1x1x4xf32>
        %2 = "keras.neg"(%1) : (tensor<1x1x1x4xf32>) -> tensor<1x1x1x4xf32>
        %3 = "keras.sum"(%2) {axes = array<i64: 1, 2>} : (tensor<1x1x1x4xf32>) -> tensor<1x4xf32>
        %4 = "keras.reshape"(%2) {shape = array<i64: 1, 4>} : (tensor<1x1x1x4xf32>) -> tensor<1x4xf32>
        %5 = "keras.tanh"(%4) : (tensor<1x4xf32>) -> tensor<1x4xf32>
        return %3, %5 : tensor<1x4xf32>, tensor<1x4xf32> } }""")
    moved = CollapseAxes().run(module)
    assert "keras.sum" not in text(moved)
    x = torch.randn(1, 4)
    for produced, wanted in zip(interpret.run(moved, [x]), interpret.run(module, [x]), strict=True):
        torch.testing.assert_close(produced, wanted)


class Program:
    """A random module of elementwise ops and reductions between reshapes."""

    def __init__(self, data) -> None:
        self.data = data
        self.shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=5)))
        self.rank = len(self.shape)
        cuts = frozenset([0, *data.draw(st.sets(st.integers(0, self.rank - 1)))])
        self.coarse = merged(self.shape, cuts)

    def operand(self) -> tuple[int, ...]:
        """A shape that broadcasts to the program's."""
        first = self.data.draw(st.integers(0, self.rank))
        return tuple(n if self.data.draw(st.booleans()) else 1 for n in self.shape[first:])

    def build(self) -> tuple[ir.Module, list[torch.Tensor]]:
        operands = [self.operand() for _ in range(3)]
        kinds = [TensorType(shape, "f32") for shape in (self.coarse, self.shape, *operands)]
        kinds.append(TensorType((2,), "i64"))
        arguments = ", ".join(f"%a{i}: {kind}" for i, kind in enumerate(kinds))
        module = parse(
            'module attributes {keras.stage = "keras"} {'
            f"func.func @main({arguments}) {{ return }} }}"
        )
        (main,) = module.body.operations
        block = main.regions[0].blocks[0]
        *given_values, key = block.arguments
        results = []
        with context(), ir.InsertionPoint(block.operations[0]), ir.Location.unknown():
            self.values = [self.op("reshape", given_values[0], shape=self.shape), given_values[1]]
            for other in given_values[2:]:
                results += self.step(other, key)
            results.append(self.op("reshape", self.op("neg", self.values[-1]), shape=self.coarse))
        types = ", ".join(str(value.type) for value in results)
        body = text(module).replace("return", "RETURN")
        names = ", ".join(value.get_name() for value in results)
        body = body.replace(") {\n", f") -> ({types}) {{\n", 1)
        module = parse(body.replace("RETURN", f"return {names} : {types}"))
        drawn = [torch.randn(kind.shape) for kind in kinds[:-1]]
        return module, [*drawn, torch.tensor([3, 5])]

    @staticmethod
    def op(name, *operands, **attributes):
        (made,) = dialect.build(name, operands, attributes)
        return made

    def step(self, other, key) -> list[ir.Value]:
        """Adds ops on the last values; what it returns leaves the program."""
        x = self.data.draw(st.sampled_from(self.values))
        kind = self.data.draw(st.sampled_from(["binary", "dropout", "row", "transpose"]))
        wide = self.op("add", x, other)
        self.values.append(wide)
        if kind == "dropout":
            self.values.append(self.op("dropout", wide, key, rate=0.5))
        elif kind == "transpose":
            order = self.data.draw(st.permutations(range(self.rank)))
            return [self.op("transpose", wide, permutation=order)]
        elif kind == "row":
            axes = sorted(self.data.draw(st.sets(st.integers(0, self.rank - 1), min_size=1)))
            row = self.op("sum", wide, axes=axes)
            kept = [axis for axis in range(self.rank) if axis not in axes]
            spread = self.op("broadcast_in_dim", row, shape=self.shape, dims=kept)
            self.values.append(self.op("mul", wide, spread))
            return [row]
        return []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_values_stay_equal(data):
    module, inputs = Program(data).build()
    dialect.verify(module)
    moved = CollapseAxes().run(module)
    dialect.verify(moved)
    for produced, wanted in zip(
        interpret.run(moved, inputs), interpret.run(module, inputs), strict=True
    ):
        torch.testing.assert_close(produced, wanted)
