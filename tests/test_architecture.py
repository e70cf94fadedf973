"""The repository's shape: what lies where, and which part may import which."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each folder and the folders it may import; tests may import everything.
MAY_IMPORT = {
    "kernels": set(),
    "lowering": {"kernels"},
    "autotune": {"kernels"},
    "backend_plugin": {"kernels", "lowering", "autotune"},
    "bench": {"kernels", "lowering", "autotune", "backend_plugin"},
}
WITHOUT_KERAS = ("kernels", "lowering", "autotune")
TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "ACCURACY.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "examples",
    "excluded_tests.txt",
    "pyproject.toml",
    "setup.py",
    "tests",
    *MAY_IMPORT,
}
SOURCES = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path):
    return str(path.relative_to(ROOT))


def imported(path):
    """Absolute names of all modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folder_of(module):
    """The repository's folder that holds a module of keras_triton."""
    part = [*module.split("."), ""][1]
    return part if part in MAY_IMPORT else "backend_plugin"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_left(path):
    folder = path.relative_to(ROOT).parts[0]
    for module in imported(path):
        package = module.partition(".")[0]
        if package == "keras_triton":
            assert folder_of(module) in MAY_IMPORT[folder] | {folder}, module
        assert package not in MAY_IMPORT, f"{module}: import it as keras_triton.{module}"
        assert package != "keras" or folder not in WITHOUT_KERAS, module


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_relative_imports_stay_in_their_folder(path):
    depth = len(path.relative_to(ROOT).parts) - 1
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level <= depth, f"line {node.lineno} leaves the folder"


def test_names_of_keras_are_those_of_3_16():
    """The loader gives them to 3.15, where the ops of its torch backend lie one level higher."""
    old = re.compile(r"keras\.src\.backend\.torch(\.| import )(core|image|linalg|math|nn|numpy)\b")
    loader = ROOT / "backend_plugin" / "loader"
    for path in SOURCES:
        if not path.is_relative_to(loader):
            assert not old.search(path.read_text()), name_of(path)


def is_environment(node):
    return isinstance(node, ast.Attribute) and node.attr == "environ"


def reads_variable(node):
    """Whether a node asks for a variable; setting one, or handing all to a child, is no read."""
    match node:
        case ast.Attribute(attr="getenv"):
            return True
        case ast.Attribute(attr="get", value=value):
            return is_environment(value)
        case ast.Subscript(value=value, ctx=ast.Load()):
            return is_environment(value)
        case ast.Compare(comparators=values):
            return any(map(is_environment, values))
    return False


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_settings_reads_the_environment(path):
    if path == ROOT / "backend_plugin" / "settings.py":
        return
    reads = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if reads_variable(node)]
    assert not reads, f"{name_of(path)} reads the environment in lines {reads}"


def test_the_top_level_holds_what_is_known():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {name.partition("/")[0] for name in listed} <= TOP_LEVEL


def test_every_file_is_packaged(tmp_path):
    """A folder without __init__.py, or unknown to setup.py, would be missing from the wheel."""
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build", "-b", tmp_path / "base",
         "--build-lib", tmp_path / "lib"],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    built = {str(path.relative_to(tmp_path / "lib")) for path in (tmp_path / "lib").rglob("*.py")}
    loader = ROOT / "backend_plugin" / "loader"
    expected = set()
    for path in SOURCES:
        folder, *rest = path.relative_to(ROOT).parts
        inside = [] if folder == "backend_plugin" else [folder]
        expected.add(
            str(path.relative_to(loader))
            if path.is_relative_to(loader)
            else "/".join(["keras_triton", *inside, *rest])
        )
    assert built == expected
