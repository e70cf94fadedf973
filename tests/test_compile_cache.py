"""Compiled steps on disk: the next process makes nothing anew, and nothing on the disk can harm it."""

import errno
import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from keras import ops

from keras_triton import compile as driver
from keras_triton import compile_cache, ready
from keras_triton.capture import capture
from keras_triton.lowering import emit_llvm, mlir
from keras_triton.lowering.errors import EmitError
from keras_triton.settings import settings
from keras_triton.targets.choice import choose
from keras_triton.targets.cpu import CpuTarget

SCRIPT = Path(__file__).with_name("cached_steps.py")
X = torch.linspace(-2, 2, 24).reshape(4, 6)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, of which nothing was warned yet."""
    monkeypatch.setattr(compile_cache, "_warned", [])
    monkeypatch.setattr(ready, "_warned", set())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_TRITON_CACHE", str(tmp_path))
        patch.setenv("KERAS_TRITON_CACHE_SIZE", "50")
        settings.cache_clear()
        yield tmp_path / "compiled"
    settings.cache_clear()


def step(x):
    """Two products, two fused regions, and a call of torch between them."""
    hidden = ops.gelu(ops.matmul(x, ops.transpose(x)) + 1.0)
    return ops.softmax(ops.matmul(torch.logcumsumexp(hidden, -1), x)), ops.sum(hidden)


def compiled(target="cpu", **options):
    """`step` compiled; what it computes."""
    chosen = replace(settings(), target=target, **options)
    made = driver.compile_quietly(capture(step, (X,), name="step"), chosen)
    return made, made([X])


def same(results, others):
    return all(torch.equal(a, b) for a, b in zip(results, others, strict=True))


@pytest.mark.parametrize("target", ["cpu", "interpret", "reference"])
def test_nothing_is_made_twice(target, cache, monkeypatch):
    first, results = compiled(target)
    assert not first.kept
    (entry,) = cache.iterdir()
    monkeypatch.setattr(driver, "lower", None)
    monkeypatch.setattr(emit_llvm.jit, "compile_objects", None)
    again, found = compiled(target)
    assert again.kept
    assert same(found, results)
    assert again.report == first.report
    assert [row.how for row in again.report.fallbacks] == ["torch aten.logcumsumexp.default"]
    assert list(cache.iterdir()) == [entry]


def test_the_name_says_all_that_an_entry_follows_from(cache, monkeypatch):
    target = choose("cpu", torch.device("cpu"))
    captured = capture(step, (X,), name="step")
    module = driver.import_captured(captured)
    name = compile_cache.Place.of(module, target).name
    assert compile_cache.Place.of(mlir.parse(mlir.text(module)), target).name == name
    other = driver.import_captured(capture(step, (X[:3],), name="step"))
    names = {compile_cache.Place.of(other, target).name}
    names |= {
        compile_cache.Place.of(module, choose(which, torch.device("cpu"))).name
        for which in ("interpret", "reference")
    }
    with monkeypatch.context() as patch:
        patch.setattr(type(target), "host", "another processor")
        names.add(compile_cache.Place.of(module, target).name)
    with monkeypatch.context() as patch:
        patch.setattr(compile_cache, "_compiler", lambda: "another compiler")
        names.add(compile_cache.Place.of(module, target).name)
    with monkeypatch.context() as patch:
        patch.setattr(type(target), "epilogues", True)
        names.add(compile_cache.Place.of(module, target).name)
    assert len(names - {name}) == 6


def test_the_compiler_is_its_sources_and_what_it_stands_on():
    digest, *versions = compile_cache._compiler().split("\n")
    assert len(digest) == 64
    assert versions[0] == torch.__version__


def flip_a_bit(entry):
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 16
    entry.write_bytes(content)


def put_nonsense(entry):
    """An entry that is what was written, which no plan can be read from."""
    compile_cache.files().write(entry.stem, {compile_cache.PLAN: b"no plan", "other": b""})


def put_code_of_another(entry):
    parts = compile_cache.files().read(entry.stem)
    compile_cache.files().write(
        entry.stem, {**parts, emit_llvm.emit.OBJECT.format(0): b"no machine code"}
    )


DAMAGES = {
    "bit": flip_a_bit,
    "truncated": lambda entry: os.truncate(entry, 1000),
    "empty": lambda entry: os.truncate(entry, 0),
    "mode of the file": lambda entry: entry.chmod(0o666),
    "mode of the folder": lambda entry: entry.parent.chmod(0o777),
    "a folder instead": lambda entry: (entry.unlink(), entry.mkdir()),
    "no plan": put_nonsense,
    "no code": put_code_of_another,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_costs_a_compilation_and_one_warning(damage, cache):
    first, results = compiled()
    (entry,) = cache.iterdir()
    damage(entry)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again, found = compiled()
        third, found_then = compiled()
    assert not again.kept
    assert again.report == third.report == first.report
    assert same(found, results)
    assert same(found_then, results)
    (message,) = [str(warning.message) for warning in caught]
    assert "compiles anew what it could keep between runs" in message


def fails(monkeypatch, name, code, writing):
    """Lets a function of `os` fail, if it is to write."""
    function = getattr(os, name)

    def failing(*args, **options):
        if writing(args):
            raise OSError(code, os.strerror(code))
        return function(*args, **options)

    monkeypatch.setattr(os, name, failing)


@pytest.mark.parametrize(
    ("function", "code", "writing"),
    [
        ("write", errno.ENOSPC, lambda args: len(args[1]) > 1000),
        ("open", errno.EROFS, lambda args: args[1] & os.O_CREAT and str(args[0]).endswith(".part")),
        ("replace", errno.EDQUOT, lambda args: True),
        ("mkdir", errno.EACCES, lambda args: str(args[0]).endswith("compiled")),
    ],
    ids=["full disk", "read-only", "quota", "no folder"],
)
def test_a_disk_that_cannot_be_written_costs_one_warning(
    function, code, writing, cache, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setenv("KERAS_TRITON_CACHE_SIZE", "0")
        settings.cache_clear()
        _, wanted = compiled()
    settings.cache_clear()
    settings()
    with warnings.catch_warnings(record=True) as caught, monkeypatch.context() as patch:
        warnings.simplefilter("always")
        fails(patch, function, code, writing)
        made = [compiled() for _ in range(2)]
    assert all(same(results, wanted) for _, results in made)
    assert not cache.exists() or list(cache.iterdir()) == []
    (message,) = [str(warning.message) for warning in caught]
    assert f"{os.strerror(code)} in {cache.parent}" in message


def test_a_home_where_nothing_can_be_written(cache, monkeypatch):
    monkeypatch.setenv("KERAS_TRITON_CACHE", "/proc/keras-triton")
    settings.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = [compiled() for _ in range(2)]
    assert same(made[0][1], made[1][1])
    (message,) = [str(warning.message) for warning in caught]
    assert "keeps nothing for the next run: /proc/keras-triton cannot be written" in message


def test_a_folder_of_somebody_else_is_not_used(cache, monkeypatch):
    compiled()
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert not compiled()[0].kept


def test_a_host_that_nobody_knows_compiles_without_the_cache(cache, monkeypatch):
    def unknown(target):
        raise EmitError("the CPU target knows others")

    monkeypatch.setattr(CpuTarget, "host", property(unknown))
    with pytest.warns(RuntimeWarning, match="between runs: the CPU target knows others"):
        made, _ = compiled()
    assert len(made.report.fallbacks) == 1
    assert not cache.exists()


def test_switched_off_nothing_is_written(cache, monkeypatch):
    monkeypatch.setenv("KERAS_TRITON_CACHE_SIZE", "0")
    settings.cache_clear()
    compiled()
    assert not cache.exists()


def test_a_kernel_that_failed_is_tried_again(cache, monkeypatch):
    def failing(functions, code):
        raise EmitError("a reason")

    with monkeypatch.context() as patch:
        patch.setattr(emit_llvm, "compile_kernels", failing)
        with pytest.warns(RuntimeWarning, match="a reason"):
            made, _ = compiled()
    assert len(made.report.fallbacks) > 1
    assert not cache.exists()
    made, _ = compiled()
    assert (made.kept, len(made.report.fallbacks)) == (False, 1)


def test_a_dump_shows_every_stage_of_a_kept_step(cache, tmp_path):
    first, _ = compiled()
    made, _ = compiled(dump=tmp_path / "dump")
    (folder,) = (tmp_path / "dump").iterdir()
    assert {path.name[2:] for path in folder.glob("*.mlir")} == {
        "keras.mlir", "linalg.mlir", "regions.mlir", "plan.mlir",
    }  # fmt: skip
    assert any((folder / "kernels").glob("*.ll"))
    assert made.report == first.report
    assert not made.kept


def run_side_by_side(folder, count):
    """What new processes say that train at the same time, with a cache in `folder`."""
    environment = {
        **os.environ,
        "KERAS_TRITON_CACHE": str(folder),
        "KERAS_TRITON_CACHE_SIZE": "50",
        "OMP_NUM_THREADS": "1",  # nothing of another thread is forked
    }
    said = folder / f"of {count}"
    said.mkdir()
    subprocess.run(
        [sys.executable, str(SCRIPT), str(said), str(count)],
        env=environment,
        check=True,
        timeout=300,
    )
    return [json.loads(path.read_text()) for path in said.iterdir()]


def test_processes(tmp_path):
    """Four processes on an empty cache at the same time, and one after them."""
    first = run_side_by_side(tmp_path, 4)
    entries = sorted((tmp_path / "compiled").iterdir())
    assert [path.suffix for path in entries] == [".entry", ".entry"]
    (last,) = run_side_by_side(tmp_path, 1)
    assert last["calls"] == {"lower": 0, "compile_objects": 0}
    assert last["stats"]["programs_found_on_disk"] == len(last["stats"]["programs"]) == 2
    assert len(first) == 4
    for body in first:
        assert body["computed"] == last["computed"]
        assert body["reports"] == last["reports"]
        assert body["warnings"] == last["warnings"] == []
    assert any(body["calls"]["compile_objects"] for body in first)
    assert sorted((tmp_path / "compiled").iterdir()) == entries
