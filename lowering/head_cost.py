"""What a head takes with its logits stored, and with none: by a roofline, kernel by kernel.

The kernels of stored logits are a product, the loss's rows, their gradient, and a product for each gradient
of it; nothing is counted for what stands between. Beside bytes of memory and operations, the roofline has
what tiles load again from the cache: kernels that keep long sums in registers have small tiles. A symbolic
size counts as what it tends to.
"""

from __future__ import annotations

from collections.abc import Iterator

from keras_triton.kernels import spec
from keras_triton.kernels.device import Device
from keras_triton.kernels.problem import Problem

from .emit_triton.source import DTYPE_NAMES
from .heads import Head
from .mlir import TensorType
from .work import Cost

PASSES = {"ieee": 1, "tf32": 2, "tf32x3": 6}
"""Products of half precision that take as long as one of float32."""
CACHE = 2
"""How many times as fast as memory a GPU's cache is; about so on an A100 and an H100."""


class HeadCost:
    """The seconds of one head on a device; `precision` of float32 products, as set-precision takes it."""

    def __init__(self, head: Head, precision: str, device: Device) -> None:
        x = TensorType.of(head.x)
        self.head, self.device = head, device
        self.rows, self.classes, self.depth = map(int, head.size)
        self.item, self.is_half = x.torch_dtype.itemsize, x.dtype != "f32"
        self.precision = "ieee" if self.is_half else precision
        self.dtype = DTYPE_NAMES[x.dtype]

    def stored(self) -> float:
        """Of the kernels that store the logits and their gradient, or read them."""
        size, points = self.rows * self.classes * self.item, 4 * self.rows * self.classes
        x, w = self.rows * self.depth * self.item, self.classes * self.depth * self.item
        rows = Cost(size, 0, points, False).seconds(self.device)
        total = self._product(x + w + size, self.rows, self.classes, self.depth) + rows
        if self.head.grad is not None:
            total += Cost(size, size, points, False).seconds(self.device)
        if self.head.input_grads:
            total += self._product(x + w + size, self.rows, self.depth, self.classes)
        if self.head.weight_grads:
            total += self._product(x + w + size, self.depth, self.classes, self.rows)
        return total

    def made_again(self) -> float:
        """Of the kernels that make them tile by tile."""
        return sum(map(self._kernel, self._kinds()))

    def _kinds(self) -> Iterator[str]:
        yield "linear_cross_entropy"
        if self.head.input_grads:
            yield "linear_cross_entropy_input_grad"
        if self.head.weight_grads or self.head.bias_grads:
            yield "linear_cross_entropy_weight_grad"

    def _product(self, nbytes: int, rows: int, columns: int, depth: int) -> float:
        """Of a product with operands and result of so many bytes."""
        operands: list[tuple[tuple[int, ...], str]]
        operands = [((rows, depth), self.dtype), ((depth, columns), self.dtype)]
        problem = Problem.of(operands, precision=self.precision)
        config = spec.get("matmul").space.guess(problem, self.device)
        work = spec.get("matmul").work(problem)
        loads = rows * columns * depth / config.block_m + rows * columns * depth / config.block_n
        return self._seconds(nbytes, work.flops, loads)

    def _kernel(self, kind: str) -> float:
        row: tuple[int, ...] = (self.rows,)
        from keras_triton.kernels.linear_loss_grad import times_made

        operands: list[tuple[tuple[int, ...], str]]
        operands = [((self.rows, self.depth), self.dtype), ((self.depth, self.classes), self.dtype)]
        operands += [((self.classes,), self.dtype), (row, "int64")]
        operands += [(row, "float32")] * 2 if kind.endswith("_grad") else []
        problem = Problem.of(operands, transpose_w=False, precision=self.precision)
        config = spec.get(kind).space.guess(problem, self.device)
        work, each = spec.get(kind).work(problem), self.rows * self.classes * self.depth
        loads = each / config.block_m + each / config.block_n
        if kind.endswith("_grad"):
            owned = config.block_m if "input" in kind else config.block_n
            loads = times_made(problem) * loads + each / owned
        return self._seconds(work.bytes, work.flops, loads)

    def _seconds(self, nbytes: int, flops: int, loads: float) -> float:
        """Of so many bytes of memory, operations, and elements that tiles load."""
        tensor = self.is_half or self.precision != "ieee"
        roof = Cost(nbytes, 0, flops * PASSES[self.precision], tensor).seconds(self.device)
        return max(roof, loads * self.item / (CACHE * self.device.bandwidth))
