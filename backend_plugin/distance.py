"""How far a tensor is from what it should be."""

from __future__ import annotations

from dataclasses import dataclass

import torch

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3}
"""What sums of thousands of terms may lose, relative to the largest magnitude."""
HALF = 3e-2


@dataclass(frozen=True)
class Distance:
    """The difference of two tensors where it is largest.

    Attributes:
        absolute: that difference; infinite where NaN meets no NaN, or the shapes differ.
        relative: the same, divided by the largest finite magnitude of what is wanted.
        worst: where it is, None for tensors without elements.
        got, wanted: the values there.
        nans, wanted_nans: how many elements are NaN.
    """

    absolute: float = 0.0
    relative: float = 0.0
    worst: tuple[int, ...] | None = None
    got: float = 0.0
    wanted: float = 0.0
    nans: int = 0
    wanted_nans: int = 0


def distance(got: torch.Tensor, want: torch.Tensor) -> Distance:
    """The distance of `got` from `want`; NaN must meet NaN, infinity the same infinity."""
    if got.shape != want.shape:
        return Distance(float("inf"), float("inf"))
    if not want.numel():
        return Distance()
    wide = torch.complex128 if want.is_complex() else torch.float64
    got, want = got.to(wide), want.to(wide)
    lost = got.isnan() != want.isnan()
    same = (got == want) | (got.isnan() & want.isnan())
    difference = torch.where(same, 0.0, (got - want).abs()).nan_to_num(
        nan=float("inf"), posinf=float("inf")
    )
    difference = torch.where(lost, float("inf"), difference)
    finite = want[want.isfinite()]
    scale = max(finite.abs().max().item() if finite.numel() else 1.0, 1e-12)
    place = int(difference.argmax())
    absolute = difference.flatten()[place].item()
    worst = tuple(int(i) for i in torch.unravel_index(torch.tensor(place), difference.shape))
    return Distance(
        absolute,
        absolute / scale,
        worst,
        got=got.flatten()[place].real.item(),
        wanted=want.flatten()[place].real.item(),
        nans=int(got.isnan().sum()),
        wanted_nans=int(want.isnan().sum()),
    )


def tolerance(dtypes: set[torch.dtype]) -> float:
    """The relative distance that results of a computation in these dtypes may have."""
    floats = {dtype for dtype in dtypes if dtype.is_floating_point}
    return max((TOLERANCES.get(dtype, HALF) for dtype in floats), default=0.0)
