"""What a head takes with its logits stored, and with none: by a roofline, kernel by kernel.

The kernels of stored logits are a product, the loss's rows, their gradient, and a product for each gradient
of it; nothing is counted for what stands between. A symbolic size counts as what it tends to.
"""

from __future__ import annotations

from keras_triton.kernels import spec
from keras_triton.kernels.problem import Problem, Work

from .emit_triton.source import DTYPE_NAMES
from .heads import Head
from .mlir import TensorType
from .work import Cost

PASSES = {"ieee": 1, "tf32": 2, "tf32x3": 6}
"""Products of half precision that take as long as one of float32."""


class HeadCost:
    """The costs of one head; `precision` of float32 products, as set-precision takes it."""

    def __init__(self, head: Head, precision: str) -> None:
        x, logits = TensorType.of(head.x), TensorType.of(head.product.results[0])
        self.head, self.rows, self.classes, self.depth = head, *map(int, head.size)
        self.item = x.torch_dtype.itemsize
        self.is_half = x.dtype != "f32"
        self.precision = "ieee" if self.is_half else precision
        self.dtype, self.logits = DTYPE_NAMES[x.dtype], self.rows * self.classes * self.item
        assert logits.dtype == x.dtype

    def stored(self) -> list[Cost]:
        """Of the kernels that store the logits and their gradient, or read them."""
        size, points = self.logits, 4 * self.rows * self.classes
        x, w = self.rows * self.depth * self.item, self.classes * self.depth * self.item
        product = 2 * self.rows * self.classes * self.depth
        made = [self._product(x + w, size, product), Cost(size, 0, points, False)]
        if self.head.grad is not None:
            made.append(Cost(size, size, points, False))
        made += [self._product(size + w, x, product) for _ in self.head.input_grads]
        return made + [self._product(size + x, w, product) for _ in self.head.weight_grads]

    def made_again(self) -> list[Cost]:
        """Of the kernels that make them tile by tile."""
        kinds = ["linear_cross_entropy"]
        kinds += ["linear_cross_entropy_input_grad"] if self.head.input_grads else []
        if self.head.weight_grads or self.head.bias_grads:
            kinds.append("linear_cross_entropy_weight_grad")
        return [self._kernel(kind) for kind in kinds]

    def _kernel(self, kind: str) -> Cost:
        row = (self.rows,)
        operands = [((self.rows, self.depth), self.dtype), ((self.depth, self.classes), self.dtype)]
        operands += [((self.classes,), self.dtype), (row, "int64")]
        operands += [(row, "float32")] * 2 if kind.endswith("_grad") else []
        problem = Problem.of(operands, transpose_w=False, precision=self.precision)
        work: Work = spec.get(kind).work(problem)
        return self._product(work.bytes, 0, work.flops)

    def _product(self, read: int, written: int, flops: int) -> Cost:
        tensor = self.is_half or self.precision != "ieee"
        return Cost(read, written, flops * PASSES[self.precision], tensor)
