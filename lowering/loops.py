"""Loops of a module: calls of private declarations that name their bodies, functions of the module.

`@scan0` with `keras.scan = {body, carries, scanned, length, reverse}` takes the initial carries, the
scanned tensors (whose first axis has `length` places) and the constants; it returns the final carries
and then, stacked on a new first axis, what the body gives at each place. The body takes carries, one
place of each scanned tensor, and the constants; it returns new carries and then values to be stacked.
In reverse the places are visited from the last to the first.

`@while0` with `keras.while = {condition, body}` takes the carries and the constants and returns the
carries as they are when the condition first fails. Condition and body take both; the condition returns
one i1, the body new carries.

These attributes stand in the stages keras, linalg and regions; a plan holds scf.for and scf.while.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlir import ir

from .errors import DialectError
from .mlir import TensorType, callee, functions, layer_of
from .sizes import extent

SCAN, WHILE = "keras.scan", "keras.while"


@dataclass(frozen=True)
class Scan:
    """What `keras.scan` says; `carries` and `scanned` count operands."""

    body: str
    carries: int
    scanned: int
    length: int
    reverse: bool

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions it runs."""
        return (self.body,)

    def place(self, step: int) -> int:
        """Where in the scanned tensors the iteration number `step` is."""
        return self.length - 1 - step if self.reverse else step

    def to_attribute(self) -> ir.Attribute:
        """The dictionary attribute, in the current context."""
        return ir.Attribute.parse(
            f"{{body = @{self.body}, carries = {self.carries} : i64, scanned = {self.scanned} : i64, "
            f"length = {self.length} : i64, reverse = {str(self.reverse).lower()}}}"
        )


@dataclass(frozen=True)
class While:
    """What `keras.while` says."""

    condition: str
    body: str

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions it runs."""
        return self.condition, self.body

    def to_attribute(self) -> ir.Attribute:
        """The dictionary attribute, in the current context."""
        return ir.Attribute.parse(f"{{condition = @{self.condition}, body = @{self.body}}}")


def loop_of(function: ir.OpView) -> Scan | While | None:
    """The loop that a declaration stands for, or None for any other function.

    Raises:
        DialectError: a field of the attribute is absent or of another kind.
    """
    attributes = function.operation.attributes
    name = next((name for name in (SCAN, WHILE) if name in attributes), None)
    if name is None:
        return None
    try:
        fields = ir.DictAttr(attributes[name])
        body = ir.FlatSymbolRefAttr(fields["body"]).value
        if name == WHILE:
            return While(ir.FlatSymbolRefAttr(fields["condition"]).value, body)
        carries, scanned, length = (
            extent(ir.IntegerAttr(fields[key]).value) for key in ("carries", "scanned", "length")
        )
        return Scan(body, carries, scanned, length, ir.BoolAttr(fields["reverse"]).value)
    except (KeyError, ValueError):
        raise DialectError(
            f"@{_name(function)}: {name} = {attributes[name]} does not name "
            f"{'condition and body' if name == WHILE else 'body, carries, scanned, length, reverse'}"
        ) from None


def carries_of(function: ir.OpView) -> int:
    """How many of a loop's first operands are carries, whose final values are its first results."""
    loop = loop_of(function)
    return loop.carries if isinstance(loop, Scan) else len(function.type.results)


def code(module: ir.Module) -> dict[str, ir.OpView]:
    """The functions that passes rewrite alike: bodies and conditions of loops, and then `@main`."""
    known = functions(module)
    run = bodies(known)
    return {name: known[name] for name in known if name in run} | {"main": known["main"]}


def donations(known: Mapping[str, ir.OpView]) -> dict[str, dict[int, int]]:
    """For `@main` and the functions that loops run: argument -> the result that is its new value.

    `@main` says so itself (`keras.donated`); in a body, carries come first among both.
    """
    found = {name: {i: i for i in range(count)} for name, count in bodies(known).items()}
    attributes = known["main"].operation.attributes
    entries = attributes.get("arg_attrs", ())
    found["main"] = {
        index: ir.IntegerAttr(entry["keras.donated"]).value
        for index, entry in enumerate(entries)
        if "keras.donated" in entry
    }
    return found


def bodies(known: Mapping[str, ir.OpView]) -> dict[str, int]:
    """The functions that loops run, and how many carries each has: its first arguments, whose new
    values are its first results (a condition's have none).
    """
    found: dict[str, int] = {}
    for function in known.values():
        loop = loop_of(function)
        if isinstance(loop, Scan):
            found[loop.body] = carries_of(function)
        elif isinstance(loop, While):
            found |= {loop.condition: 0, loop.body: carries_of(function)}
    return found


def reachable(known: Mapping[str, ir.OpView], start: str = "main") -> set[str]:
    """The functions that `start` calls or runs, at any depth, itself included."""
    found: set[str] = set()
    pending = [start]
    while pending:
        name = pending.pop()
        if name in found or name not in known:
            continue
        found.add(name)
        loop = loop_of(known[name])
        pending += [*(loop.functions if loop else ()), *_called(known[name])]
    return found


def verify(module: ir.Module) -> None:
    """Checks every loop of a module against the functions that it names.

    Raises:
        DialectError: one sentence with the loop, the types and the Keras layer.
    """
    known = functions(module)
    loops = {name: loop for name, function in known.items() if (loop := loop_of(function))}
    if not loops:
        return
    calls = {name: op for function in known.values() for name, op in _calls(function)}
    for name, loop in loops.items():
        function, where = known[name], layer_of(calls[name]) if name in calls else ""
        try:
            _verify(loop, function, known)
        except DialectError as problem:
            shown = f"@{name}{f' in layer {where}' if where else ''}"
            raise DialectError(f"{shown}: {problem}") from None


def _verify(loop: Scan | While, function: ir.OpView, known: Mapping[str, ir.OpView]) -> None:
    if function.regions[0].blocks:
        raise DialectError("a loop is a declaration; what it runs stands in its body's function")
    for name in loop.functions:
        if name not in known or not known[name].regions[0].blocks:
            raise DialectError(f"the module has no function @{name} with a body")
        if _name(function) in reachable(known, name):
            raise DialectError(f"@{name} runs the loop that it is part of")
    given, made = _arguments(function), _results(function)
    if isinstance(loop, Scan):
        _verify_scan(loop, known[loop.body], given, made)
    else:
        _verify_while(loop, known, given, made)


def _verify_scan(
    loop: Scan, body: ir.OpView, given: Sequence[TensorType], made: Sequence[TensorType]
) -> None:
    if loop.length < 1 or min(loop.carries, loop.scanned) < 0:
        raise DialectError(
            f"a scan has a length of at least 1 and no negative counts, not {loop.length} places, "
            f"{loop.carries} carries and {loop.scanned} scanned tensors"
        )
    last = loop.carries + loop.scanned
    if len(given) < last or len(made) < loop.carries:
        raise DialectError(
            f"{loop.carries} carries and {loop.scanned} scanned tensors need as many operands and a "
            f"result a carry, not {len(given)} operands and {len(made)} results"
        )
    carried, scanned = given[: loop.carries], given[loop.carries : last]
    if any(kind.shape[:1] != (loop.length,) for kind in scanned):
        shown = _shown(scanned)
        raise DialectError(f"scanned tensors have a first axis of {loop.length}, not {shown}")
    taken = [*carried, *(kind.with_shape(kind.shape[1:]) for kind in scanned), *given[last:]]
    _expect(body, "takes", taken, _arguments(body))
    stacked = _results(body)[loop.carries :]
    _expect(body, "returns", [*carried, *stacked], _results(body))
    wanted = [
        *carried, *(kind.with_shape((loop.length, *kind.shape)) for kind in stacked),
    ]  # fmt: skip
    if list(made) != wanted:
        raise DialectError(f"its results are {_shown(wanted)}, not {_shown(made)}")


def _verify_while(
    loop: While,
    known: Mapping[str, ir.OpView],
    given: Sequence[TensorType],
    made: Sequence[TensorType],
) -> None:
    condition, body = known[loop.condition], known[loop.body]
    if list(made) != list(given[: len(made)]):
        raise DialectError(f"its results are its first operands, not {_shown(made)}")
    for function in (condition, body):
        _expect(function, "takes", given, _arguments(function))
    _expect(condition, "returns", [TensorType((), "i1")], _results(condition))
    _expect(body, "returns", made, _results(body))


def _expect(
    function: ir.OpView, verb: str, wanted: Sequence[TensorType], found: Sequence[TensorType]
) -> None:
    if list(wanted) != list(found):
        raise DialectError(f"@{_name(function)} {verb} {_shown(found)}, not {_shown(wanted)}")


def _shown(kinds: Sequence[TensorType]) -> str:
    return f"({', '.join(map(str, kinds))})"


def _arguments(function: ir.OpView) -> list[TensorType]:
    return [TensorType.of(kind) for kind in function.type.inputs]


def _results(function: ir.OpView) -> list[TensorType]:
    return [TensorType.of(kind) for kind in function.type.results]


def _name(function: ir.OpView) -> str:
    return ir.StringAttr(function.operation.attributes["sym_name"]).value


def _calls(function: ir.OpView) -> Iterator[tuple[str, ir.Operation]]:
    for block in function.regions[0].blocks:
        for view in block.operations:
            if view.operation.name == "func.call":
                yield callee(view.operation), view.operation


def _called(function: ir.OpView) -> list[str]:
    return [name for name, _ in _calls(function)]
