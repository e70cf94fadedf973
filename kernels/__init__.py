"""Hand-written Triton templates, and what a compiler needs to fuse into, launch and tune them.

Using a template (``spec = get("matmul")``; ``all_specs()`` lists them)::

    problem = Problem.of([((64, 784), "float32"), ((784, 10), "float32")], transpose_b=False)
    reason = spec.supports(problem)                      # None, or why not
    config = spec.space.guess(problem, device)           # or a tuned one: spec.space.parse(record)
    program = spec.program(problem, config, epilogue)    # launches in order + scratch buffers
    execute(program, buffers, interpret=False)           # name -> contiguous tensor

A ``Program`` holds no tensors.  Its buffer names: the operand names of the spec (optional operands
come last and may be left out), ``out0, out1, ...`` written by the epilogue, ``extra0, ...`` read
by it, the names of further results (``mean``, ``rstd``, ``lse``, ``index``, ``dweight``,
``dbias``), and those of ``program.scratch``, which ``execute`` allocates.  Every size is a
constexpr, so a kernel's run-time arguments are pointers only.  ``Launch.bind(buffers)`` gives the
arguments by name; generated kernels are launched, interpreted and compiled offline through a
``Launch`` of their own.

Epilogues.  A template ends each tile of its result by calling the constexpr jit function::

    @triton.jit
    def epilogue(acc, rows, cols, offset, mask, outs, extras, part=0):
        y = acc + tl.load(extras[0] + cols, mask=cols < 10, other=0.0).to(acc.dtype)
        tl.store(outs[0] + offset, y.to(outs[0].dtype.element_ty), mask=mask)

wrapped as ``Epilogue(function, outputs, extras, sums)``.  The result is seen as a row-major matrix:
``acc`` is a [R, C] tile in the accumulation type (float32; float64 in row kernels of float64),
``rows`` [R, 1] and ``cols`` [1, C] are its indices, ``offset = rows * columns + cols``, and ``mask``
[R, C] is false outside the matrix.
Rules for the generator:

- ``outs`` and ``extras`` are tuples of pointers indexed by literals; the function stores every
  output itself, converts to the pointer's element type, and returns nothing,
- a load at ``cols`` alone or ``rows`` alone has a [1, C] or [R, 1] mask of its own, made from the
  literal sizes (``cols < 10``): ``mask`` has the wrong shape for it,
- rows of results of higher rank are flattened leading dimensions: batch_matmul ``batch * M + m``,
  conv2d ``(image * OH + oh) * OW + ow``, conv2d_input_grad the same over image positions,
  conv2d_kernel_grad ``(kh * KW + kw) * C / groups + c``; columns are the last dimension; literal
  divisions recover the rest,
- a tile may be part of a row: an epilogue computes elements, and leaves column sums of its tile in row
  ``part`` of the scratch buffers behind ``outs``, which whoever asked for them adds,
- a local constant that must stay a compile-time number is annotated ``: tl.constexpr`` (the
  interpreter turns every plain assignment of a number into a tensor),
- with ``split_k > 1`` the epilogue runs in the second stage, on the complete sum.

Prologues.  A product loads a tile of an operand by calling the constexpr jit function::

    @triton.jit
    def prologue(ins, rows, cols, offset, mask, first):
        scale = tl.load(ins[1] + cols, mask=cols < 10, other=0.0)
        y = tl.load(ins[0] + offset, mask=mask, other=0.0) * scale
        return tl.where(mask, y, 0.0).to(ins[0].dtype.element_ty)

wrapped as ``Prologue(function, reads, keeps)``; the operand is in memory only if the prologue keeps it
there for others.

``interpreted(fn)`` runs the same functions on the CPU with no environment variable (guess
configurations for the device ``INTERPRETER``);
``compile_offline(launch, dtypes, capability)`` compiles them for a GPU that is not there.  Jit
functions must come from a file (Triton reads their source) and see ``triton.language`` as ``tl``.
"""

from .device import INTERPRETER, Device, of_capability, of_cuda
from .interpret import interpreted
from .launch import STORE, Epilogue, Launch, Program, Prologue, execute
from .offline import CAPABILITIES, Report, compile_offline
from .philox import philox_uniform, philox_word
from .problem import Problem, TensorSpec, Work
from .space import Dimension, Space, dimension
from .spec import KernelSpec, all_specs, get, register

__all__ = [
    "CAPABILITIES",
    "INTERPRETER",
    "STORE",
    "Device",
    "Dimension",
    "Epilogue",
    "KernelSpec",
    "Launch",
    "Problem",
    "Program",
    "Prologue",
    "Report",
    "Space",
    "TensorSpec",
    "Work",
    "all_specs",
    "compile_offline",
    "dimension",
    "execute",
    "get",
    "interpreted",
    "of_capability",
    "of_cuda",
    "philox_uniform",
    "philox_word",
    "register",
]
