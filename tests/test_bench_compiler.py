"""The compiler's figures of the blocks are those that are committed: a lost fusion shows here."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from keras_triton.bench import blocks, compiler, eager

AGAIN = "python -m keras_triton.bench.compiler --write makes them anew, if the change is wanted"


@pytest.fixture(scope="module")
def peaks():
    """Measured anew, in one process for all."""
    return eager.eager_peaks(blocks.BLOCKS)


SAME = compiler.versions() == compiler.versions_of()


@pytest.mark.skipif(not SAME, reason=f"committed are the figures with {compiler.versions_of()}")
@pytest.mark.parametrize("name", blocks.BLOCKS)
def test_figures_are_those_committed(name, peaks):
    committed = [row for row in compiler.read() if row.model == name]
    assert list(compiler.figures(name, peaks[name])) == committed, AGAIN


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


def test_the_command(capsys, monkeypatch):
    monkeypatch.setattr(eager, "eager_peaks", lambda names: dict.fromkeys(names, 10**8))
    assert compiler.main(["mlp", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == [asdict(row) for row in compiler.figures("mlp", 10**8)]
    with pytest.raises(SystemExit):
        compiler.main(["unheard_of"])
    assert "no model is called 'unheard_of'; there are mlp" in capsys.readouterr().err


def test_live_bytes_count_storages_until_they_are_freed():
    with eager.LiveBytes() as count:
        a = torch.zeros(100)
        view = a[10:20]
        b = a + 1
        assert (count.live, count.peak) == (800, 800)
        del a
        assert count.live == 800  # the view keeps it
        del view, b
    assert (count.live, count.peak) == (0, 800)
