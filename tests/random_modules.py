"""Random modules of stage "keras" for comparing values before and after each pass."""

import random

import torch
from mlir import ir

from keras_triton.lowering import dialect
from keras_triton.lowering.mlir import TensorType, context, parse, text

SHAPES = [(4, 6), (6,), (4, 1), (2, 3, 4), (1, 4), (), (4, 6), (2, 3, 4)]


class Builder:
    """Builds ops on values, keeping all of them to choose operands from."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.values: list[ir.Value] = []

    def op(self, name: str, *operands: ir.Value, **attributes) -> ir.Value:
        loc = ir.Location.name(f"model/{name}")
        (made,) = dialect.build(name, operands, attributes, loc=loc)
        self.values.append(made)
        return made

    def pick(self, accept=lambda kind: True) -> ir.Value | None:
        found = [value for value in self.values if accept(TensorType.of(value))]
        return self.random.choice(found[-8:]) if found else None

    def step(self) -> None:
        """Adds one random op, or none when no value fits."""
        kind = self.random.choice(["unary", "binary", "binary", "reduce", "move", "drop", "half"])
        getattr(self, f"_{kind}")(self.pick())

    def _unary(self, x: ir.Value) -> None:
        self.op(
            self.random.choice(["relu", "tanh", "sigmoid", "neg", "abs", "exp2"]),
            self.op("tanh", x),
        )

    def _binary(self, x: ir.Value) -> None:
        shape = TensorType.of(x).shape
        other = self.pick(lambda kind: _broadcasts(kind.shape, shape))
        name = self.random.choice(["add", "sub", "mul", "maximum"])
        self.op(name, *self.random.sample([x, other], 2))

    def _reduce(self, x: ir.Value) -> None:
        kind = TensorType.of(x)
        if not kind.rank:
            return
        axes = self.random.sample(range(kind.rank), self.random.randint(1, kind.rank))
        made = self.op(self.random.choice(["sum", "max"]), x, axes=sorted(axes))
        kept = [axis for axis in range(kind.rank) if axis not in axes]
        if self.random.random() < 0.7:
            wide = self.op("broadcast_in_dim", made, shape=kind.shape, dims=kept)
            self.op("sub", x, wide)

    def _move(self, x: ir.Value) -> None:
        kind = TensorType.of(x)
        if self.random.random() < 0.5:
            self.op("transpose", x, permutation=self.random.sample(range(kind.rank), kind.rank))
        else:
            self.op(
                "reshape",
                x,
                shape=self.random.choice([(kind.size,), (1, kind.size), kind.shape[::-1]]),
            )

    def _drop(self, x: ir.Value) -> None:
        self.op("dropout", x, self.key, rate=0.25)

    def _half(self, x: ir.Value) -> None:
        half = self.op("cast", x, dtype="f16")
        self.op("cast", self.op("add", half, half), dtype="f32")
        self.values = [value for value in self.values if TensorType.of(value).dtype == "f32"]


def _broadcasts(shape, other) -> bool:
    pairs = zip(shape[::-1], other[::-1], strict=False)
    return all(a == b or 1 in (a, b) for a, b in pairs)


def random_module(seed: int, steps: int = 14) -> ir.Module:
    """A module of about `steps` ops on eight arguments; two arguments are donated."""
    with context(), ir.Location.unknown():
        module = ir.Module.create()
        module.operation.attributes["keras.stage"] = ir.StringAttr.get("keras")
        builder = Builder(seed)
        types = [TensorType(shape, "f32").to_mlir() for shape in SHAPES]
        key = TensorType((2,), "i64").to_mlir()
        with ir.InsertionPoint(module.body):
            from mlir.dialects import func

            main = func.FuncOp("main", ([*types, key], []))
            block = main.add_entry_block()
        with ir.InsertionPoint(block):
            *builder.values, builder.key = block.arguments
            for _ in range(steps):
                builder.step()
            donated = [builder.op("add", block.arguments[i], block.arguments[i + 6]) for i in (0,)]
            donated.append(
                builder.op("mul", block.arguments[3], builder.op("tanh", block.arguments[3]))
            )
            results = [*donated, *builder.random.sample(builder.values[8:], 3), builder.values[-3]]
            func.ReturnOp(results)
        main.attributes["function_type"] = ir.TypeAttr.get(
            ir.FunctionType.get([*types, key], [value.type for value in results])
        )
        names = [{"keras.name": ir.StringAttr.get(f"a{i}")} for i in range(len(types) + 1)]
        for result, argument in enumerate((0, 3)):
            names[argument]["keras.donated"] = ir.IntegerAttr.get(
                ir.IntegerType.get_signless(64), result
            )
        main.arg_attrs = ir.ArrayAttr.get([ir.DictAttr.get(entry) for entry in names])
        return parse(text(module))


def random_inputs(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(shape, generator=generator) for shape in SHAPES]
    return [*inputs, torch.tensor([seed, 7])]
