"""recompute-logits: a last product and its cross-entropy never store the logits between them.

Forward, each tile of logits goes into its rows' sum of exponentials, target and place of the maximum as it
is made; backward, it is made again, by whatever multiplies its gradient. That saves moving and keeping
[rows, classes] numbers and their gradient, for products that are computed again. It is done where a
roofline says that it takes no longer, or not twice as long where the logits would take more memory than all
that the step is given, or, under a budget of memory, whatever time it takes; `@main` says what became of each
cross-entropy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from keras_triton.kernels.device import H200

from ..build import OpBuilder, Value, compute_dtype
from ..dialect import walk
from ..head_cost import HeadCost
from ..heads import ATTRIBUTE, LOSS, Head, NoHead, find_head, logits_bytes, maker_of
from ..loops import code
from ..mlir import TensorType, context, copied, functions, is_sized
from .base import Pass, PassError
from .canonicalize_keras import drop_unread

DEVICE = H200
"""Whose roofline decides."""
MOST = 2
"""Times as long that memory is worth where nobody set a budget."""
WHEN = ("never", "faster", "always")


@dataclass(frozen=True)
class RecomputeLogits(Pass):
    """Options: `when`, "never", "faster" (or where memory asks for it) or "always"; `precision` of float32
    products, as set-precision takes it.
    """

    name: ClassVar[str] = "recompute-logits"
    takes: ClassVar[str] = "keras"
    gives: ClassVar[str] = "keras"

    when: str = "faster"
    precision: str = "ieee"

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        if self.when not in WHEN:
            raise PassError(f"{self.name}: when {self.when!r}; allowed: {', '.join(WHEN)}")
        if not any(op.name == LOSS for op in walk(module.operation)):
            return module
        with context(), ir.Location.unknown():
            rewritten, told = copied(module), []
            for function in code(rewritten).values():
                ops = [view.operation for view in function.regions[0].blocks[0].operations]
                losses = [op for op in ops if op.name == LOSS]
                told += [self._rewrite(loss, rewritten) for loss in losses]
                if losses:
                    drop_unread(function)  # what made the logits
            main = functions(rewritten)["main"].operation
            main.attributes[ATTRIBUTE] = ir.ArrayAttr.get(
                [ir.StringAttr.get(each) for each in told]
            )
        return rewritten

    def _rewrite(self, loss: ir.Operation, module: ir.Module) -> str:
        """Takes the logits away if that is worth it; says what became of them."""
        layer = maker_of(loss) or "a loss"
        try:
            head = find_head(loss)
            why = self._why(head, module)
        except NoHead as refusal:
            return f"{layer}: logits are stored: {refusal}"
        _Rewriter(head).run()
        return f"{layer}: logits are never stored: {why}"

    def _why(self, head: Head, module: ir.Module) -> str:
        """Why the logits are better not stored.

        Raises:
            NoHead: they are better stored.
        """
        _, classes, depth = head.size
        if self.when == "never":
            raise NoHead("this target multiplies no faster than it stores")
        if classes <= depth:
            raise NoHead(f"rows of {classes} are no longer than those of {depth} they are made of")
        if self.when == "always":
            return "there is a budget of memory"
        cost = HeadCost(head, self.precision, DEVICE)
        again, kept = cost.made_again(), cost.stored()
        told = f"takes {again / kept:.2f} times as long as to store them ({DEVICE.name})"
        if again <= kept:
            return f"to make them {told}"
        if again <= MOST * kept and not is_sized(module) and logits_bytes(head) > _given(module):
            return f"all that the step is given takes less memory, though to make them {told}"
        raise NoHead(f"to make them again {told}")


def _given(module: ir.Module) -> int:
    """Bytes of the arguments of a module's `@main`."""
    return sum(TensorType.of(kind).nbytes for kind in functions(module)["main"].type.inputs)


class _Rewriter:
    """Puts the ops that need no logits in the place of a head."""

    def __init__(self, head: Head) -> None:
        self.head, self.builder = head, OpBuilder(head.loss.location)
        self.dtype = compute_dtype(TensorType.of(head.x).dtype)

    def run(self) -> None:
        head = self.head
        classes, dtype = head.size[1], TensorType.of(head.x).dtype
        with ir.InsertionPoint(head.loss):
            bias = self.builder.full(0.0, (1,), dtype)
            if head.bias is not None:
                bias = self.builder.reshape(head.bias, (classes,))
            operands = [head.x, head.w, bias, head.loss.operands[1]]
            made = OpBuilder(head.product.location).emit_all(
                "linear_cross_entropy", *operands, transpose_w=head.transposed
            )
        for old, new in zip(head.loss.results, made[:2], strict=True):
            self._replace(old, new)
        for place in head.places:
            self._replace(place.results[0], made[2])
        if head.grad is not None:
            self._gradients([*operands, made[1]])
        head.loss.erase()

    def _gradients(self, operands: list[Value]) -> None:
        head = self.head
        assert head.grad is not None
        with ir.InsertionPoint(head.grad):
            builder = OpBuilder(head.grad.location)
            operands.append(builder.cast(head.grad.operands[0], self.dtype))
            kinds = (
                ("input", bool(head.input_grads)),
                ("weight", head.gradients > bool(head.input_grads)),
            )
            made = {
                kind: builder.emit_all(
                    f"linear_cross_entropy_{kind}_grad", *operands, transpose_w=head.transposed
                )
                for kind, wanted in kinds
                if wanted
            }
        for op in head.input_grads:
            self._replace(op.results[0], made["input"][0])
        for op in head.weight_grads:
            # x' dz and dz' x are transposes of each other.
            lies_transposed = op.operands[1] == head.x
            with ir.InsertionPoint(op):
                dw = made["weight"][0]
                if lies_transposed != head.transposed:
                    dw = self.builder.transpose(dw, (1, 0))
            self._replace(op.results[0], dw)
        for op in head.bias_grads:
            self._replace(op.results[0], made["weight"][1])

    def _replace(self, old: Value, new: Value) -> None:
        """Puts a value, reshaped and cast, in the place of another, whose op nobody then reads."""
        kind = TensorType.of(old)
        with ir.InsertionPoint(old.owner):
            made = self.builder.reshape(self.builder.cast(new, kind.dtype), kind.shape)
        old.replace_all_uses_with(made)
