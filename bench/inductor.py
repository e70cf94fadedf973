"""`python -m keras_triton.bench.inductor`: how many kernels torch's Inductor makes of the same steps.

The captured graph of a model's train step, the very one that is lowered here, goes through Inductor's own
decompositions, scheduler and code generation for a CPU; nothing is compiled or run. Ops that the graph
holds whole (dropout, cross-entropy, attention, convolutions) are calls there, which favours Inductor: they
are no generated kernels of its, while here most are parts of some. A loop is compiled as its body, which
counts once an iteration.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from . import compiler

LOOPS: list[tuple[torch.fx.GraphModule, int, int]] = []
"""Of the graph at hand the loops: body, carries, iterations."""


@dataclass(frozen=True)
class Counts:
    """What Inductor makes of a model's step; what stands in loops counts each time.

    Attributes:
        kernels: loop nests, each of what it fused: what it would launch on a GPU.
        functions: generated functions that it calls on a CPU, each holding the nests between two calls.
        calls: of torch: products, convolutions, and ops that the graph holds whole.
    """

    model: str
    kernels: int
    functions: int
    calls: int


class _Generated(Exception):
    """Inductor has written its code; compiling it would take minutes, and is not asked for."""


def counts(name: str) -> Counts:
    """What Inductor makes of the train step of a model of blocks.py."""
    from keras_triton.explanation import capture_example

    from .blocks import example

    define_loop()
    return Counts(name, *count(capture_example(*example(name)).graph))


def count(graph: torch.fx.GraphModule) -> tuple[int, int, int]:
    """Kernels, functions and calls of a graph and the bodies of its loops."""
    LOOPS.clear()
    main = _without_loops(graph)
    loops = list(LOOPS)
    found = _generated(main)
    # Each loop is one call in the function around it.
    total = [found[0], found[1], found[2] - len(loops)]
    for body, _, length in loops:
        for i, each in enumerate(count(body)):
            total[i] += each * length
    return total[0], total[1], total[2]


def _generated(graph: torch.fx.GraphModule) -> tuple[int, int, int]:
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.scheduler import ExternKernelSchedulerNode, NopKernelSchedulerNode
    from torch._inductor.utils import fresh_cache
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    with FakeTensorMode():
        values = [node.meta["val"] for node in graph.graph.find_nodes(op="placeholder")]
        inputs = [torch.empty(value.shape, dtype=value.dtype) for value in values]
        traced = make_fx(graph, decomposition_table=dict(select_decomp_table()))(*inputs)
    with fresh_cache(), _stopped() as made:
        try:
            compile_fx_inner(traced, inputs)
        except Exception as error:
            if not made:
                raise RuntimeError(f"Inductor compiles no such graph: {error}") from error
    scheduler, code = made[0]
    calls = [node for node in scheduler.nodes if isinstance(node, ExternKernelSchedulerNode)]
    empty = [node for node in scheduler.nodes if isinstance(node, NopKernelSchedulerNode)]
    functions = re.findall(r"^\s+cpp_fused\w*\(", code, re.MULTILINE)
    return len(scheduler.nodes) - len(calls) - len(empty), len(functions), len(calls)


@contextmanager
def _stopped() -> Iterator[list[tuple[Any, str]]]:
    """Has Inductor stop once it has written its code; gives the scheduler and the code."""
    from torch._inductor import config
    from torch._inductor.graph import GraphLowering

    made: list[tuple[Any, str]] = []

    def stop(self: GraphLowering) -> None:
        code, _ = self.codegen()
        made.append((self.scheduler, getattr(code, "value", str(code))))
        raise _Generated

    with (
        mock.patch.object(GraphLowering, "compile_to_module", stop),
        config.patch(fx_graph_cache=False, fx_graph_remote_cache=False),
    ):
        yield made


def define_loop() -> None:
    """A loop as an op that Inductor calls and knows nothing of."""
    if hasattr(torch.ops.keras_triton_bench, "loop"):
        return
    torch.library.define("keras_triton_bench::loop", "(Tensor[] operands, int number) -> Tensor[]")

    @torch.library.register_fake("keras_triton_bench::loop")
    def _(operands: Sequence[torch.Tensor], number: int) -> list[torch.Tensor]:
        from keras_triton.torch_ops.loops import scan_results

        body, carries, length = LOOPS[number]
        return list(scan_results(body, carries, length))


def _without_loops(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """A copy of a graph with calls for its loops, which are added to LOOPS."""
    from keras_triton.torch_ops.loops import scan

    nodes = torch.fx.Graph()
    nodes.output(nodes.graph_copy(graph.graph, {}))
    copied = torch.fx.GraphModule(graph, nodes)
    for node in copied.graph.find_nodes(op="call_function", target=scan):
        body, init, xs, constants, length, _ = node.args
        number = len(LOOPS)
        LOOPS.append((getattr(graph, body.target), len(init), length))
        with copied.graph.inserting_before(node):
            call = copied.graph.call_function(
                torch.ops.keras_triton_bench.loop.default, ([*init, *xs, *constants], number)
            )
        node.replace_all_uses_with(call)
        copied.graph.erase_node(node)
    copied.recompile()
    return copied


def show(rows: Sequence[Counts], console: Console) -> None:
    """Each model's counts beside those of our plans."""
    ours = {(row.model, row.target): row for row in compiler.read()}
    table = Table(title="Generated kernels and calls of a train step", title_justify="left")
    table.add_column("model")
    for column in (
        "Inductor", "its functions", "its calls", "ours, GPU", "launches", "ours, CPU", "launches",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for row in rows:
        shown = [row.kernels, row.functions, row.calls]
        for target in ("triton", "cpu"):
            plan = ours[row.model, target]
            shown += [plan.generated, plan.launches]
        table.add_row(row.model, *map(str, shown))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    os.environ.setdefault("KERAS_BACKEND", "triton")
    from .blocks import BLOCKS, MODELS

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--all", action="store_true", help="the whole models too (minutes each)")
    parser.add_argument("--kept", action="store_true", help="show what was counted before")
    parser.add_argument("--write", action="store_true", help="keep the counts beside the figures")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.models if name not in MODELS]
    if unknown:
        parser.error(f"no model is called {unknown[0]!r}; there are {', '.join(MODELS)}")
    names = options.models or (MODELS if options.all else BLOCKS)
    if options.kept:
        rows = read()
    else:
        waiting = Console(stderr=True)
        rows = [counts(name) for name in track(names, "compiling", console=waiting)]
    if options.write:
        write(rows)
    show(rows, Console())
    return 0


def read() -> list[Counts]:
    """The counts that are kept."""
    return [Counts(**row) for row in compiler.kept().get("inductor", {}).get("rows", [])]


def write(rows: Sequence[Counts]) -> None:
    """Keeps counts in the file of our figures, in place of older ones of the same models."""
    known = {row.model: row for row in [*read(), *rows]}
    body = {"torch": torch.__version__, "rows": [asdict(row) for row in known.values()]}
    compiler.keep({**compiler.kept(), "inductor": body})


if __name__ == "__main__":
    raise SystemExit(main())
