"""Cross-entropy of rows of logits against integer targets, without storing probabilities.

A target outside [0, classes) makes the row's loss and gradient NaN: a GPU cannot raise, and a wrong
label must not train silently.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from . import rows as row
from .launch import Epilogue, Launch, Program
from .problem import Problem, TensorSpec, Work
from .rows import RowConfig
from .spec import KernelSpec, register


@triton.jit
def cross_entropy_kernel(
    logits,
    target,
    loss,
    lse,
    ROWS,
    COLS,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """``lse = log(sum(exp(logits)))`` and ``loss = lse - logits[target]``, row by row."""
    rows = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(INDEX)[:, None]
    lane = tl.arange(0, BLOCK_COLS).to(INDEX)[None, :]
    present = rows < ROWS
    highest = tl.full((BLOCK_ROWS, 1), -float("inf"), dtype=ACC)
    total = tl.zeros((BLOCK_ROWS, 1), dtype=ACC)
    for start in tl.range(0, COLS, BLOCK_COLS):
        cols = start + lane
        mask = present & (cols < COLS)
        value = tl.load(logits + rows * COLS + cols, mask=mask, other=-float("inf")).to(ACC)
        higher = tl.maximum(highest, tl.max(value, axis=1, keep_dims=True))
        # While a row has shown nothing but -inf, -inf - -inf would spoil the sum with NaN.
        pivot = tl.where(higher == -float("inf"), 0.0, higher)
        chunk = tl.sum(tl.exp(value - pivot), axis=1, keep_dims=True)
        total = total * tl.exp(highest - pivot) + chunk
        highest = higher
    log_total = highest + tl.log(total)
    label = tl.load(target + rows, mask=present, other=0)
    known = (label >= 0) & (label < COLS)
    chosen = tl.load(logits + rows * COLS + label, mask=present & known, other=0.0).to(ACC)
    entropy = tl.where(known, log_total - chosen, float("nan"))
    tl.store(loss + rows, entropy.to(loss.dtype.element_ty), mask=present)
    tl.store(lse + rows, log_total.to(lse.dtype.element_ty), mask=present)


@triton.jit
def cross_entropy_grad_kernel(
    g,
    logits,
    target,
    lse,
    outs,
    extras,
    ROWS,
    COLS,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """``g (softmax(logits) - onehot(target))``, one tile."""
    rows = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(INDEX)[:, None]
    cols = (tl.program_id(1) * BLOCK_COLS + tl.arange(0, BLOCK_COLS)).to(INDEX)[None, :]
    present = rows < ROWS
    offset = rows * COLS + cols
    mask = present & (cols < COLS)
    label = tl.load(target + rows, mask=present, other=0)
    upstream = tl.load(g + rows, mask=present, other=0.0).to(ACC)
    upstream = tl.where((label >= 0) & (label < COLS), upstream, float("nan"))
    log_total = tl.load(lse + rows, mask=present, other=0.0).to(ACC)
    value = tl.load(logits + offset, mask=mask, other=-float("inf")).to(ACC)
    probability = tl.exp(value - log_total)
    dlogits = (probability - tl.where(cols == label, 1.0, 0.0)) * upstream
    EPILOGUE(dlogits, rows, cols, offset, mask, outs, extras)


def cross_entropy_reference(
    logits: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    lse = torch.logsumexp(logits, -1)
    chosen = logits.gather(-1, target[:, None])[:, 0]
    return lse - chosen, lse


def cross_entropy_grad_reference(
    g: torch.Tensor, logits: torch.Tensor, target: torch.Tensor, lse: torch.Tensor
) -> tuple[torch.Tensor]:
    onehot = torch.nn.functional.one_hot(target, logits.shape[1])
    return (((logits - lse[:, None]).exp() - onehot) * g[:, None],)


def _rows_first(problem: Problem) -> Problem:
    """The gradient's problem with the logits as first operand, as the row kernels want it."""
    return Problem(problem.operands[1:])


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    spec = TensorSpec(problem.shape(0)[:1], row.statistics_dtype(problem.dtype()))
    return spec, spec


def _plan(problem: Problem, config: RowConfig, epilogue: Epilogue) -> Program:
    launch = Launch(
        kernel=cross_entropy_kernel,
        pointers={"logits": "logits", "target": "target", "loss": "out0", "lse": "lse"},
        constexprs=row.row_constexprs(problem, config),
        grid=row.row_grid(problem, config),
        num_warps=config.num_warps,
    )
    return Program((launch,))


def _plan_grad(problem: Problem, config: RowConfig, epilogue: Epilogue) -> Program:
    matrix = _rows_first(problem)
    launch = Launch(
        kernel=cross_entropy_grad_kernel,
        pointers={
            "g": "g",
            "logits": "logits",
            "target": "target",
            "lse": "lse",
            **epilogue.pointers,
        },
        constexprs={"EPILOGUE": epilogue.function, **row.row_constexprs(matrix, config)},
        grid=(
            row.row_grid(matrix, config)[0],
            -(-matrix.shape(0)[1] // config.block_cols),
            1,
        ),
        num_warps=config.num_warps,
    )
    return Program((launch,))


cross_entropy = register(
    KernelSpec(
        name="cross_entropy",
        operands=("logits", "target"),
        results=("out0", "lse"),
        kernels=(cross_entropy_kernel,),
        infer=_infer,
        plan=_plan,
        reference=cross_entropy_reference,
        space=row.SPACE,
        cases=tuple(
            Problem.of([(shape, dtype), (shape[:1], "int64")]) for shape, dtype in row.CASES
        ),
        work=lambda problem: Work(
            sum(spec.bytes for spec in (*problem.operands, *_infer(problem))),
            4 * problem.operands[0].size,
        ),
        supports=row.unsupported,
        epilogues=False,
    )
)

cross_entropy_grad = register(
    KernelSpec(
        name="cross_entropy_grad",
        operands=("g", "logits", "target", "lse"),
        results=("out0",),
        kernels=(cross_entropy_grad_kernel,),
        infer=lambda problem: row.same(_rows_first(problem)),
        plan=_plan_grad,
        reference=cross_entropy_grad_reference,
        space=row.Space(
            RowConfig,
            lambda config, problem, device: row.refuse(config, _rows_first(problem), device),
            lambda problem, device: row.guess(_rows_first(problem), device),
        ),
        cases=tuple(
            Problem.of(
                [
                    (shape[:1], row.statistics_dtype(dtype)),
                    (shape, dtype),
                    (shape[:1], "int64"),
                    (shape[:1], row.statistics_dtype(dtype)),
                ]
            )
            for shape, dtype in row.CASES
        ),
        work=lambda problem: Work(
            sum(spec.bytes for spec in (*problem.operands, problem.operands[1])),
            4 * problem.operands[1].size,
        ),
        supports=lambda problem: row.unsupported(_rows_first(problem)),
    )
)
