"""From a captured fx graph to a module of stage "keras", node by node through a table of rules."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import torch
from mlir import ir
from mlir.dialects import func

from . import dialect
from .build import OpBuilder, Value
from .errors import DialectError, ImportGraphError
from .extern import ATTRIBUTE, DROPPED, Extern, encode_args, target_name
from .import_loops import is_loop, loop_of_node
from .mlir import DTYPE_NAMES, SYMBOLIC, TensorType, context, number_of

Results: TypeAlias = Value | Sequence[Value | None]
Rule = TypeVar("Rule", bound=Callable[..., Results])
LAYER = "keras_layer"
SIZE = "size"


@dataclass(frozen=True)
class ImportInput:
    """A placeholder of the graph; `name` becomes the argument's `keras.name`."""

    name: str


class NoRule(Exception):
    """A rule declines a node; the text is the reason that its extern carries."""


RULES: dict[str, Callable[..., Results]] = {}


def rule(*targets: str) -> Callable[[Rule], Rule]:
    """Registers how ops such as "aten.add.Tensor" are written in the dialect.

    The rule gets a `Builder` and then the op's own arguments with MLIR values for tensors (layout,
    device and memory format left out). It returns a value for each result, None for an absent one,
    or raises NoRule before it builds anything.
    """

    def register(function: Rule) -> Rule:
        for target in targets:
            if target in RULES:
                raise ImportGraphError(f"{target} has two import rules")
            RULES[target] = function
        return function

    return register


class Builder(OpBuilder):
    """What a rule builds with: one node's expected results, and `keras` ops at the node's layer."""

    def __init__(self, node: torch.fx.Node, sources: dict[Value, Any], size: Value | None) -> None:
        self.node = node
        self.layer: str = node.meta.get(LAYER, "")
        super().__init__(location(self.layer), size)
        self.sources = sources

    @property
    def result(self) -> TensorType:
        """The type of the node's only (or first) result."""
        return self.results[0]

    @property
    def results(self) -> list[TensorType]:
        """The types of all results that are tensors."""
        return [TensorType.of_torch(fake) for fake in _fakes(self.node) if fake is not None]

    @property
    def opname(self) -> str:
        """The torch op's name without namespace and overload, e.g. "avg_pool2d"."""
        return target_name(self.node.target).split(".")[1]

    def common_dtype(self, *operands: Value | float) -> str:
        """The element type torch computes in when these meet."""
        first, second = map(_stand_in, (operands * 2)[:2])
        return DTYPE_NAMES[torch.result_type(first, second)]


def location(layer: str) -> ir.Location:
    """The location that names a Keras layer ("" names none)."""
    return ir.Location.name(layer) if layer else ir.Location.unknown()


def _stand_in(operand: Value | float) -> torch.Tensor | float:
    """torch's promotion looks at dtype and at whether there is an axis at all."""
    if not isinstance(operand, ir.Value):
        return operand
    kind = TensorType.of(operand)
    return torch.empty((1,) if kind.rank else (), dtype=kind.torch_dtype, device="meta")


def _fakes(node: torch.fx.Node) -> list[torch.Tensor | None]:
    """The node's results; None stands where one is no tensor (a gradient nobody asked for)."""
    fake = node.meta.get("val")
    fakes = fake if isinstance(fake, list | tuple) else [fake]
    return [item if isinstance(item, torch.Tensor) else None for item in fakes]


def _is_number(node: torch.fx.Node) -> bool:
    """Whether a node is a number that depends on an open size."""
    return isinstance(node.meta.get("val"), SYMBOLIC)


def _used(node: torch.fx.Node) -> set[int]:
    """Which of a node's results the graph reads."""
    if isinstance(node.meta.get("val"), torch.Tensor):
        return {0}
    return {_taken(user)[1] for user in node.users if user.target is operator.getitem}


def _taken(getitem: torch.fx.Node) -> tuple[torch.fx.Node, int]:
    """The node whose result a getitem takes, and the result's number."""
    node, number = getitem.args
    assert isinstance(node, torch.fx.Node)
    assert isinstance(number, int)
    return node, number


def import_graph(
    graph: torch.fx.GraphModule,
    inputs: Sequence[ImportInput],
    donated: Mapping[int, int],
    *,
    sized: bool = False,
) -> ir.Module:
    """The module of stage "keras" that computes what the graph does.

    Args:
        graph: functional aten and keras_triton ops, and loops whose bodies are graphs of the same
            kind; static fake tensors in `meta["val"]`, the Keras layer in `meta["keras_layer"]`.
        inputs: one for each placeholder.
        donated: argument -> result that is its new value.
        sized: whether a size is left open (sizes.py). The module takes it as a last argument then,
            a tensor<i64> named "size".

    Raises:
        ImportGraphError: a value of a dtype the dialect lacks, or a node that is no call of a torch
            op.
        SizeError: a number is not computed from the open size by sums and products.
    """
    from . import importer_rules  # noqa: F401  (fills RULES)

    count = len(graph.graph.find_nodes(op="placeholder"))
    if count != len(inputs):
        raise ImportGraphError(f"the graph has {count} inputs, but {len(inputs)} are described")
    with context(), ir.Location.unknown():
        functions = ModuleFunctions()
        main = functions.define("main", graph, sized=sized)
        described = [*inputs, ImportInput(SIZE)] if sized else inputs
        main.arg_attrs = ir.ArrayAttr.get(
            [_described(item, donated.get(i)) for i, item in enumerate(described)]
        )
        return functions.module


def _described(item: ImportInput, donated: int | None) -> ir.Attribute:
    attributes = {"keras.name": ir.StringAttr.get(item.name)}
    if donated is not None:
        attributes["keras.donated"] = dialect.to_attribute(donated)
    return ir.DictAttr.get(attributes)


class ModuleFunctions:
    """A module under construction: its functions, with names that are numbered a kind."""

    def __init__(self) -> None:
        self.module = ir.Module.create()
        self.module.operation.attributes["keras.stage"] = ir.StringAttr.get("keras")
        self._numbers: dict[str, int] = {}
        self._main: func.FuncOp | None = None

    def fresh(self, kind: str) -> str:
        """A new name such as "ext0"."""
        number = self._numbers.setdefault(kind, 0)
        self._numbers[kind] += 1
        return f"{kind}{number}"

    def declare(
        self,
        name: str,
        operands: Sequence[ir.Type],
        results: Sequence[ir.Type],
        attribute: str,
        value: ir.Attribute,
    ) -> None:
        """Adds a private declaration with one attribute."""
        declared = self.add(name, operands, results)
        declared.operation.attributes[attribute] = value

    def add(
        self, name: str, operands: Sequence[ir.Type], results: Sequence[ir.Type]
    ) -> func.FuncOp:
        """A function without a body; all but `@main`, which stands last, are private."""
        kind, end = (list(operands), list(results)), ir.InsertionPoint(self.module.body)
        if name == "main":
            self._main = func.FuncOp(name, kind, ip=end)
            return self._main
        before = ir.InsertionPoint(self._main) if self._main else end
        return func.FuncOp(name, kind, visibility="private", ip=before)

    def define(self, name: str, graph: torch.fx.GraphModule, *, sized: bool = False) -> func.FuncOp:
        """Adds the function that computes what a graph does; `sized`: it takes the open size too."""
        return _FunctionImporter(self, graph).define(name, sized)


class _FunctionImporter:
    """The state of one function's import: the values of the nodes so far."""

    def __init__(self, functions: ModuleFunctions, graph: torch.fx.GraphModule) -> None:
        self.functions, self.graph = functions, graph
        self.values: dict[torch.fx.Node, Results | int] = {}
        # What later rules may look up about a value that its type does not say.
        self.sources: dict[Value, Any] = {}
        self.size: Value | None = None

    def define(self, name: str, sized: bool) -> func.FuncOp:
        nodes = list(self.graph.graph.nodes)
        placeholders = [node for node in nodes if node.op == "placeholder"]
        numbers = [node for node in placeholders if _is_number(node)]
        self.values.update((node, number_of(node.meta["val"])) for node in numbers)
        placeholders = [node for node in placeholders if node not in numbers]
        (output,) = (node for node in nodes if node.op == "output")
        (returned,) = output.args
        returned = list(returned) if isinstance(returned, list | tuple) else [returned]
        types = [self._type(node).to_mlir() for node in placeholders]
        result_types = [self._type(node).to_mlir() for node in returned]
        types += [TensorType((), "i64").to_mlir()] * sized
        made = self.functions.add(name, types, result_types)
        block = made.add_entry_block()
        given = list(block.arguments)
        self.size = given.pop() if sized else None
        self.values.update(zip(placeholders, given, strict=True))
        with ir.InsertionPoint(block):
            for node in nodes:
                bodies = node.op == "get_attr" and all(map(is_loop, node.users))
                if node.op not in ("placeholder", "output") and not bodies:
                    self.values[node] = self._import(node)
            func.ReturnOp([self._value(node) for node in returned])
        return made

    def _import(self, node: torch.fx.Node) -> Results | int:
        if _is_number(node):
            return number_of(node.meta["val"])
        if node.op != "call_function":
            raise ImportGraphError(f"{_where(node)}: a graph holds calls only, not {node.op}")
        if node.target is operator.getitem:
            source, number = _taken(node)
            values = self.values[source]
            assert isinstance(values, Sequence)
            return values[number]
        if is_loop(node):
            return self._by_loop(node)
        types = self._types(node)
        try:
            results = self._by_rule(node, types)
        except NoRule as refusal:
            return self._by_extern(node, types, str(refusal))
        self._check(node, types, results)
        return results

    def _by_rule(self, node: torch.fx.Node, types: Sequence[TensorType | None]) -> Results:
        name = target_name(node.target)
        if name not in RULES:
            raise NoRule(f"no dialect op for {name}")
        results = [kind for i, kind in enumerate(types) if i in _used(node)]
        operands = [kind for source in node.all_input_nodes for kind in self._types(source)]
        known = [kind for kind in (*results, *operands) if kind is not None]
        if any(kind.size == 0 for kind in known):
            raise NoRule(f"{name} on a tensor of no elements")
        opaque = [str(kind.torch_dtype).removeprefix("torch.") for kind in known if kind.is_opaque]
        if opaque:
            raise NoRule(f"{name} on {opaque[0]}")
        args = torch.fx.map_arg(node.args, self.values.__getitem__)
        kwargs = torch.fx.map_arg(node.kwargs, self.values.__getitem__)
        kept = {k: v for k, v in kwargs.items() if k not in (*DROPPED, "device")}
        try:
            return RULES[name](Builder(node, self.sources, self.size), *args, **kept)
        except DialectError as error:
            raise ImportGraphError(f"{_where(node)}: {error}") from error

    def _check(
        self, node: torch.fx.Node, types: Sequence[TensorType | None], results: Results
    ) -> None:
        """A rule that builds another type than torch computes is a mistake of ours."""
        made = [results] if isinstance(results, ir.Value) else list(results)
        for value, expected in zip(made, types, strict=True):
            if value is not None and TensorType.of(value) != expected:
                raise ImportGraphError(
                    f"{_where(node)}: imported as {TensorType.of(value)}, torch gives {expected}"
                )

    def _by_extern(
        self, node: torch.fx.Node, types: Sequence[TensorType | None], reason: str
    ) -> Results:
        """A call of a new private declaration."""
        operands = [x for x in node.all_input_nodes if not _is_number(x)]

        def sizes_known(value: torch.fx.Node) -> Any:
            return value if value in operands else self.values[value]

        args = encode_args(
            torch.fx.map_arg(node.args, sizes_known),
            torch.fx.map_arg(node.kwargs, sizes_known),
            lambda value: operands.index(value) if isinstance(value, torch.fx.Node) else None,
        )
        extern = Extern(target_name(node.target), args, reason)
        results = [kind.to_mlir() for kind in types if kind is not None]
        given = [self._value(operand) for operand in operands]
        name = self.functions.fresh("ext")
        made = iter(self._call(node, name, given, results, ATTRIBUTE, extern.to_attribute()))
        values = [None if kind is None else next(made) for kind in types]
        return values[0] if isinstance(node.meta["val"], torch.Tensor) else values

    def _by_loop(self, node: torch.fx.Node) -> Results:
        """A call of a new private declaration that names functions made of the loop's graphs."""
        found = loop_of_node(node)
        name = self.functions.fresh(found.kind)
        bodies = {role: f"{name}_{role}" for role in found.graphs}
        for role, graph in found.graphs.items():
            self.functions.define(bodies[role], getattr(self.graph, graph))
        given = [self._value(operand) for operand in found.operands if not _is_number(operand)]
        results = [self._type(node, i).to_mlir() for i in range(len(node.meta["val"]))]
        loop = found.loop(bodies, self._number)
        return self._call(node, name, given, results, f"keras.{found.kind}", loop.to_attribute())

    def _call(
        self,
        node: torch.fx.Node,
        name: str,
        operands: Sequence[Value],
        results: Sequence[ir.Type],
        attribute: str,
        value: ir.Attribute,
    ) -> list[Value]:
        """Declares `name` and calls it at the node's layer."""
        self.functions.declare(name, [x.type for x in operands], results, attribute, value)
        loc = location(node.meta.get(LAYER, ""))
        called = func.CallOp(list(results), ir.FlatSymbolRefAttr.get(name), list(operands), loc=loc)
        return list(called.operation.results)

    def _number(self, given: Any) -> int:
        """A number of the graph, or the node that computes it."""
        number = self.values[given] if isinstance(given, torch.fx.Node) else given
        assert isinstance(number, int)
        return number

    def _value(self, node: torch.fx.Node) -> Value:
        """What a node of one result computes."""
        value = self.values[node]
        assert isinstance(value, ir.Value)
        return value

    def _type(self, node: torch.fx.Node, number: int = 0) -> TensorType:
        """The type of a result that must be a tensor."""
        kind = self._types(node)[number]
        if kind is None:
            raise ImportGraphError(f"{_where(node)}: inputs and outputs must be tensors")
        return kind

    def _types(self, node: torch.fx.Node) -> list[TensorType | None]:
        types: list[TensorType | None] = []
        for fake in _fakes(node):
            try:
                types.append(None if fake is None else TensorType.of_torch(fake))
            except DialectError as error:
                raise ImportGraphError(f"{_where(node)}: {error}") from None
        return types


def _where(node: torch.fx.Node) -> str:
    layer = node.meta.get(LAYER, "")
    return f"{node.target} ({node.name}){f' in layer {layer}' if layer else ''}"
