"""The registry of templates: one ``KernelSpec`` per op, enumerated by tests, bench and tuner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

import torch
from triton.runtime.jit import JITFunction

from .launch import STORE, Epilogue, Program, Prologue, execute, with_prologues
from .problem import Problem, TensorSpec, Work
from .space import Space


def _always(problem: Problem) -> str | None:
    return None


def _never(problem: Problem) -> bool:
    return False


@dataclass(frozen=True)
class KernelSpec:
    """One template.

    ``operands`` and ``results`` name the buffers; the first result is ``out0``, replaced by the
    outputs of the epilogue where one is given.  ``infer`` gives the results' shapes and dtypes,
    ``plan(problem, config, epilogue)`` the launches, ``reference(*tensors, **attrs)`` the results
    in plain torch in the precision of its arguments, ``supports`` a sentence when the template
    cannot do a problem (else None), ``cases`` problems worth testing, ``epilogues`` whether one is
    allowed, ``prologues`` the operands that may be made as they are loaded, and ``keeps`` whether a
    problem loads each of their elements once for each tile of the result in a row or column of tiles;
    ``named_results`` are the results' names where their number depends on the problem.
    """

    name: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    kernels: tuple[JITFunction, ...]
    infer: Callable[[Problem], tuple[TensorSpec, ...]]
    plan: Callable[[Problem, Any, Epilogue], Program]
    reference: Callable[..., tuple[torch.Tensor, ...]]
    space: Space
    cases: tuple[Problem, ...]
    work: Callable[[Problem], Work]
    supports: Callable[[Problem], str | None] = _always
    epilogues: bool = True
    prologues: tuple[str, ...] = ()
    keeps: Callable[[Problem], bool] = _never
    named_results: Callable[[Problem], tuple[str, ...]] | None = None

    def program(
        self,
        problem: Problem,
        config: Any,
        epilogue: Epilogue = STORE,
        prologues: Mapping[str, Prologue] = MappingProxyType({}),
    ) -> Program:
        """The launches for a problem; ValueError with the reason when it is not supported."""
        if reason := self.supports(problem):
            raise ValueError(f"{self.name}: {reason}")
        if epilogue != STORE and not self.epilogues:
            raise ValueError(f"{self.name}: this template takes no epilogue")
        for name in prologues.keys() - set(self.prologues):
            raise ValueError(f"{self.name}: operand {name} takes no prologue")
        return with_prologues(self.plan(problem, config, epilogue), prologues)

    def names(self, problem: Problem) -> tuple[str, ...]:
        """The buffer names of the operands present (optional ones come last and may be absent)."""
        return self.operands[: len(problem.operands)]

    def result_names(self, problem: Problem) -> tuple[str, ...]:
        """The buffer names of the results."""
        return self.named_results(problem) if self.named_results else self.results

    def dtypes(self, problem: Problem) -> dict[str, str]:
        """Buffer name -> dtype of operands and results, for a compilation with no tensors."""
        results = zip(self.result_names(problem), self.infer(problem), strict=True)
        operands = zip(self.names(problem), problem.operands, strict=True)
        return {name: spec.dtype for name, spec in (*operands, *results)}

    def run(
        self, problem: Problem, config: Any, tensors: tuple[torch.Tensor, ...], *, interpret: bool
    ) -> tuple[torch.Tensor, ...]:
        """Allocates the results and runs the template without an epilogue."""
        outputs = tuple(
            torch.empty(spec.shape, dtype=getattr(torch, spec.dtype), device=tensors[0].device)
            for spec in self.infer(problem)
        )
        buffers = dict(zip(self.names(problem), tensors, strict=True))
        buffers |= dict(zip(self.result_names(problem), outputs, strict=True))
        execute(self.program(problem, config), buffers, interpret=interpret)
        return outputs


_specs: dict[str, KernelSpec] = {}

MODULES = {
    name: module
    for module, names in {
        "attention": ("attention",),
        "attention_grad": ("attention_grad",),
        "conv": ("conv2d",),
        "conv_grad": ("conv2d_input_grad", "conv2d_kernel_grad"),
        "cumulate": ("cumulate",),
        "gates": ("gates",),
        "linear_loss": ("linear_cross_entropy",),
        "linear_loss_grad": (
            "linear_cross_entropy_input_grad",
            "linear_cross_entropy_weight_grad",
        ),
        "loss": ("cross_entropy", "cross_entropy_grad"),
        "matmul": ("matmul", "batch_matmul"),
        "norm": ("layer_norm",),
        "norm_grad": ("layer_norm_grad",),
        "pool": ("max_pool2d", "max_pool2d_grad", "avg_pool2d", "avg_pool2d_grad"),
        "products": ("products",),
        "scatter": ("scatter",),
        "softmax": ("softmax", "softmax_grad", "log_softmax", "log_softmax_grad"),
        "sort": ("sort", "top"),
    }.items()
    for name in names
}
"""Template -> the module here that registers it, imported when somebody asks for the template: Triton reads
the source of every kernel when its module is imported, 60 ms for all."""


def register(spec: KernelSpec) -> KernelSpec:
    """Adds a template; ValueError when its name is taken."""
    if spec.name in _specs:
        raise ValueError(f"kernel {spec.name} is registered twice")
    _specs[spec.name] = spec
    return spec


def has(name: str) -> bool:
    """Whether an op has a template."""
    return name in _specs or name in MODULES


def get(name: str) -> KernelSpec:
    """The template of an op; KeyError lists those there are."""
    if name not in _specs and name in MODULES:
        import_module(f"{__package__}.{MODULES[name]}")
    if name not in _specs:
        raise KeyError(f"no kernel template {name}; registered: {sorted({*_specs, *MODULES})}")
    return _specs[name]


def all_specs() -> Mapping[str, KernelSpec]:
    """Every registered template by name."""
    for name in MODULES:
        get(name)
    return dict(_specs)
