"""A model's head: a last product whose rows are logits, their cross-entropy, and the gradients of both.

`find_head` reads one off the ops of stage "keras", through the reshapes and casts between. What it finds is
all that touches the logits and their gradient, so that neither needs to be anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from mlir import ir

from .build import Value
from .dialect import attributes_of, walk
from .errors import LoweringError
from .mlir import TensorType, layer_of

LOSS, GRAD = "keras.cross_entropy", "keras.cross_entropy_grad"


ATTRIBUTE = "keras.logits"
"""On `@main`: a sentence for each cross-entropy that says what became of its logits."""


class NoHead(LoweringError):
    """Why the logits of a cross-entropy must be stored, as a sentence."""


@dataclass
class Head:
    """One cross-entropy and what belongs to it.

    Attributes:
        loss: the op.
        x, w, transposed: the product that makes the logits, and whether w is [classes, depth].
        bias: its bias of an element for each class, or None.
        places: ops that take the place of a row's largest logit.
        grad: the gradient of the logits; None where nobody asks for one.
        input_grads, weight_grads: products that make the gradients of x and w of that.
        bias_grads: sums over its rows.
    """

    loss: ir.Operation
    x: Value
    w: Value
    transposed: bool
    bias: Value | None = None
    places: list[ir.Operation] = field(default_factory=list)
    grad: ir.Operation | None = None
    input_grads: list[ir.Operation] = field(default_factory=list)
    weight_grads: list[ir.Operation] = field(default_factory=list)
    bias_grads: list[ir.Operation] = field(default_factory=list)

    @property
    def product(self) -> ir.Operation:
        """What makes the logits."""
        return _product_of(self.loss.operands[0])

    @property
    def size(self) -> tuple[int, int, int]:
        """Rows, classes, depth."""
        rows, classes = TensorType.of(self.loss.operands[0]).shape
        return rows, classes, TensorType.of(self.x).shape[1]

    @property
    def gradients(self) -> int:
        """How many kernels make the logits again: for x, and for w and the bias."""
        return bool(self.input_grads) + bool(self.weight_grads or self.bias_grads)


def maker_of(loss: ir.Operation) -> str:
    """The layer that makes the logits of a `keras.cross_entropy`, or that of the loss."""
    try:
        return layer_of(_product_of(loss.operands[0])) or layer_of(loss)
    except NoHead:
        return layer_of(loss)


def told_of(module: ir.Module) -> tuple[str, ...]:
    """What a module of any stage says became of its logits."""
    for op in walk(module.operation):
        if op.name == "func.func" and ATTRIBUTE in op.attributes:
            return tuple(
                ir.StringAttr(each).value for each in ir.ArrayAttr(op.attributes[ATTRIBUTE])
            )
    return ()


def find_head(loss: ir.Operation) -> Head:
    """The head that a `keras.cross_entropy` ends.

    Raises:
        NoHead: its logits are no product's, or something else reads them or their gradient.
    """
    product = _product_of(loss.operands[0])
    x, w = product.operands
    attributes = attributes_of(product)
    if attributes["transpose_a"]:
        raise NoHead("the rows of the product's left operand are its columns")
    if TensorType.of(x).dtype == "f64":
        raise NoHead("no kernel multiplies float64")
    w, turned = _untransposed(w)
    head = Head(loss, x, w, attributes["transpose_b"] != turned)
    for op, value in _readers(product.results[0]):
        _add_reader(head, op, value)
    if any(_index(op) < _index(loss) for op in (*head.places, *_grads(head))):
        raise NoHead("logits are read before the loss is known")
    if head.grad is not None:
        for op, value in _readers(head.grad.results[0]):
            _add_gradient(head, op, value)
        _check_bias(head)
    return head


def _grads(head: Head) -> list[ir.Operation]:
    return [] if head.grad is None else [head.grad]


def _product_of(value: Value) -> ir.Operation:
    """The product behind reshapes, casts and the addition of a bias."""
    classes = TensorType.of(value).shape[-1]
    while not isinstance(value.owner, ir.Block):
        op = value.owner
        if op.name == "keras.matmul":
            return op
        if op.name in ("keras.reshape", "keras.cast") and _keeps_rows(op):
            value = op.operands[0]
        elif op.name == "keras.add":
            sums = [v for v in op.operands if _is_bias(v, classes)]
            rest = [v for v in op.operands if not _is_bias(v, classes)]
            if len(sums) != 1 or len(rest) != 1:
                raise NoHead("logits are a sum of more than a product and its bias")
            value = rest[0]
        else:
            raise NoHead(f"logits come from {op.name}, not from a product")
    raise NoHead("logits are given, not made")


def _is_bias(value: Value, classes: int) -> bool:
    kind = TensorType.of(value)
    return kind.size == classes and kind.shape[-1:] == (classes,) and kind.is_float


def _keeps_rows(op: ir.Operation) -> bool:
    """Whether a reshape or cast leaves rows what they are, and their numbers exact."""
    before, after = (TensorType.of(value) for value in (op.operands[0], op.results[0]))
    if before.shape[-1:] != after.shape[-1:] or not (before.is_float and after.is_float):
        return False
    return before.torch_dtype.itemsize <= after.torch_dtype.itemsize


def _untransposed(value: Value) -> tuple[Value, bool]:
    """What a matrix is a transpose of, and whether it is one."""
    op = value.owner
    if isinstance(op, ir.Block) or op.name != "keras.transpose":
        return value, False
    return op.operands[0], attributes_of(op)["permutation"] == (1, 0)


def _readers(value: Value) -> Iterator[tuple[ir.Operation, Value]]:
    """Ops that read a value, or reshapes and casts of it, each with what it reads."""
    for use in value.uses:
        op = use.owner.operation
        if op.name in ("keras.reshape", "keras.cast") and _stays_matrix(op):
            yield from _readers(op.results[0])
        else:
            yield op, value


def _stays_matrix(op: ir.Operation) -> bool:
    before, after = (TensorType.of(value) for value in (op.operands[0], op.results[0]))
    return before.shape[-1:] == after.shape[-1:] and before.is_float and after.is_float


def _add_reader(head: Head, op: ir.Operation, value: Value) -> None:
    """Notes what reads the product, or its sum with the bias."""
    classes = TensorType.of(value).shape[-1]
    biased = op.name == "keras.add" and any(_is_bias(other, classes) for other in op.operands)
    if biased and head.bias is None and head.product.results[0] in _behind(value):
        (head.bias,) = (other for other in op.operands if _is_bias(other, classes))
        for reader, read in _readers(op.results[0]):
            _add_reader(head, reader, read)
    elif op.name == "keras.argmax" and attributes_of(op)["axis"] == TensorType.of(value).rank - 1:
        head.places.append(op)
    elif op.name == GRAD and op.operands[1] == value and head.grad is None:
        if op.operands[2] != head.loss.operands[1] or op.operands[3] != head.loss.results[1]:
            raise NoHead("its gradient is of another loss")
        head.grad = op
    elif op != head.loss or op.operands[0] != value:
        raise NoHead(f"{_told(op)} reads the logits too")


def _behind(value: Value) -> list[Value]:
    """A value and what it is a reshape or cast of."""
    found = [value]
    while not isinstance(value.owner, ir.Block) and value.owner.name in (
        "keras.reshape",
        "keras.cast",
    ):
        value = value.owner.operands[0]
        found.append(value)
    return found


def _add_gradient(head: Head, op: ir.Operation, value: Value) -> None:
    """Notes what reads the gradient of the logits."""
    kind = TensorType.of(value)
    if op.name == "keras.sum" and attributes_of(op)["axes"] == tuple(range(kind.rank - 1)):
        head.bias_grads.append(op)
        return
    if op.name == "keras.matmul" and kind.dtype == TensorType.of(head.x).dtype:
        a, b = op.operands
        over_a, over_b = (attributes_of(op)[f"transpose_{name}"] for name in "ab")
        other, turned = _untransposed(b)
        if a == value and other == head.w and not over_a:
            # dz wᵀ: of a transposed w, dz w.
            if (over_b != turned) != head.transposed:
                head.input_grads.append(op)
                return
        elif (a, b) in ((head.x, value), (value, head.x)) and over_a and not over_b:
            head.weight_grads.append(op)
            return
    raise NoHead(f"{_told(op)} reads the gradient of the logits too")


def _check_bias(head: Head) -> None:
    if head.bias_grads and head.bias is None:
        raise NoHead("sums of the gradient are no bias's")


def _told(op: ir.Operation) -> str:
    layer = layer_of(op)
    return f"{op.name}{f' of {layer}' if layer else ''}"


def _index(op: ir.Operation) -> int:
    for place, other in enumerate(op.block.operations):
        if other.operation == op:
            return place
    raise LoweringError(f"{op.name} is in no block")


def logits_bytes(head: Head) -> int:
    """Of the logits as they would be stored for the loss."""
    kind = TensorType.of(head.loss.operands[0])
    return prod(kind.shape) * kind.torch_dtype.itemsize
