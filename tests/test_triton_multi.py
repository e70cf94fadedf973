"""Multi kernels: one launch for many parameters."""

import torch
from triton_cases import check, compare, inputs_of, kernel_of, multi_text

from keras_triton.kernels import compile_offline
from keras_triton.lowering import emit_triton, interpret
from keras_triton.lowering.emit_triton import tables

SHAPES = [(7,), (), (20, 33), (1,), (128,)]
MOMENTUM = """%m = arith.constant 0.9 : f32
%v = arith.mulf %x1, %m : f32
%g = arith.mulf %x2, %x3 : f32
%r = arith.subf %v, %g : f32"""
PARAMETER = """%m = arith.constant 0.9 : f32
%v = arith.mulf %x1, %m : f32
%g = arith.mulf %x2, %x3 : f32
%u = arith.subf %v, %g : f32
%r = arith.addf %x0, %u : f32"""
KINDS = {"p": "f32", "v": "f32", "g": "f32", "LR": "f32"}


def sgd(shapes=SHAPES):
    return multi_text("sgd", KINDS, shapes, {"velocity": MOMENTUM, "new": PARAMETER})


def config(block):
    return {"block_p": block, "block_r": 1, "slices": 1, "num_warps": 4, "num_stages": 2}


def test_instances():
    check(sgd())
    loaded = check(sgd(), config(64))
    assert loaded.program.launches[0].grid == (1 + 1 + 11 + 1 + 2, 1, 1)


def test_in_place():
    module, function = kernel_of(sgd())
    loaded = emit_triton.load(emit_triton.emit(function))
    inputs = inputs_of(function)
    expected = interpret.run(module, inputs)
    outputs = [inputs[4 * (i // 2) + (1 - i % 2)] for i in range(2 * len(SHAPES))]
    loaded.run([*inputs, *outputs], interpret=True)
    for output, value in zip(outputs, expected, strict=True):
        compare(output, value)


def test_tables_are_made_once_for_addresses_and_kept_for_who_makes_launches_again():
    _module, function = kernel_of(sgd())
    loaded = emit_triton.load(emit_triton.emit(function))
    tensors = [*inputs_of(function), *(torch.empty(s) for s in SHAPES for _ in range(2))]
    first = loaded.buffers(tensors)
    moved = loaded.buffers([tensors[0].clone(), *tensors[1:]])
    assert moved["addresses"] is not first["addresses"]
    assert moved["owners"] is first["owners"]
    with tables.kept() as kept:
        assert loaded.buffers(tensors)["addresses"] is first["addresses"]
    assert kept == [first["addresses"]]


def test_misaligned_tensors():
    module, function = kernel_of(sgd([(40,), (3,)]))
    loaded = emit_triton.load(emit_triton.emit(function))
    inputs = inputs_of(function)
    expected = interpret.run(module, inputs)
    outputs = [torch.empty(41)[1:], torch.empty(40), torch.empty(3), torch.empty(3)]
    loaded.run([*inputs, *outputs], interpret=True)
    for output, value in zip(outputs, expected, strict=True):
        compare(output, value)


def test_full_blocks_move_16_bytes_at_once():
    _module, function = kernel_of(sgd([(4096,), (100,)]))
    loaded = emit_triton.load(emit_triton.emit(function, config(1024)))
    report = compile_offline(loaded.program.launches[0], loaded.dtypes(), 90)
    assert report.spills == 0
    assert "ld.global.v4.b32" in report.ptx
    assert "st.global.v4.b32" in report.ptx
