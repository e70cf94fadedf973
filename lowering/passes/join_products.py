"""join-products: products that are added up become one kernel, and the sums of a product's right
operand's columns join its kernel.

The gradient by the input of three projections is three products and two additions; one accumulator
takes all three. The gradient by a bias adds up the columns of what the gradient by the kernel reads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from keras_triton.kernels import spec

from ..dialect import attributes_of, walk
from ..emit_triton.gates import problem_of_gates
from ..emit_triton.products import problem_of_products
from ..emit_triton.template import problem_of
from ..errors import RegionError, SizeError
from ..fusion.graph import RESHAPES
from ..fusion.joined import Made, Part, attributes_of_kernels, join
from ..gates import is_product
from ..linalg.body import EXTENSION, TRUNCATION, Body
from ..linalg.write import Writer, refinement
from ..loops import code
from ..mlir import TensorType, callee, context, copied, functions, parse, text
from ..products import KINDS, PRODUCTS, column_sums, read_products
from ..region import kernel_kind
from .base import Pass

_PROBLEMS = {"products": problem_of_products, "gates": problem_of_gates}
_SUFFIX = re.compile(r"_of_\d+$")


@dataclass(frozen=True)
class JoinProducts(Pass):
    """Option `products`: whether a kernel may hold several; without, nothing changes."""

    name: ClassVar[str] = "join-products"
    takes: ClassVar[str] = "regions"
    gives: ClassVar[str] = "regions"

    products: bool = True

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        if not self.products:
            return module
        with context(), ir.Location.unknown():
            rewritten = copied(module)
            callers = code(rewritten)
            ops = (op for f in callers.values() for op in f.regions[0].blocks[0].operations)
            shared = {name for name, uses in Counter(map(callee, ops)).items() if uses > 1}
            for function in callers.values():
                _Joining(rewritten, function, shared).run()
            return parse(text(rewritten))


class _Joining:
    """The joins in one caller, of kernels that nobody shares."""

    def __init__(self, module: ir.Module, caller: ir.OpView, shared: Set[str]) -> None:
        self.caller, self.shared = caller, shared
        self.known = functions(module)
        *ops, _ = (view.operation for view in caller.regions[0].blocks[0].operations)
        # By its first result, as an op's own hash changes with its operands.
        self.place = {op.results[0]: number for number, op in enumerate(ops) if op.results}

    def run(self) -> None:
        for call in self._calls(KINDS):
            self._add_up(call)
        rights = self._right_operands()
        for call in self._calls(("loop",)):
            self._add_columns(call, rights)
        for call in self._calls(("loop",)):
            self._open_gates(call)

    def _calls(self, kinds: Collection[str]) -> list[ir.Operation]:
        ops = [value.owner for value in self.place]
        return [op for op in ops if self._kind(op) in kinds]

    def _kind(self, op: ir.Operation) -> str:
        function = self.known.get(callee(op))
        return "" if function is None or callee(op) in self.shared else kernel_kind(function)

    # Products that are added up.

    def _add_up(self, call: ir.Operation) -> None:
        """Joins the products that a product's kernel adds to its own."""
        for value in list(call.operands):
            maker = value.owner
            if isinstance(maker, ir.Block) or self._kind(maker) not in KINDS:
                continue
            if len(maker.results) > 1 or len(list(value.uses)) > 1:
                continue
            inputs = [Made(0, 0) if v == value else v for v in call.operands]
            kernels = [self.known[callee(op)] for op in (maker, call)]
            parts = [Part(kernels[0], list(maker.operands)), Part(kernels[1], inputs)]
            returned = [Made(1, i) for i in range(len(call.results))]
            count = sum(op.name in PRODUCTS for kernel in kernels for op in walk(kernel.operation))
            made = self._joined(call, f"of_{count}", parts, returned)
            if made is not None:
                self._erase(maker)
                call = made

    def _joined(
        self,
        call: ir.Operation,
        suffix: str,
        parts: Sequence[Part],
        returned: Sequence[Made],
        kind: str = "products",
    ) -> ir.Operation | None:
        """Calls a kernel of these parts in place of `call`, whose results are its first; None if the
        template does not run it.
        """
        name = f"{re.sub(_SUFFIX, '', callee(call))}_{suffix}"
        joined = join(name, parts, returned, ir.InsertionPoint(self.caller))
        try:
            refused = spec.get(kind).supports(_PROBLEMS[kind](joined.function))
        except (RegionError, SizeError) as error:
            refused = str(error)
        if refused:
            joined.function.operation.erase()
            return None
        attributes = joined.function.operation.attributes
        attributes["keras.kernel"] = ir.StringAttr.get(kind)
        for key, value in attributes_of_kernels([part.function for part in parts]).items():
            attributes[key] = value
        self.known[name] = joined.function
        made = ir.Operation.create(
            "func.call",
            results=list(joined.function.type.results),
            operands=list(joined.parameters),
            attributes={"callee": ir.FlatSymbolRefAttr.get(name)},
            loc=call.location,
            ip=ir.InsertionPoint(call),
        ).operation
        self.place[made.results[0]] = self.place[call.results[0]]
        for old, new in zip(call.results, made.results, strict=False):
            old.replace_all_uses_with(new)
        self._erase(call)
        return made

    def _erase(self, call: ir.Operation) -> None:
        """Erases a call, which nothing reads, and its kernel."""
        kernel = self.known.pop(callee(call))
        del self.place[call.results[0]]
        call.erase()
        kernel.operation.erase()

    # Sums of columns.

    def _right_operands(self) -> dict[ir.Value, list[ir.Operation]]:
        """For each value the products of which it is the right operand, however it is shaped."""
        found: dict[ir.Value, list[ir.Operation]] = {}
        for call in self._calls(KINDS):
            right = _right_operand(self.known[callee(call)])
            if right is not None:
                found.setdefault(_root(call.operands[right]), []).append(call)
        return found

    def _add_columns(self, call: ir.Operation, rights: dict[ir.Value, list[ir.Operation]]) -> None:
        """Joins a kernel that adds up columns to the products whose right operands they are of."""
        kernel = self.known[callee(call)]
        sums = column_sums(kernel)
        if sums is None:
            return
        block = kernel.regions[0].blocks[0]
        place = {argument: i for i, argument in enumerate(block.arguments)}
        returned = list(list(block.operations)[-1].operands)
        products: dict[ir.Value, ir.Operation] = {}
        for result, value in zip(call.results, returned, strict=True):
            for product in rights.get(_root(call.operands[place[sums[value]]]), []):
                if product not in products.values() and self._precedes(product, result):
                    products[result] = product
                    break
        if len(products) < len(call.results):
            return
        for result, product in products.items():
            for listed in rights.values():
                if product in listed:
                    listed.remove(product)
            self._join_sums(product, result)
        self._erase(call)

    def _precedes(self, product: ir.Operation, sums: ir.Value) -> bool:
        """Whether all that reads the sums stands after a product."""
        after = self.place[product.results[0]]
        return all(not op.results or self.place[op.results[0]] > after for op in _readers(sums))

    def _join_sums(self, product: ir.Operation, result: ir.Value) -> None:
        """Has a product's kernel give `result` too, the sums of its right operand's columns."""
        kernel = self.known[callee(product)]
        right = _right_operand(kernel)
        assert right is not None
        operand = product.operands[right]
        holder = parse(_summing(TensorType.of(operand), TensorType.of(result).dtype))
        (summing,) = functions(holder).values()
        parts = [Part(kernel, list(product.operands)), Part(summing, [operand])]
        returned = [*(Made(0, i) for i in range(len(product.results))), Made(1, 0)]
        made = self._joined(product, "sums", parts, returned)
        assert made is not None  # the template adds up the columns of any such product
        ordered = [made]
        sums = list(made.results)[-1]
        if result.type != sums.type:
            ordered.append(_expanded(sums, TensorType.of(result), made))
            sums = ordered[-1].results[0]
        result.replace_all_uses_with(sums)
        for op in _reshapes(sums):
            if self.place.get(op.results[0], 0) < self.place[made.results[0]]:
                op.move_after(ordered[-1])
                ordered.append(op)

    # Blocks of columns that are read at once.

    def _open_gates(self, call: ir.Operation) -> None:
        """Joins loops over one of the equal blocks of a product's columns to the product's kernel."""
        for value in dict.fromkeys(call.operands):
            maker = value.owner
            if isinstance(maker, ir.Block) or self._kind(maker) != "matmul":
                continue
            kernels = [self.known[callee(op)] for op in (maker, call)]
            others = [op for op in _readers(value) if op != call]
            after = self.place[call.results[0]]
            early = any(op.results and self.place[op.results[0]] < after for op in others)
            if early or not is_product(kernels[0]):
                continue
            inputs = [Made(0, 0) if v == value else v for v in call.operands]
            parts = [Part(kernels[0], list(maker.operands)), Part(kernels[1], inputs)]
            returned = [Made(1, i) for i in range(len(call.results))]
            kept = [Made(0, 0)] * bool(others)
            made = self._joined(call, "gates", parts, [*returned, *kept], "gates")
            if made is not None:
                value.replace_all_uses_with(list(made.results)[-1]) if kept else None
                self._erase(maker)
                return


def _right_operand(function: ir.OpView) -> int | None:
    """Which argument of a kernel of one product its template can add up the columns of."""
    try:
        (instance,) = read_products(function)
        (product,) = instance.products
    except (RegionError, ValueError):
        return None
    if instance.sums is not None or product.name != "keras.matmul":
        return None
    if attributes_of(product)["transpose_b"] or spec.get("matmul").supports(
        problem_of(product, "matmul")
    ):
        return None
    return list(function.regions[0].blocks[0].arguments).index(product.operands[1])


def _root(value: ir.Value) -> ir.Value:
    """The value of which one is another shape."""
    while not isinstance(value.owner, ir.Block) and value.owner.name in RESHAPES:
        value = value.owner.operands[0]
    return value


def _reshapes(value: ir.Value) -> Iterator[ir.Operation]:
    """The reshapes of a value, and those of theirs after them."""
    for use in value.uses:
        if use.owner.name in RESHAPES:
            yield use.owner.operation
            yield from _reshapes(use.owner.results[0])


def _readers(value: ir.Value) -> Iterator[ir.Operation]:
    """The ops that read a value, however it is shaped."""
    for use in value.uses:
        if use.owner.name in RESHAPES:
            yield from _readers(use.owner.results[0])
        else:
            yield use.owner.operation


def _summing(matrix: TensorType, dtype: str) -> str:
    """A module of one function that adds up the columns of a matrix, in float32."""
    writer, body = Writer(), Body()
    value = body.read("matrix", (1, 0), matrix.dtype)
    if matrix.dtype != "f32":
        value = body.add(EXTENSION, (value,), ("f32",))
    columns = TensorType(matrix.shape[1:], "f32")
    named = ("%matrix", matrix)
    made = writer.generic(
        body, value, columns, matrix.shape[::-1], lambda _: named, combiner="arith.addf", op="sum"
    )
    if dtype != "f32":
        cast, whole = Body(), (made, columns)
        value = cast.add(TRUNCATION, (cast.read("sums", (0,), "f32"),), (dtype,))
        columns = columns.with_dtype(dtype)
        made = writer.generic(cast, value, columns, columns.shape, lambda _: whole, op="cast")
    writer.op("func.return", [(made, columns)], [], "", "")
    head = f"func.func private @sums(%matrix: {matrix}) -> {columns} {{"
    return "\n".join(['module attributes {keras.stage = "regions"} {', head, *writer.lines, "}}"])


def _expanded(value: ir.Value, kind: TensorType, after: ir.Operation) -> ir.Operation:
    """A vector in another shape, right behind an op."""
    _, _, groups = refinement(TensorType.of(value).shape, kind.shape)
    whole = ir.IntegerType.get_signless(64)
    made = ir.Operation.create(
        "tensor.expand_shape",
        results=[kind.to_mlir()],
        operands=[value],
        attributes={
            "reassociation": ir.ArrayAttr.get(
                [ir.ArrayAttr.get([ir.IntegerAttr.get(whole, i) for i in g]) for g in groups]
            ),
            "static_output_shape": ir.DenseI64ArrayAttr.get(list(kind.shape)),
        },
        loc=after.location,
        ip=ir.InsertionPoint(after),
    )
    made.operation.move_after(after)
    return made.operation
