"""A captured graph run as it is, before any lowering."""

import torch

from keras_triton.captured import Captured


def replay(captured: Captured, data: tuple[torch.Tensor, ...]):
    """The result of a captured step on `data`, run by torch; updates the variables it changes."""
    data = iter(data)
    inputs = []
    for spec in captured.inputs:
        if spec.kind == "data":
            inputs.append(next(data))
        else:
            inputs.append(spec.tensor if spec.kind == "constant" else spec.variable.value)
    with torch.no_grad():
        outputs = captured.graph(*inputs)
        for spec, value in zip(captured.outputs, outputs, strict=True):
            if spec.kind == "state":
                spec.variable.value.copy_(value)
    kinds = [spec.kind for spec in captured.outputs]
    return captured.result.build(outputs[: kinds.count("result")])
