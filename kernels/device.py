"""Facts of the devices kernels are tuned for, usable (and fakeable) with no GPU present."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """What tuning constraints, first guesses and roofs need to know about one GPU.

    ``capability`` is the compute capability as one number (90 = sm_90); ``shared_bytes`` is the
    most dynamic shared memory one program may take; ``bandwidth`` is in bytes per second and
    ``tensor_flops`` in dense bfloat16 operations per second, ``vector_flops`` in float32 ones outside
    the tensor cores, all from the vendor's data sheet.
    """

    name: str
    capability: int
    multiprocessors: int
    shared_bytes: int
    l2_bytes: int
    bandwidth: float
    tensor_flops: float
    vector_flops: float


A100 = Device("NVIDIA A100", 80, 108, 166_912, 40 << 20, 2.039e12, 312e12, 19.5e12)
H100 = Device("NVIDIA H100", 90, 132, 232_448, 50 << 20, 3.35e12, 989e12, 67e12)
H200 = Device("NVIDIA H200", 90, 132, 232_448, 50 << 20, 4.8e12, 989e12, 67e12)
B200 = Device("NVIDIA B200", 100, 148, 232_448, 126 << 20, 8.0e12, 2250e12, 75e12)

INTERPRETER = Device("interpreter", 90, 1, 232_448, 50 << 20, 1e9, 1e9, 1e9)
"""Stands for Triton's interpreter: one processor, so first guesses make few, large programs."""

KNOWN = (A100, H200, H100, B200)


def named(name: str) -> Device:
    """The known device that is called so ("H200"); ValueError names the known ones."""
    for device in KNOWN:
        if name.lower() in device.name.lower().split():
            return device
    allowed = ", ".join(device.name.split()[-1] for device in KNOWN)
    raise ValueError(f"no facts are known of a GPU {name!r}; known: {allowed}")


def of_capability(capability: int) -> Device:
    """The first known device of a compute capability; ValueError names the known ones."""
    for device in KNOWN:
        if device.capability == capability:
            return device
    allowed = sorted({device.capability for device in KNOWN})
    raise ValueError(f"no device facts for compute capability {capability}; known: {allowed}")


def of_cuda(index: int = 0) -> Device:
    """Facts of the CUDA device ``index``: the known roofs, the sizes the driver reports."""
    import torch

    properties = torch.cuda.get_device_properties(index)
    known = [device for device in KNOWN if device.name in properties.name]
    roofs = known[0] if known else of_capability(properties.major * 10 + properties.minor)
    return dataclasses.replace(
        roofs,
        name=properties.name,
        capability=properties.major * 10 + properties.minor,
        multiprocessors=properties.multi_processor_count,
        # torch's stubs lack this field.
        shared_bytes=properties.shared_memory_per_block_optin,  # type: ignore[attr-defined]
        l2_bytes=properties.L2_cache_size,
    )
