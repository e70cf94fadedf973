"""`verify`: runs a step for an example, and says how far each layer is from its meaning in float64."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.fx import Graph, GraphModule, Node

from keras_triton.lowering import interpret

from .captured import Captured, OutputSpec
from .distance import Distance, distance, tolerance
from .provenance import GRADIENT, LAYER
from .report import WIDE
from .settings import Settings, settings
from .settings import Target as TargetName

SEED = 0
TIMES_ROUNDING = 10
"""How much further than op-by-op execution a value may be off: roundings in another order."""


@dataclass(frozen=True)
class VerifiedValue:
    """One value of a step: what the compiled step makes of it, against what it means.

    Attributes:
        kind: "layer": the last value that a layer hands on (of its backward pass, if the name ends in
            /grad). "result", "state", "gradient": what the step gives.
        name: the layer, the result's number or the variable.
        shape, dtype: of the value.
        distance: from its meaning in float64.
        rounding: how far op-by-op execution in the declared dtypes is from it, absolutely.
        ok: whether the distance is within the tolerance, or what rounding does anyway: a value that
            ought to be zero, such as the gradient of a bias before a normalization, has no magnitude
            to be near to.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    distance: Distance
    rounding: float
    ok: bool

    def cells(self) -> list[str]:
        """The columns of a table: what, how far, where, and what is there."""
        far = self.distance
        return [
            self.name if self.kind == "layer" else f"{self.kind} {self.name}",
            f"{far.relative:.1e}",
            f"{far.absolute:.1e}",
            f"{self.rounding:.1e}",
            ",".join(map(str, far.worst or ())),
            f"{self.dtype} {'×'.join(map(str, self.shape))}",
            f"{far.got:.6g}",
            f"{far.wanted:.6g}",
            f"{far.nans} of {far.wanted_nans}" if far.nans or far.wanted_nans else "",
        ]


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        step, target: what ran, on which target.
        tolerance: the largest relative distance of a value that counts as right.
        rows: the layers in the order they are computed, then results and states.
    """

    step: str
    target: str
    tolerance: float
    rows: tuple[VerifiedValue, ...]

    @property
    def ok(self) -> bool:
        """Whether every value is within the tolerance."""
        return all(row.ok for row in self.rows)

    @property
    def worst(self) -> VerifiedValue | None:
        """The value that is furthest off, relative to its magnitude."""
        return max(self.rows, key=lambda row: row.distance.relative, default=None)

    def json(self) -> str:
        return json.dumps({**asdict(self), "ok": self.ok}, indent=1)

    def print(self, console: Console | None = None) -> None:
        """The layers and results as a table, with the states and gradients that are furthest off;
        `rounding` is what op-by-op execution would be off, `worst` the place of the element that is.
        A narrow console gets fewer columns.
        """
        console = console or Console()
        wide = console.width >= WIDE
        right = "right" if self.ok else "NOT right"
        title = f"{self.step} on {self.target} is {right} within {self.tolerance:g}"
        table = Table(title=title, title_justify="left")
        extra = ("shape", "got", "wanted", "NaN") if wide else ()
        for name in ("value", "relative", "absolute", "rounding", "worst", *extra, ""):
            table.add_column(name, overflow="fold")
        for row in self._worth_showing():
            table.add_row(*row.cells()[: None if wide else 5], "" if row.ok else "FAR")
        console.print(table)
        hidden = len(self.rows) - table.row_count
        if hidden:
            console.print(f"and {hidden} states and gradients nearer than the last")

    def _worth_showing(self) -> list[VerifiedValue]:
        shown = [row for row in self.rows if row.kind in ("layer", "result")]
        rest = [row for row in self.rows if row.kind not in ("layer", "result")]
        rest.sort(key=lambda row: row.distance.relative, reverse=True)
        return shown + [row for i, row in enumerate(rest) if i == 0 or not row.ok]


def verify(model_or_fn: Any, *example: Any, target: TargetName | None = None) -> Verification:
    """How far the compiled values of a step or function are from what they mean.

    The reference is the captured graph interpreted op by op in float64. What reads a value of float32
    otherwise than the reference does (a comparison, an index) may differ by more than roundings.

    Args:
        model_or_fn: a Keras model, or a function of tensors, `jit`ted or not.
        example: a model takes `x` (its predict step is verified) or `x, y[, sample_weight]` (its
            train step); a function takes its arguments, and its gradients are verified too where
            they are enabled. The values matter.
        target: a target by name; if None the one that steps run on.

    Returns:
        A `Verification`: print it, or take its rows. Nothing is trained and no variable changes.

    Raises:
        CaptureError: the step cannot be captured; the sentence names the layer and the op.
        LoweringError: the captured step cannot be written in the dialect, so it has no reference.
        ValueError: targets for a model that was not compiled for training, or a target that cannot
            run here.
    """
    from .explanation import example_of

    options = settings()
    options = replace(options, target=target or options.target)
    called = example_of(model_or_fn, *example)
    captured = called.capture()
    tensors = iter(called.arguments.tensors)
    inputs = [tensor.detach().clone() for tensor in _inputs(captured, tensors)]
    found, exact = _run(captured, inputs, options)
    rows = found.rows
    if captured.backward is not None:
        backward = captured.backward
        places = {"input": inputs, "output": exact}
        saved = [places[kind][position] for kind, position in backward.saved]
        generator = torch.Generator().manual_seed(SEED)
        tangents = [_normal(exact[i], generator) for i in backward.results]
        rows += _run(backward.captured, [*saved, *tangents], options)[0].rows
    return replace(found, rows=rows)


def _inputs(captured: Captured, tensors: Iterator[torch.Tensor]) -> Iterator[Any]:
    """The tensors of the inputs of a captured step, from those of its arguments."""
    for spec in captured.inputs:
        if spec.tensor is not None:
            yield spec.tensor
        elif spec.variable is None:
            yield next(tensors)
        else:
            storage = spec.variable._value
            yield storage.grad if spec.kind == "gradient" else storage


def _normal(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    value = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    return value.to(like.dtype).to(like.device)


def _run(
    captured: Captured, inputs: Sequence[torch.Tensor], options: Settings
) -> tuple[Verification, list[torch.Tensor]]:
    """The distances of all values of a captured step, and the reference of its outputs."""
    from .compile import compile_quietly

    with_taps, taps = _tap(captured)
    exact = _reference(with_taps, inputs, exact=True)
    rounded = _reference(with_taps, inputs, exact=False)
    compiled = compile_quietly(captured, options)
    outputs = _seeded(compiled.program, inputs)
    tapped = _seeded(compile_quietly(with_taps, options).program, inputs)[len(outputs) :]
    allowed = tolerance(
        {value.dtype for node in captured.graph.graph.nodes for value in _values(node)}
    )
    names: list[tuple[str, str]] = [("layer", node.meta[LAYER]) for node in taps]
    outs: list[tuple[str, str]] = [
        (spec.kind, spec.name.removeprefix("result/")) for spec in captured.outputs
    ]
    order = [*range(len(outputs), len(exact)), *range(len(outputs))]
    rows = [
        _row(*what, value.cpu(), exact[i], rounded[i], allowed)
        for what, value, i in zip(names + outs, tapped + outputs, order, strict=True)
        if what[0] != "saved"
    ]
    report = compiled.report
    found = Verification(report.step, report.target, allowed, tuple(rows))
    return found, [value.to(inputs[0].device) for value in exact] if inputs else exact


def _row(
    kind: str,
    name: str,
    got: torch.Tensor,
    want: torch.Tensor,
    rounded: torch.Tensor,
    allowed: float,
) -> VerifiedValue:
    far, rounding = distance(got, want), distance(rounded, want).absolute
    ok = far.relative <= allowed or far.absolute <= TIMES_ROUNDING * rounding
    dtype = str(got.dtype).removeprefix("torch.")
    return VerifiedValue(kind, name, tuple(got.shape), dtype, far, rounding, ok)


def _values(node: Node) -> list[torch.Tensor]:
    value = node.meta.get("val")
    parts = value if isinstance(value, list | tuple) else [value]
    return [part for part in parts if isinstance(part, torch.Tensor)]


def _seeded(program: Any, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The outputs of a program, which may write to its inputs; torch draws the same numbers for all
    programs."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(SEED)
        return program([tensor.clone().contiguous() for tensor in inputs])


def _reference(
    captured: Captured, inputs: Sequence[torch.Tensor], *, exact: bool
) -> list[torch.Tensor]:
    """What a captured step means: in float64, or with every op rounded to its dtype."""
    from .compile import import_captured
    from .unsigned import signed_bytes

    module = import_captured(captured)

    def meaning(given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return interpret.run(module, [tensor.cpu() for tensor in given], exact=exact)

    return _seeded(signed_bytes(captured.graph, meaning), inputs)


def _tap(captured: Captured) -> tuple[Captured, list[Node]]:
    """The captured step with one more output for each layer, and the nodes of those outputs."""
    last: dict[str, Node] = {}
    for node in captured.graph.graph.nodes:
        if _is_handed_on(node):
            last[node.meta[LAYER]] = node
    graph = Graph()
    copies: dict[Node, Node] = {}
    returned: Any = graph.graph_copy(captured.graph.graph, copies)
    taps = list(last.values())
    graph.output([*returned, *(copies[node] for node in taps)])
    outputs = tuple(OutputSpec("result", node.meta[LAYER]) for node in taps)
    module = GraphModule(captured.graph, graph)
    return replace(captured, graph=module, outputs=(*captured.outputs, *outputs)), taps


def _is_handed_on(node: Node) -> bool:
    """Whether another layer, or nobody but the caller, reads a node's value, a tensor of floats. What
    a layer keeps for its own backward pass is not handed on.
    """
    value = node.meta.get("val")
    if node.op != "call_function" or not isinstance(value, torch.Tensor):
        return False
    own = (node.meta[LAYER], node.meta[LAYER] + GRADIENT)
    return value.is_floating_point() and any(
        user.op == "output" or user.meta[LAYER] not in own for user in node.users
    )
