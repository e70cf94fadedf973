"""The compiler's figures of the blocks are those that are committed: a lost fusion shows here."""

import json
from dataclasses import asdict, replace

import pytest

from keras_triton.bench import blocks, compiler

AGAIN = "python -m keras_triton.bench.compiler --write makes them anew, if the change is wanted"


SAME = compiler.versions() == compiler.versions_of()


@pytest.mark.skipif(not SAME, reason=f"committed are the figures with {compiler.versions_of()}")
@pytest.mark.parametrize("name", blocks.BLOCKS)
def test_figures_are_those_committed(name):
    committed = [row for row in compiler.read() if row.model == name]
    assert list(compiler.figures(name)) == committed, AGAIN


def test_a_transformer_block_is_few_launches():
    """Forward and backward; beside them stand head, loss, metrics and the one of the optimizer."""
    (row,) = (r for r in compiler.read() if (r.model, r.target) == ("transformer", "triton"))
    assert row.own_launches <= 26


def test_launches_are_listed_with_their_layers(capsys):
    assert compiler.main(["mlp", "--launches"]) == 0
    shown = capsys.readouterr().out
    for target in compiler.TARGETS:
        assert f"mlp on {target}: " in shown
    assert "layer_normalization" in shown


def test_every_model_has_committed_figures():
    found = {(row.model, row.target) for row in compiler.read()}
    assert found == {(name, target) for name in blocks.MODELS for target in compiler.TARGETS}


def test_written_figures_replace_those_of_the_same_model(tmp_path):
    path = tmp_path / "figures.json"
    first, second, *_ = compiler.read()
    compiler.write([first, second], path)
    compiler.write([replace(first, launches=1)], path)
    assert compiler.read(path) == [replace(first, launches=1), second]


def test_the_command(capsys):
    assert compiler.main(["mlp", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == [asdict(row) for row in compiler.figures("mlp")]
    with pytest.raises(SystemExit):
        compiler.main(["unheard_of"])
    assert "no model is called 'unheard_of'; there are mlp" in capsys.readouterr().err
