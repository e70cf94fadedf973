"""Numbers that depend on a symbolic size: their arithmetic, and texts of another size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_triton.lowering import sizes
from keras_triton.lowering.errors import SizeError
from keras_triton.lowering.mlir import TensorType

SIZE = sizes.extent(sizes.PRIME)
numbers = st.integers(-(2**12), 2**12)
# Sums, differences and products of static numbers and the size, as functions of the size.
formulas = st.recursive(
    st.one_of(numbers.map(lambda n: lambda b: n), st.just(lambda b: b)),
    lambda inner: st.tuples(st.sampled_from("+-*"), inner, inner).map(
        lambda parts: (
            lambda b: {
                "+": parts[1](b) + parts[2](b),
                "-": parts[1](b) - parts[2](b),
                "*": parts[1](b) * parts[2](b),
            }[parts[0]]
        )
    ),
    max_leaves=4,
)


@given(formulas, st.integers(1, 10_000))
def test_sums_and_products_keep_what_they_depend_on(formula, size):
    try:
        number = formula(SIZE)
    except SizeError:  # a coefficient of 2**31 or more
        return
    assert sizes.at(number, size) == formula(size)
    assert sizes.text_at(f"[{number}, 3]", size) == f"[{formula(size)}, 3]"


@given(st.integers(1, 4096), st.integers(1, 4096), st.integers(2, 99))
def test_exact_division(factor, static, size):
    whole = SIZE * (factor * static)
    assert sizes.at(whole // static, size) == factor * size
    assert whole // SIZE == factor * static
    assert whole % static == 0
    assert sizes.at(-(-whole // factor), size) == static * size


@pytest.mark.parametrize(
    "lossy",
    [
        lambda b: b // 2,
        lambda b: (2 * b + 1) % 2,
        lambda b: 100 // b,
        lambda b: 1 / b,
        lambda b: b * 0.5,
        float,
        lambda b: b**2,
        lambda b: b & 1,
        lambda b: b << 1,
        lambda b: b.bit_length(),
        lambda b: b * 2**31,
    ],
)
def test_what_would_lose_the_size_is_refused(lossy):
    with pytest.raises(SizeError):
        lossy(SIZE)


def test_comparisons_take_the_size_for_larger_than_any_static_number():
    assert SIZE > 2**31
    assert max(SIZE, 7) == SIZE
    assert sizes.extent(sizes.PRIME) == SIZE
    assert (64 * SIZE + 1).text == "64*b + 1"
    assert (SIZE * SIZE).text == "1*b*b"


EDGES = [
    sign * (2**power + more) for power in range(1, 64) for more in (-1, 0, 1) for sign in (1, -1)
]


@pytest.mark.parametrize(
    "number", [*EDGES, *(10**power for power in range(19)), 0x9E3779B97F4A7C15]
)
def test_round_numbers_are_no_sizes(number):
    assert not sizes.is_symbolic(number)
    assert type(sizes.extent(number)) is int
    assert sizes.text_at(f"x = {number} : i64", 5) == f"x = {number} : i64"


def test_a_text_of_another_size():
    kind = TensorType((SIZE, 64, 2 * SIZE + 1), "f32")
    assert sizes.text_at(str(kind), 10) == "tensor<10x64x21xf32>"
    text = f'{{shape = array<i64: {SIZE}, 64>, args = "[[{{\\"t\\": 0}}, [{3 * SIZE}]]]"}}'
    assert sizes.text_at(text, 4) == '{shape = array<i64: 4, 64>, args = "[[{\\"t\\": 0}, [12]]]"}'
    untouched = "%1234567890123 = 0x4F1234567890123 : @f_1234567890123 1.1234567890123e-3"
    assert sizes.text_at(untouched, 4) == untouched


def test_types_keep_their_size():
    kind = TensorType((SIZE, 64), "f32")
    assert kind.size.text == "64*b"
    assert kind.nbytes.text == "256*b"
    assert kind.with_shape((kind.size // 32, 32)).shape[0].text == "2*b"
