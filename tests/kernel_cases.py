"""Inputs and tolerances shared by the kernel tests."""

import torch

from keras_triton.kernels import KernelSpec, Problem
from keras_triton.kernels.attention import attention_reference
from keras_triton.kernels.pool import max_pool2d_reference

# Rounding of the result (and of stored operands of a gradient) in units of the largest result.
TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "bfloat16": 8e-3, "float16": 1e-3}


def inputs(spec: KernelSpec, problem: Problem) -> tuple[torch.Tensor, ...]:
    """Random operands that fit each other, the same ones every time, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, operand in zip(spec.names(problem), problem.operands, strict=True):
        if operand.dtype in ("int64", "int32"):
            dtype = getattr(torch, operand.dtype)
            tensors[name] = torch.randint(-50, 50, operand.shape, generator=generator, dtype=dtype)
        else:
            values = torch.randn(operand.shape, generator=generator, dtype=torch.float64)
            tensors[name] = values.to(getattr(torch, operand.dtype))
    consistent(spec.name, problem, tensors, generator)
    return tuple(tensors.values())


def consistent(name: str, problem: Problem, tensors: dict, generator: torch.Generator) -> None:
    """Makes indices valid and saved forward results those of the forward."""
    if name.startswith("cross_entropy"):
        rows, classes = tensors["logits"].shape
        tensors["target"] = torch.randint(classes, (rows,), generator=generator)
    if name == "cross_entropy_grad":
        tensors["lse"] = torch.logsumexp(tensors["logits"].to(tensors["lse"].dtype), -1)
    if name == "attention_grad":
        given = [tensors[operand].double() for operand in ("q", "k", "v", "bias")]
        o, lse = attention_reference(*given, **problem.attrs)
        tensors["o"], tensors["lse"] = o.to(tensors["o"].dtype).contiguous(), lse.float()
    if name.startswith("linear_cross_entropy"):
        # Logits of order 1, as those of a new model: exponentials pass on the errors of large ones.
        tensors["x"] = (tensors["x"] / problem.shape(0)[1] ** 0.5).to(tensors["x"].dtype)
        x, w, bias = (tensors[operand].double() for operand in ("x", "w", "bias"))
        logits = x @ (w.mT if problem.attrs["transpose_w"] else w) + bias
        tensors["target"] = torch.randint(logits.shape[1], logits.shape[:1], generator=generator)
        if "lse" in tensors:
            tensors["lse"] = torch.logsumexp(logits, -1).float()
    if name == "scatter":
        # One row has most of the updates, and some updates no row.
        found = torch.randint(
            -1, problem.attrs["rows"] + 1, (problem.operands[1].size,), generator=generator
        )
        found = torch.where(torch.rand(found.shape, generator=generator) < 0.6, 1, found)
        tensors["indices"] = found.reshape(problem.shape(1)).to(tensors["indices"].dtype)
    if name == "layer_norm_grad":
        x = tensors["x"].double()
        tensors["mean"] = x.mean(-1).to(tensors["mean"].dtype)
        tensors["rstd"] = (x.var(-1, correction=0) + 1e-3).rsqrt().to(tensors["rstd"].dtype)
    if name == "softmax_grad":
        tensors["y"] = torch.softmax(tensors["y"], -1)
    if name == "log_softmax_grad":
        tensors["y"] = torch.log_softmax(tensors["y"], -1)
    if name == "max_pool2d_grad":
        x = torch.randn(problem.attrs["x_shape"], generator=generator)
        window = {key: problem.attrs[key] for key in ("window", "strides", "pads")}
        tensors["index"] = max_pool2d_reference(x, **window)[1]


def check(spec: KernelSpec, problem: Problem, config: object, device: str = "cpu") -> None:
    """Runs the template (interpreted on the CPU) against its reference in float64."""
    tensors = inputs(spec, problem)
    placed = tuple(tensor.to(device) for tensor in tensors)
    results = spec.run(problem, config, placed, interpret=device == "cpu")
    wide = [t.double() if t.is_floating_point() else t for t in tensors]
    expected = spec.reference(*wide, **problem.attrs)
    for name, result, reference, described in zip(
        spec.result_names(problem), results, expected, spec.infer(problem), strict=True
    ):
        assert result.shape == reference.shape, name
        assert result.dtype == getattr(torch, described.dtype), name
        largest = reference.abs().max().item() if reference.numel() else 0.0
        torch.testing.assert_close(
            result.cpu().double(),
            reference.double(),
            rtol=0,
            atol=TOLERANCE[described.dtype] * max(largest, 1.0)
            if result.is_floating_point()
            else 0,
            msg=lambda text, name=name: f"{spec.name} {name}: {text}",
        )
