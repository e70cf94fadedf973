"""The second stage of every split reduction: partial results are added in a fixed order.

Adding in a fixed order instead of atomically makes results repeat bit for bit.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .launch import Epilogue, Launch
from .problem import ceil_div, next_power_of_two


@triton.jit
def reduce_partials_kernel(
    partials,
    outs,
    extras,
    PARTS,
    ROWS,
    COLS,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """``epilogue(sum of partials[0..PARTS])`` for row-major [ROWS, COLS] partial results."""
    rows = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(INDEX)[:, None]
    cols = (tl.program_id(1) * BLOCK_COLS + tl.arange(0, BLOCK_COLS)).to(INDEX)[None, :]
    offset = rows * COLS + cols
    mask = (rows < ROWS) & (cols < COLS)
    acc = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=partials.dtype.element_ty)
    for part in tl.range(0, PARTS):
        start = partials + tl.cast(part, INDEX) * ROWS * COLS
        acc += tl.load(start + offset, mask=mask, other=0.0)
    EPILOGUE(acc, rows, cols, offset, mask, outs, extras, tl.program_id(0))


def _block(rows: int, cols: int, epilogue: Epilogue) -> tuple[int, int]:
    """Rows and columns of a program; more rows where each block of them makes a column sum."""
    block_cols = min(next_power_of_two(cols), 128)
    elements = 4096 if epilogue.sums else 1024
    return max(min(next_power_of_two(rows), elements // block_cols), 1), block_cols


def row_blocks(rows: int, cols: int, epilogue: Epilogue) -> int:
    """How many blocks of rows `reduce_partials` makes: the parts of its column sums."""
    return ceil_div(rows, _block(rows, cols, epilogue)[0])


def reduce_partials(
    partials: str,
    parts: int,
    rows: int,
    cols: int,
    epilogue: Epilogue,
    outs: tuple[str, ...] | None = None,
) -> Launch:
    """Adds the [parts, rows, cols] scratch buffer ``partials`` into the epilogue's outputs.

    ``outs`` names the output buffers where they are not ``out0, out1, ...``.
    """
    block_rows, block_cols = _block(rows, cols, epilogue)
    pointers: dict[str, str | tuple[str, ...]] = {"partials": partials, **epilogue.pointers}
    if outs is not None:
        pointers["outs"] = outs
    return Launch(
        kernel=reduce_partials_kernel,
        pointers=pointers,
        constexprs={
            "PARTS": parts,
            "ROWS": rows,
            "COLS": cols,
            "EPILOGUE": epilogue.function,
            "INDEX": tl.int64 if parts * rows * cols >= 2**31 else tl.int32,
            "BLOCK_ROWS": block_rows,
            "BLOCK_COLS": block_cols,
        },
        grid=(ceil_div(rows, block_rows), ceil_div(cols, block_cols), 1),
    )
