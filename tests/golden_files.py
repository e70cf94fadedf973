"""Golden files of the passes: tests/golden/<pass>.in.mlir must become <pass>.out.mlir
(its name with underscores).

`pytest tests/test_passes.py --update-golden` writes the outputs anew; review the difference.
"""

from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def golden_input(name: str) -> str:
    """The input of the pass `name` ("fuse-regions"), as text."""
    return (GOLDEN / f"{name.replace('-', '_')}.in.mlir").read_text()


def compare(name: str, produced: str, update: bool) -> None:
    """Asserts that `produced` is the text of golden/<name>.out.mlir, or writes it there."""
    path = GOLDEN / f"{name.replace('-', '_')}.out.mlir"
    if update:
        path.write_text(produced)
    assert produced == path.read_text(), f"{path.name} differs; if wanted, run --update-golden"
