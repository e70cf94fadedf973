"""Captured loops built by hand: graphs of one scan or while loop, with float64 meaning on torch.

Each case is what capture would hand over: a graph whose node calls a loop operator, its body a nested
graph traced from a function of tensors.
"""

import operator
from dataclasses import dataclass, field

import torch
from mlir import ir
from torch.fx.experimental.proxy_tensor import make_fx

from keras_triton.lowering.importer import ImportInput, import_graph
from keras_triton.torch_ops.loops import scan as SCAN
from keras_triton.torch_ops.loops import while_loop as WHILE


def meta(*shape, dtype=torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def traced(function, operands, layer="loop") -> torch.fx.GraphModule:
    """The nested graph of a function; `operands` give shapes and dtypes."""
    examples = [torch.zeros(x.shape, dtype=x.dtype) for x in operands]
    graph = make_fx(lambda *xs: list(function(*xs)), tracing_mode="fake")(*examples)
    graph.graph.eliminate_dead_code()
    for node in graph.graph.nodes:
        node.meta["keras_layer"] = layer
    return graph


@dataclass
class Case:
    """A loop: functions of tensors, and the types of what it is given.

    Attributes:
        body: (*carries, *places, *constants) -> (*carries, *stacked).
        carries, xs, constants: meta tensors; `xs` without the axis of places.
        length: 0 for a while loop, whose condition is `condition`.
        inner: loops that the body runs, by the name under which it takes their node.
    """

    body: object
    carries: list = field(default_factory=list)
    xs: list = field(default_factory=list)
    constants: list = field(default_factory=list)
    length: int = 0
    reverse: bool = False
    condition: object = None
    donated: dict = field(default_factory=dict)

    @property
    def operands(self) -> list[torch.Tensor]:
        stacked = [meta(self.length, *x.shape, dtype=x.dtype) for x in self.xs]
        return [*self.carries, *stacked, *self.constants]

    def inputs(self, seed: int = 0) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [
            torch.randn(x.shape, generator=generator)
            if x.is_floating_point()
            else torch.randint(0, 3, x.shape, generator=generator).to(x.dtype)
            for x in self.operands
        ]

    def expected(self, inputs) -> list[torch.Tensor]:
        """The results, floats in float64 throughout, rounded at the end."""
        wide = [x.double() if x.is_floating_point() else x for x in inputs]
        first, last = len(self.carries), len(self.carries) + len(self.xs)
        carries, xs, constants = wide[:first], wide[first:last], wide[last:]
        stacks: dict[int, list] = {}
        for step in range(self.length):
            place = self.length - 1 - step if self.reverse else step
            made = self.body(*carries, *(x[place] for x in xs), *constants)
            carries = list(made[:first])
            stacks[place] = list(made[first:])
        while self.condition and self.condition(*carries, *constants)[0]:
            carries = list(self.body(*carries, *constants))
        rows = [stacks[place] for place in sorted(stacks)]
        results = [*carries, *(torch.stack(column) for column in zip(*rows, strict=True))]
        return [x.float() if x.is_floating_point() else x for x in results]

    def graph(self) -> torch.fx.GraphModule:
        """The captured graph: the loop of all inputs, its results in order."""
        root, graph = torch.nn.Module(), torch.fx.Graph()
        nodes = []
        for i, x in enumerate(self.operands):
            nodes.append(graph.placeholder(f"input{i}"))
            nodes[-1].meta["val"] = x
        loop, results = add_loop(self, root, graph, nodes)
        taken = []
        for i, value in enumerate(results):
            taken.append(graph.call_function(operator.getitem, (loop, i)))
            taken[-1].meta["val"] = value
        graph.output(taken)
        return torch.fx.GraphModule(root, graph)

    def module(self) -> ir.Module:
        """The case as a module of stage "keras"."""
        names = [ImportInput(f"data/{i}") for i in range(len(self.operands))]
        return import_graph(self.graph(), names, self.donated)


def add_loop(case, root, graph, nodes):
    """Adds the loop's node over `nodes`; returns it and meta tensors of its results."""
    first, last = len(case.carries), len(case.carries) + len(case.xs)
    places = [*case.carries, *case.xs, *case.constants]
    root.body = case.body if isinstance(case.body, torch.nn.Module) else traced(case.body, places)
    body = graph.get_attr("body")
    groups = nodes[:first], nodes[first:last], nodes[last:]
    (returned,) = root.body.graph.find_nodes(op="output")[0].args
    made = [node.meta["val"] for node in returned]
    if case.condition is None:
        loop = graph.call_function(SCAN, (body, *groups, case.length, case.reverse))
        stacked = [meta(case.length, *x.shape, dtype=x.dtype) for x in made[first:]]
        results = [*case.carries, *stacked]
    else:
        root.condition = traced(case.condition, places)
        condition = graph.get_attr("condition")
        loop = graph.call_function(WHILE, (condition, body, groups[0], groups[2]))
        results = list(case.carries)
    loop.meta.update(val=tuple(results), keras_layer="loop")
    return loop, results


def lstm(h, c, x, kernel, recurrent, bias):
    i, f, g, o = (x @ kernel + h @ recurrent + bias).split(3, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return h, c, h


def lstm_case(length, reverse=False) -> Case:
    weights = [meta(2, 12), meta(3, 12), meta(12)]
    return Case(lstm, [meta(4, 3), meta(4, 3)], [meta(4, 2)], weights, length, reverse)


def halve(count, x, limit):
    """Collatz-like: the number of iterations depends on the data."""
    return count + 1, torch.where(x > 2.0, x * 0.5, x - 0.25)


CASES = {
    "lstm": lstm_case(5),
    "lstm in reverse": lstm_case(4, True),
    "one place": lstm_case(1, False),
    "two places": lstm_case(2, True),
    "no stacked results": Case(
        lambda h, x: (torch.tanh(h * 0.5 + x),), [meta(3, 2)], [meta(3, 2)], [], 6
    ),
    "no scanned tensors": Case(lambda h: (h * 0.5, h.sum(1)), [meta(3, 2)], [], [], 3),
    "no carries": Case(lambda x, w: (torch.tanh(x @ w),), [], [meta(3, 2)], [meta(2, 4)], 3),
    "carries change places": Case(lambda a, b: (b, a, a), [meta(4), meta(4)], [], [], 3),
    "old carry stacked": Case(lambda a, x: (a + x, a, x), [meta(4)], [meta(4)], [], 3),
    "old and new carry stacked": Case(
        lambda a, x: (lambda new: (new, new, a, new * 2))(torch.tanh(a + x)),
        [meta(2, 3)], [meta(2, 3)], [], 4,
    ),
    "old and new carry stacked in reverse": Case(
        lambda a, b, x: (lambda c, d: (c, d, b, c, a, d))(a @ x, torch.tanh(b) + x),
        [meta(3, 3), meta(3, 3)], [meta(3, 3)], [], 3, True,
    ),
    "donated carries": Case(
        lambda a, b, x: (a * 0.5 + x, torch.tanh(b @ x)),
        [meta(3, 3), meta(3, 3)], [meta(3, 3)], [], 3, donated={0: 0, 1: 1},
    ),
    "donated carry with its history": Case(
        lambda a, x: (a * 0.5 + x, a), [meta(3)], [meta(3)], [], 4, donated={0: 0}
    ),
    "donated carry read elsewhere": Case(
        lambda a, k: (a * 0.5 + k, k), [meta(3)], [], [meta(3)], 3, donated={1: 0}
    ),
    "product of a carry": Case(lambda h, w: (torch.tanh(h @ w),), [meta(3, 3)], [], [meta(3, 3)], 4),
    "product, odd count": Case(
        lambda h, w: (torch.tanh(h @ w), h), [meta(3, 3)], [], [meta(3, 3)], 3, True
    ),
    "unchanged carry": Case(
        lambda a, u, x: (a * u + x, u, a), [meta(4), meta(4)], [meta(4)], [], 3
    ),
    "constant stacked": Case(lambda a, k: (a + k, k, k * 2), [meta(4)], [], [meta(4)], 3),
    "sum to a scalar": Case(
        lambda s, x: (s + x.sum(), s * 2), [meta()], [meta(5)], [], 4, True
    ),
    "integers": Case(
        lambda n, x: (n + x, n * x), [meta(3, dtype=torch.int64)], [meta(3, dtype=torch.int64)], [], 4
    ),
    "while": Case(
        halve,
        [meta(dtype=torch.int64), meta(3)],
        [],
        [meta()],
        condition=lambda count, x, limit: ((x.max() > 1.0) & (count < 20),),
    ),
    "while that never runs": Case(
        lambda x: (x + 1,), [meta(2)], condition=lambda x: (x.sum() > 1e6,)
    ),
    "while of a swap": Case(
        lambda n, a, b: (n + 1, b, a),
        [meta(dtype=torch.int64), meta(2, 2), meta(2, 2)],
        condition=lambda n, a, b: (n < 7,),
    ),
    "while of a product": Case(
        lambda n, a, w: (n + 1, torch.tanh(a @ w)),
        [meta(dtype=torch.int64), meta(2, 2)],
        [],
        [meta(2, 2)],
        condition=lambda n, a, w: (n < 5,),
    ),
}  # fmt: skip


def _nested() -> Case:
    """A scan whose body scans the row that it is given: running sums of rows, and their total."""
    inner = Case(lambda s, x, k: (s + x * k, s - x), [meta(4)], [meta(4)], [meta()], 3, True)
    root, graph = torch.nn.Module(), torch.fx.Graph()
    kinds = {"total": meta(4), "row": meta(3, 4), "k": meta()}
    nodes = {name: graph.placeholder(name) for name in kinds}
    for name, node in nodes.items():
        node.meta["val"] = kinds[name]
    loop, results = add_loop(inner, root, graph, list(nodes.values()))
    taken = [graph.call_function(operator.getitem, (loop, i)) for i in range(len(results))]
    added = graph.call_function(torch.ops.aten.add.Tensor, (nodes["total"], taken[0]))
    for node, value in zip([*taken, added], [*results, meta(4)], strict=True):
        node.meta["val"] = value
    graph.output([added, taken[1], taken[0]])
    body = torch.fx.GraphModule(root, graph)
    return Case(body, [meta(4)], [meta(3, 4)], [meta()], 2)


class _Nested(Case):
    def expected(self, inputs):
        inner = Case(lambda s, x, k: (s + x * k, s - x), [meta(4)], [meta(4)], [meta()], 3, True)
        total, rows, k = (x.double() for x in inputs)
        stacks = []
        for row in rows:
            last, differences = inner.expected([total, row, k])
            total = total + last
            stacks.append((differences, last))
        results = [total, *map(torch.stack, zip(*stacks, strict=True))]
        return [x.float() for x in results]


_nested_case = _nested()
CASES["nested"] = _Nested(**vars(_nested_case))
