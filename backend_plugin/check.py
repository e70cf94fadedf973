"""`keras-triton check`: builds every kernel for GPUs that are not there, and says what came out.

Checked are all templates of the registry, in bfloat16 where they take it, and the kernels that the
train steps of the built-in models become. A kernel that does not build or spills fails the check;
so does a large matrix product or convolution in bfloat16 without the tensor core instructions of
its capability.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.progress import track
from rich.table import Table

from keras_triton import kernels
from keras_triton.kernels.device import of_capability
from keras_triton.kernels.launch import Launch
from keras_triton.kernels.offline import CAPABILITIES, compile_offline
from keras_triton.kernels.problem import Attribute, Problem
from keras_triton.kernels.spec import KernelSpec

_IMAGES, _FILTERS = ((32, 56, 56, 64), "bfloat16"), ((3, 3, 64, 64), "bfloat16")
_HEADS = ((8, 1024, 16, 64), "bfloat16")
_BIAS = ((1, 1, 1, 1), "bfloat16")
_WINDOW: dict[str, Attribute] = {
    "strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1,
}  # fmt: skip
PRODUCTS = {
    "attention": Problem.of([*[_HEADS] * 3, _BIAS], scale=0.125, causal=True),
    "attention_grad": Problem.of(
        [*[_HEADS] * 4, _BIAS, _HEADS, ((8, 16, 1024), "float32")], scale=0.125, causal=True
    ),
    "matmul": Problem.of([((4096, 4096), "bfloat16"), ((4096, 4096), "bfloat16")]),
    "batch_matmul": Problem.of([((8, 1024, 512), "bfloat16"), ((8, 512, 1024), "bfloat16")]),
    "products": Problem.of(
        [((8192, 1024), "bfloat16"), ((8192, 1024), "bfloat16")] * 3,
        instances=3,
        transpose_a=True,
        sums=True,
    ),
    "gates": Problem.of([((4096, 512), "bfloat16"), ((512, 2048), "bfloat16")], gates=4),
    "conv2d": Problem.of([_IMAGES, _FILTERS], **_WINDOW),
    "conv2d_input_grad": Problem.of([_IMAGES, _FILTERS], x_shape=_IMAGES[0], **_WINDOW),
    "conv2d_kernel_grad": Problem.of([_IMAGES, _IMAGES], w_shape=_FILTERS[0], **_WINDOW),
}
"""Templates whose inner loop is a matrix product, at a size that fills a GPU."""

INSTRUCTIONS = {80: "mma", 90: "wgmma", 100: "tcgen05"}
"""The tensor core instructions that such a size must reach."""


@dataclass(frozen=True)
class Result:
    """One kernel built for one capability; `problem` is empty when it passed."""

    kernel: str
    capability: int
    registers: int = 0
    spills: int = 0
    shared: int = 0
    tensor_core: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Job:
    """A launch to build; `product` if tensor cores must show."""

    kernel: str
    launch: Launch
    dtypes: Mapping[str, str]
    capability: int
    product: bool = False


def main(*, quick: bool, as_json: bool) -> int:
    """Builds everything, prints a table or JSON; 1 if a kernel failed."""
    jobs = list(_template_jobs())
    if not quick:
        jobs += _generated_jobs()
    console = Console(stderr=True)
    results = [_build(job) for job in track(jobs, description="building", console=console)]
    failed = [result for result in results if result.problem]
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    else:
        _print(results)
        print(f"{len(results) - len(failed)} of {len(results)} kernels build without spills")
    return int(bool(failed))


def _template_jobs() -> Iterator[Job]:
    """Each template at a small bfloat16 case (or its first case), each product at a large one too."""
    for name, spec in kernels.all_specs().items():
        small = next((c for c in spec.cases if c.dtype() == "bfloat16"), spec.cases[0])
        yield from _spec_jobs(name, spec, small)
        if name in PRODUCTS:
            yield from _spec_jobs(f"{name} (large)", spec, PRODUCTS[name], product=True)


def _spec_jobs(
    label: str, spec: KernelSpec, problem: Problem, product: bool = False
) -> Iterator[Job]:
    """A template's launches at the first guess for each capability."""
    for capability in CAPABILITIES:
        device = of_capability(capability)
        program = spec.program(problem, spec.space.guess(problem, device))
        dtypes = spec.dtypes(problem) | {key: t.dtype for key, t in program.scratch.items()}
        for number, launch in enumerate(program.launches):
            wanted = product and number == 0
            yield Job(f"{label}[{number}]", launch, dtypes, capability, wanted)


def _generated_jobs() -> list[Job]:
    """The kernels that the train steps of the built-in models become on a GPU."""
    from keras_triton.lowering.pipeline import lower
    from keras_triton.lowering.plan_reader import read_plan

    from . import samples
    from .compile import import_captured
    from .explanation import capture_example
    from .targets.base import asked_by
    from .targets.sources import load
    from .targets.triton import TritonTarget

    jobs = []
    for name in ("digits", "mlp"):
        model, x, y = samples.example(name, 64)
        module = import_captured(capture_example(model, x, y))
        plan = read_plan(lower(module, **asked_by(TritonTarget)))
        for function in plan.kernels.values():
            for capability in CAPABILITIES:
                loaded = load(function, None, of_capability(capability))
                for launch in loaded.program.launches:
                    label = f"{name}/{loaded.generated.name}"
                    jobs.append(Job(label, launch, loaded.dtypes(), capability))
    return jobs


def _build(job: Job) -> Result:
    try:
        made = compile_offline(job.launch, job.dtypes, job.capability)
    except Exception as error:  # whatever Triton or ptxas raise is this kernel's result
        sentence = str(error).strip().splitlines() or [type(error).__name__]
        return Result(job.kernel, job.capability, problem=f"does not build: {sentence[0]}")
    problem = f"spills {made.spills} bytes" if made.spills else ""
    if job.product and made.tensor_core != INSTRUCTIONS[job.capability]:
        problem = problem or f"uses no {INSTRUCTIONS[job.capability]} instructions"
    limit = of_capability(job.capability).shared_bytes
    if made.shared > limit:
        problem = problem or f"needs {made.shared} of {limit} bytes of shared memory"
    return Result(
        job.kernel,
        job.capability,
        made.registers,
        made.spills,
        made.shared,
        made.tensor_core,
        problem,
    )


def _print(results: list[Result]) -> None:
    table = Table()
    for column in ("kernel", "sm", "registers", "spills", "shared", "tensor cores", ""):
        table.add_column(column)
    for result in results:
        table.add_row(
            result.kernel,
            str(result.capability),
            str(result.registers),
            str(result.spills),
            str(result.shared),
            result.tensor_core,
            result.problem,
        )
    Console().print(table)
