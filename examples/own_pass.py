"""A pass and a kernel of one's own, from outside the package.

`torch.logcumsumexp` has no kernel in keras-triton: torch runs it, and reports say so. A model of when
something happens ends in one, if it works with logarithms: the chance that it has happened by the end of an
interval is the sum of the chances of that and all earlier ones.
Here a new op, its Triton kernel, its call on a CPU and a pass that puts the op in place of the call of
torch make it a part of the compiled step.

    python examples/own_pass.py
    KERAS_TRITON_TARGET=interpret python examples/own_pass.py  # the Triton kernel, with no GPU
"""

import json
import os
from dataclasses import dataclass
from typing import ClassVar

os.environ["KERAS_BACKEND"] = "triton"

import keras
import numpy as np
import torch
import triton
import triton.language as tl
from keras import layers
from mlir import ir

import keras_triton
from keras_triton import pipeline
from keras_triton.kernels import rows
from keras_triton.kernels.launch import Launch, Program
from keras_triton.kernels.problem import Problem, Work
from keras_triton.kernels.space import Space
from keras_triton.kernels.spec import KernelSpec, register
from keras_triton.lowering.build import OpBuilder
from keras_triton.lowering.dialect import define
from keras_triton.lowering.extern import Extern
from keras_triton.lowering.loops import code
from keras_triton.lowering.mlir import TensorType, callee, context, functions, parse, text
from keras_triton.lowering.ops.common import require_float, require_rank
from keras_triton.vendor import vendor

# The op: what it takes and gives, and what it means. It must be defined before the first compilation.


def infer(types, attributes):
    require_float(types[0], "x")
    require_rank(types[0], 2, "x")
    return [types[0]]


@define("running_logsumexp", "x", infer, template=True)
def running_logsumexp(xs, attributes):
    """y[i, j] = log(exp(x[i, 0]) + ... + exp(x[i, j]))."""
    return [torch.logcumsumexp(xs[0], -1)]


# The kernel on a GPU, a tile of whole rows a program; `EPILOGUE` stores the result.


@triton.jit
def joined(a, b):
    """log(exp(a) + exp(b)), whose exponentials do not overflow."""
    low, high = tl.minimum(a, b), tl.maximum(a, b)
    return tl.where(low == -float("inf"), high, high + tl.log(1 + tl.exp(low - high)))


@triton.jit
def running_logsumexp_kernel(
    x,
    outs,
    extras,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    rows = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(INDEX)[:, None]
    columns = tl.arange(0, BLOCK_COLS).to(INDEX)[None, :]
    offset = rows * COLS + columns
    mask = (rows < ROWS) & (columns < COLS)
    value = tl.load(x + offset, mask=mask, other=-float("inf")).to(ACC)
    y = tl.associative_scan(value, 1, joined)
    EPILOGUE(y, rows, columns, offset, mask, outs, extras)


def supports(problem):
    """Why the kernel cannot take the operands, or None; torch runs what it cannot."""
    if problem.shape(0)[1] > rows.LONGEST_TILE:
        return f"rows of {problem.shape(0)[1]}; a tile holds up to {rows.LONGEST_TILE}"
    return rows.unsupported(problem)


def refuse(config, problem, device):
    """Why a configuration is not worth a trial, or None."""
    if config.block_cols < problem.shape(0)[1]:
        return "a row is one tile"
    return rows.refuse(config, problem, device)


def plan(problem, config, epilogue):
    launch = Launch(
        kernel=running_logsumexp_kernel,
        pointers={"x": "x", **epilogue.pointers},
        constexprs={"EPILOGUE": epilogue.function, **rows.row_constexprs(problem, config)},
        grid=rows.row_grid(problem, config),
        num_warps=config.num_warps,
    )
    return Program((launch,))


register(
    KernelSpec(
        name="running_logsumexp",
        operands=("x",),
        results=("out0",),
        kernels=(running_logsumexp_kernel,),
        infer=rows.same,
        plan=plan,
        reference=lambda x: (torch.logcumsumexp(x, -1),),
        space=Space(rows.RowConfig, refuse, rows.guess),
        cases=tuple(Problem.of([case]) for case in rows.CASES),
        work=lambda problem: Work(2 * problem.operands[0].bytes, problem.operands[0].size),
        supports=supports,
    )
)


# The same on a CPU.


@vendor("running_logsumexp", "torch.logcumsumexp")
def running_logsumexp_on_cpu(xs, outs, attributes):
    torch.logcumsumexp(xs[0], -1, out=outs[0])


# The pass.


@dataclass(frozen=True)
class RaiseRunningSums(pipeline.Pass):
    """Calls of aten.logcumsumexp along the last axis become keras.running_logsumexp."""

    name: ClassVar[str] = "raise-running-sums"
    takes: ClassVar[str] = "keras"
    gives: ClassVar[str] = "keras"

    def run(self, module):
        self.check_stage(module)
        with context(), ir.Location.unknown():
            made = parse(text(module))  # a pass leaves the module that it is given as it is
            known = functions(made)
            for function in code(made).values():
                for view in list(function.regions[0].blocks[0].operations):
                    if callee(view) and is_running_sum(known[callee(view)]):
                        replace(view.operation)
        return made


def is_running_sum(function):
    extern = Extern.of(function)
    if extern is None or extern.target != "aten.logcumsumexp.default":
        return False
    (x,), (y,) = (
        map(TensorType.of, kinds) for kinds in (function.type.inputs, function.type.results)
    )
    axis = json.loads(extern.args)[0][1]
    return x == y and x.is_float and axis in (-1, x.rank - 1) and x.rank > 0


def replace(call):
    """Puts the op in place of a call; the op knows matrices, so other shapes become one."""
    kind = TensorType.of(call.operands[0])
    with ir.InsertionPoint(call):
        build = OpBuilder(call.location)
        matrix = build.reshape(
            call.operands[0], (kind.size // max(kind.shape[-1], 1), kind.shape[-1])
        )
        made = build.reshape(build.emit("running_logsumexp", matrix), kind.shape)
    call.results[0].replace_all_uses_with(made)
    call.erase()


def model_of_time(features, intervals):
    keras.utils.set_random_seed(0)
    # The logarithm of the chance that it happens in each interval.
    chance = layers.Dense(intervals, activation="log_softmax", name="chance")
    happened = layers.Lambda(lambda c: torch.logcumsumexp(c, -1).exp(), name="happened")
    model = keras.Sequential([keras.Input((features,)), chance, happened])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model


def main():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(256, 12)).astype("float32")
    # It happens sooner to those with larger features.
    when = np.clip(6 - 2 * x[:, 0] - x[:, 1], 0, 9)
    y = (np.arange(10) >= when[:, None]).astype("float32")

    model = model_of_time(12, 10)
    print("without the pass")
    keras_triton.explain(model, x).print()
    wanted = model.predict(x, verbose=0)
    with pipeline.inserted(RaiseRunningSums(), before="canonicalize-keras"):
        print("with the pass")
        keras_triton.explain(model, x).print()
        furthest = np.abs(model.predict(x, verbose=0) - wanted).max()
        print(f"largest difference of predictions: {furthest:.1e}")
        history = model.fit(x, y, epochs=10, batch_size=64, verbose=0)
    print(f"loss {history.history['loss'][0]:.3f} -> {history.history['loss'][-1]:.3f}")


if __name__ == "__main__":
    main()
