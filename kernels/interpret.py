"""Runs any ``@triton.jit`` function on the CPU, in a process that also compiles it.

Triton decides between compiling and interpreting when ``@triton.jit`` is executed (environment
variable ``TRITON_INTERPRET``).  Here both are wanted from one function object: ``interpreted(fn)``
takes the compiled-mode function, the helpers it calls and the helpers handed to it as constexpr
arguments, and interprets all of them, leaving the language as it found it.

Corrections over Triton 3.6's interpreter, each covered by a test:
- bfloat16 values are held as uint16 words; ``tl.dot`` on them multiplied the words as integers,
- float32 -> bfloat16 truncated, where every GPU rounds to nearest even,
- bfloat16 constants could not be made at all, but for zero,
- a comparison of two scalars became a float where it met a block,
- scalars are arrays of one element, which NumPy >= 2.4 refuses to turn into a Python index,
- helpers which see ``tl.core`` (all of ``tl.sum``, ``tl.max``...) left the language patched, so
  that nothing could be compiled afterwards in the same process,
- ``libdevice`` functions were empty stubs that returned None.
"""

from __future__ import annotations

import ast
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime import interpreter as engine
from triton.runtime.jit import JITFunction

LANGUAGE_LOCK = threading.RLock()
"""Held while the language is patched for interpretation, and while kernels are compiled."""

LIBDEVICE: dict[str, Callable[..., Any]] = {
    "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin, "asinh": np.arcsinh,
    "atan": np.arctan, "atan2": np.arctan2, "atanh": np.arctanh, "cosh": np.cosh,
    "exp": np.exp, "expm1": np.expm1, "fmod": np.fmod, "log1p": np.log1p, "pow": np.power,
    "rint": np.rint, "nearbyint": np.rint, "rsqrt": lambda x: 1 / np.sqrt(x), "sinh": np.sinh,
    "sqrt": np.sqrt, "tan": np.tan, "tanh": np.tanh, "trunc": np.trunc, "floor": np.floor,
    "ceil": np.ceil, "isnan": np.isnan, "isinf": np.isinf, "log10": np.log10, "log2": np.log2,
    "log": np.log, "sin": np.sin, "cos": np.cos, "exp2": np.exp2, "copysign": np.copysign,
    "erf": np.vectorize(__import__("math").erf), "erfc": np.vectorize(__import__("math").erfc),
    "finitef": np.isfinite, "abs": np.abs,
}  # fmt: skip
"""NumPy meaning of the libdevice functions that generated kernels may call."""


def interpreted(fn: JITFunction) -> Interpreted:
    """The interpreter's version of ``fn``: ``interpreted(fn)[grid](*args, **constexprs)``.

    Tensors must be on the CPU, also inside tuples; launch options (``num_warps``...) are ignored.
    TypeError where ``TRITON_INTERPRET`` was set when ``fn`` was decorated: it is no jit function.
    """
    if not isinstance(fn, JITFunction):
        raise TypeError(f"{fn!r} is no jit function; is TRITON_INTERPRET set? Unset it")
    return Interpreted(fn)


class Interpreted:
    """A kernel bound to the interpreter; indexing it by a grid gives the launcher."""

    def __init__(self, fn: JITFunction) -> None:
        self.fn = fn

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *args, **kwargs: self.run(grid, *args, **kwargs)

    def run(self, grid: tuple[int, ...], *args: Any, **kwargs: Any) -> None:
        """Runs every program of ``grid`` in turn, x outermost."""
        sizes = (*grid, 1, 1)[:3]
        constexprs = {parameter.name for parameter in self.fn.params if parameter.is_constexpr}
        known = set(self.fn.arg_names)
        with language():
            function = _rewritten(self.fn)
            kwargs = {name: value for name, value in kwargs.items() if name in known}
            bound = inspect.getcallargs(function, *args, **kwargs)
            bound = {n: v if n in constexprs else _argument(v, n) for n, v in bound.items()}
            builder = engine.interpreter_builder
            builder.set_grid_dim(*sizes)
            for index in np.ndindex(*sizes):
                builder.set_grid_idx(*index)
                function(**bound)


def _argument(value: Any, name: str) -> Any:
    if isinstance(value, tl.constexpr):
        return value.value
    if isinstance(value, torch.Tensor) and value.device.type != "cpu":
        raise ValueError(f"kernel argument {name} is on {value.device}; the interpreter needs cpu")
    if isinstance(value, tuple):
        return tl.tuple([_argument(item, name) for item in value])
    return engine._implicit_cvt(value)


# Keyed by the Python function: a jit function hashes by its cache key, which cannot be computed
# while the language is patched.
_cache: dict[Callable[..., Any], Callable[..., Any]] = {}


def _rewritten(fn: JITFunction) -> Callable[..., Any]:
    """``fn`` as a Python function whose assignments hold interpreter tensors.

    It gets its own copy of the globals: the interpreter's helper names never enter the module.
    """
    found = _cache.get(fn.fn)
    if found is None:
        tree = engine.ASTTransformer().visit(ast.parse(fn.src))
        ast.fix_missing_locations(tree)
        ast.increment_lineno(tree, fn.starting_line_number)
        scope = {**fn.get_capture_scope(), "interpreter_semantic": engine.interpreter_semantic}
        exec(compile(tree, fn.fn.__code__.co_filename, "exec"), scope)
        found = _cache[fn.fn] = scope[fn.fn.__name__]
    return found


@contextmanager
def language() -> Iterator[None]:
    """Within it, Triton's language computes with NumPy and jit functions call directly."""
    with LANGUAGE_LOCK, np.errstate(all="ignore"), warnings.catch_warnings():
        # A row of NaN makes numpy.nanmax warn; NaN is the right value for it.
        warnings.simplefilter("ignore", RuntimeWarning)
        scope = engine._patch_lang(SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
        try:
            _patch(scope)
            yield
        finally:
            scope.restore()


def _patch(scope: Any) -> None:
    builder = engine.interpreter_builder
    scope.set_attr(JITFunction, "__call__", lambda fn, *a, **k: _rewritten(fn)(*a, **k))
    scope.set_attr(tl.tensor, "__index__", lambda self: int(self.handle.data.item()))
    _patch_instance(scope, builder, "cast_impl", _cast)
    _patch_instance(scope, builder, "create_fp_to_fp", lambda src, to, mode: _cast(src, to))
    _patch_instance(scope, builder, "create_dot", _dot)
    _patch_instance(scope, builder, "get_bf16", _bfloat16)
    _patch_instance(scope, builder, "create_splat", _splat)
    for name, function in LIBDEVICE.items():
        scope.set_attr(libdevice, name, _elementwise(function))


def _patch_instance(scope: Any, builder: Any, name: str, function: Callable[..., Any]) -> None:
    # set_attr restores by setting: it would leave the class's method bound on the instance.
    scope.set_attr(type(builder), name, lambda self, *args: function(*args))


def _cast(source: Any, target: Any) -> Any:
    wanted = target.scalar
    data = _floats(source)
    if wanted == tl.bfloat16:
        return engine.TensorHandle(_bfloat16_words(data.astype(np.float32)), wanted)
    return engine.TensorHandle(data.astype(engine._get_np_dtype(wanted)), wanted)


def _floats(handle: Any) -> np.ndarray:
    if handle.dtype.scalar != tl.bfloat16:
        return handle.data
    return (handle.data.astype(np.uint32) << 16).view(np.float32)


def _bfloat16(value: float) -> Any:
    words = _bfloat16_words(np.array([value], dtype=np.float32))
    return engine.TensorHandle(words, tl.bfloat16)


def _splat(block: Any, source: Any) -> Any:
    # The handle of a comparison names the type of what was compared; its data are bools.
    return engine.TensorHandle(np.full(block.shape, source.data.reshape(())), source.dtype.scalar)


def _bfloat16_words(values: np.ndarray) -> np.ndarray:
    words = np.ascontiguousarray(values).view(np.uint32)
    rounded = (words + (0x7FFF + ((words >> 16) & 1))) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def _dot(a: Any, b: Any, acc: Any, *_options: Any) -> Any:
    wide = acc.data.dtype
    product = np.matmul(_floats(a).astype(wide), _floats(b).astype(wide))
    return engine.TensorHandle(product + acc.data, acc.dtype.scalar)


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **_options: Any) -> Any:
        tensors = [arg for arg in args if isinstance(arg, tl.tensor)]
        data = [arg.handle.data if isinstance(arg, tl.tensor) else arg for arg in args]
        dtype = tensors[0].dtype
        result = np.asarray(function(*data)).astype(engine._get_np_dtype(dtype))
        # Scalars broadcast to blocks, which may stand anywhere among the arguments.
        scalar = all(not tensor.type.is_block() for tensor in tensors)
        kind = dtype if scalar else tl.block_type(dtype, list(result.shape))
        return tl.tensor(engine.TensorHandle(result, dtype), kind)

    return call
