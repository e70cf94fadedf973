"""Random programs keep their values through every pass and on the targets.

`python tests/fuzz_passes.py` does the same for thousands of them; here are as many as a minute takes.
"""

from hypothesis import HealthCheck, Phase, given, settings
from random_programs import Failure, check, minimised, programs

from keras_triton.lowering.mlir import parse, text
from keras_triton.lowering.pipeline import lower


def drawn(examples):
    """Calls a test with always the same random programs; what fails is made small by hand."""

    def decorate(test):
        options = settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        return options(given(programs())(test))

    return decorate


def assert_equal_values(program, *targets):
    try:
        check(program, targets)
    except Failure as failure:
        smaller, shown = minimised(program, failure)
        raise AssertionError(f"{shown}\n{smaller.text()}") from None


@drawn(60)
def test_values_stay_equal_through_every_pass_and_on_the_cpu(program):
    assert_equal_values(program, "cpu")


@drawn(16)
def test_values_stay_equal_in_the_interpreter_of_triton(program):
    assert_equal_values(program, "interpret")


@drawn(6)
def test_lowering_goes_on_from_the_text_of_any_stage(program):
    seen = []
    lower(parse(program.text()), on_stage=seen.append)
    for stage in seen:
        assert str(lower(parse(text(stage)))) == str(seen[-1])


def test_a_pass_that_changes_values_is_found_and_its_program_made_small(monkeypatch):
    from keras_triton.lowering import keras_rewrites

    def wrong(op, builder):
        return builder.emit("cos", op.operands[0])

    monkeypatch.setitem(keras_rewrites.REWRITES, "sin", [wrong])
    found = {}

    @drawn(60)
    def run(program):
        if not found:
            try:
                check(program, [])
            except Failure as failure:
                found["failure"] = minimised(program, failure)

    run()
    program, failure = found["failure"]
    assert failure.where == "canonicalize-keras (cpu)", failure
    assert [op.name for op in program.ops] == ["sin"]
    assert len(program.results) == 1
