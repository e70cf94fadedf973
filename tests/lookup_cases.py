"""Lookups by index: regions as text, and torch functions that look up and add up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from import_cases import gradient, n, x
from triton_cases import Generic, region_text


def tensor(*shape, dtype="f32"):
    return f"tensor<{''.join(f'{extent}x' for extent in shape)}{dtype}>"


def found(table, places, index="i64", dtype="f32", outside="0.0"):
    """A body that looks up %table at %x0 in one axis and at dims in the others.

    `places` has a dim of the domain for each axis, None for the axis that %x0 indexes.
    """
    names = ["%safe" if dim is None else f"%d{dim}" for dim in places]
    dims = "".join(f"%d{dim} = linalg.index {dim} : index\n" for dim in places if dim is not None)
    axis = table[list(places).index(None)]
    other = outside if dtype == "i1" else f"{outside} : {dtype}"
    return f"""{dims}%count = arith.constant {axis} : {index}
        %first = arith.constant 0 : {index}
        %inside = arith.cmpi ult, %x0, %count : {index}
        %near = arith.select %inside, %x0, %first : {index}
        %safe = arith.index_cast %near : {index} to index
        %there = tensor.extract %table[{", ".join(names)}] : {tensor(*table, dtype=dtype)}
        %else = arith.constant {other}
        %r = arith.select %inside, %there, %else : {dtype}"""


def rows(count, entries, width, index="i64", dtype="f32"):
    """Rows of a table."""
    table, made = (entries, width), tensor(count, width, dtype=dtype)
    outside = "0" if dtype.startswith("i") and dtype != "i1" else "0.0"
    body = found(table, (None, 1), index, dtype, "false" if dtype == "i1" else outside)
    arguments = {"ids": tensor(count, dtype=index), "table": tensor(*table, dtype=dtype)}
    y = Generic("y", (("ids", (0,)),), made, body)
    return region_text("rows", arguments, [y], ["y"], (2, 0))


def columns(count, height, entries):
    """Elements of each row of a matrix, by an index of the column; dims merge in memory."""
    arguments = {"ids": tensor(height, count, dtype="i32"), "table": tensor(height, entries)}
    y = Generic(
        "y", (("ids", (0, 1)),), tensor(height, count), found((height, entries), (0, None), "i32")
    )
    return region_text("columns", arguments, [y], ["y"], (2, 0))


def pooled(batch, length, entries, width):
    """Sums of rows: the reduction reads only the indices, so the rows are a stage of their own."""
    arguments = {"ids": tensor(batch, length, dtype="i64"), "table": tensor(entries, width)}
    body = found((entries, width), (None, 1))
    same = "%r = arith.bitcast %x0 : f32 to f32"
    generics = [
        Generic("y", (("ids", (0, 2)),), tensor(batch, width, length), body),
        Generic("total", (("y", (0, 1, 2)),), tensor(batch, width), same, "arith.addf"),
    ]
    return region_text("pooled", arguments, generics, ["total"], (2, 1))


def normal_rows(batch, entries, width):
    """Rows of a table less their mean: looked up in both passes over a row."""
    arguments = {"ids": tensor(batch, dtype="i64"), "table": tensor(entries, width)}
    scale = f"%c = arith.constant {1 / width:e} : f32\n%r = arith.mulf %x0, %c : f32"
    generics = [
        Generic("y", (("ids", (0,)),), tensor(batch, width), found((entries, width), (None, 1))),
        Generic(
            "sum",
            (("y", (0, 1)),),
            tensor(batch),
            "%r = arith.bitcast %x0 : f32 to f32",
            "arith.addf",
        ),
        Generic("mean", (("sum", (0,)),), tensor(batch), scale),
        Generic(
            "z",
            (("y", (0, 1)), ("mean", (0,))),
            tensor(batch, width),
            "%r = arith.subf %x0, %x1 : f32",
        ),
    ]
    return region_text("normal_rows", arguments, generics, ["z", "mean"], (1, 1))


REGIONS = {
    "one": rows(1, 1, 1),
    "ragged": rows(13, 7, 37),
    "wide": rows(3, 60, 700),
    "narrow indices": rows(70, 9, 5, "i32"),
    "bf16": rows(13, 7, 37, dtype="bf16"),
    "f16": rows(13, 7, 37, "i32", "f16"),
    "f64": rows(13, 7, 37, dtype="f64"),
    "integers": rows(13, 7, 37, dtype="i32"),
    "bools": rows(13, 7, 37, dtype="i1"),
    "no rows": rows(0, 7, 5),
    "rows of nothing": rows(4, 7, 0),
    "columns": columns(11, 19, 6),
    "pooled": pooled(3, 50, 60, 40),
    "pooled in one": pooled(2, 5, 60, 1),
    "pooled over blocks": pooled(2, 300, 60, 600),
    "pooled nothing": pooled(2, 0, 60, 3),
    "normal rows": normal_rows(9, 40, 130),
}


FUNCTIONS = {
    "embedding": (gradient(lambda t, i: F.embedding(i, t)), (x(5, 3), n(2, 4))),
    "padded embedding": (gradient(lambda t, i: F.embedding(i, t, 2)), (x(5, 3), n(2, 4))),
    "one row": (gradient(lambda t, i: torch.ops.aten.index(t, [i]) * 2), (x(5, 3), n())),
    "a table of one row": (lambda t, i: [t[i - i], t[i - i] * 2], (x(1), n(2, 3))),
    "pooled": (gradient(lambda t, i: F.embedding(i, t).mean(1)), (x(5, 40), n(3, 4))),
    "negative": (gradient(lambda t, i: t[i] + t[i - 5]), (x(5, 3), n(4))),
    "inner axis": (gradient(lambda t, i: t.index_select(1, i).exp()), (x(3, 5, 2), n(4))),
    "side by side": (gradient(lambda t, i, j: t[:, i, j - 4]), (x(3, 5, 4), n(2, 1), n(3, high=4))),
    "apart": (gradient(lambda t, i, j: t[i - 3, :, j]), (x(3, 4, 5, 2), n(2, 1, high=3), n(3))),
    "elements of rows": (gradient(lambda t, i: t.gather(1, i)), (x(4, 5), n(3, 2))),
    "of what is computed": (gradient(lambda t, i: (t * t).softmax(0)[i] * t[i]), (x(5, 3), n(4))),
    "of what is looked up": (lambda t, i: [t[i[i]], t[i][i]], (x(5, 3), n(5))),
    "bools": (lambda t, i: [(t > 0)[i], t[i] > 0], (x(5, 3), n(4))),
    "transposed": (lambda t, i: [t[i].T * 2, t[i].sum(0)], (x(5, 3), n(4))),
    "replaced": (
        lambda t, i: [
            torch.ops.aten.index_put(t.exp(), [i], t[:2] * 2),
            t.scatter(1, i[:, None] % 3, 7.0).exp(),
        ],
        (x(5, 3), torch.tensor([4, 1])),
    ),
    "the last of several": (
        lambda t, i: [torch.ops.aten.index_put(t, [i % 2], t[:4] * 2)],
        (x(5, 3), torch.tensor([2, 1, 3, 0])),
    ),
    "folded": (
        lambda t, i: [
            t.scatter_reduce(0, i, t * 2, name).exp() for name in ("sum", "prod", "amax", "amin")
        ],
        (x(5, 3), n(5, 3)),
    ),
    "integers folded": (
        lambda i: [i.scatter_reduce(1, i, i - 2, name) for name in ("sum", "prod", "amax", "amin")],
        (n(4, 5),),
    ),
    "repeated": (gradient(lambda t, i: t[i % 2]), (x(5, 33), n(600))),
}
"""Name -> a function of tensors, of which each float is differentiated, and inputs."""


def reference(function, inputs):
    """What a function gives in float64."""
    wide = [value.double() if value.is_floating_point() else value for value in inputs]
    return [value.detach() for value in function(*wide)]


def halves(inputs, dtype: torch.dtype, index: torch.dtype):
    """The inputs with floats and indices of other types."""
    return [value.to(dtype if value.is_floating_point() else index) for value in inputs]
