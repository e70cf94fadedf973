"""The documented examples run as they stand, each in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
HOW = {"cpu": "torch.logcumsumexp", "interpret": "Triton template running_logsumexp"}


@pytest.mark.parametrize("target", HOW)
def test_a_pass_and_a_kernel_from_outside(target):
    """The op that torch ran before is a kernel, with the same values, and the model trains."""
    environment = {**os.environ, "KERAS_TRITON_TARGET": target, "COLUMNS": "200"}
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / "own_pass.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    before, after = ran.stdout.split("with the pass")
    assert "1 fallbacks" in before
    assert "torch aten.logcumsumexp.default" in before
    assert "0 fallbacks" in after
    assert HOW[target] in after
    # float32 sums of ten terms, in another order
    assert float(re.search(r"largest difference of predictions: (\S+)", after)[1]) < 1e-6
    first, last = map(float, re.search(r"loss (\S+) -> (\S+)", after).groups())
    assert last < first
