"""Which kernels serve every size is what is committed; seconds are those of one machine."""

import json

import pytest

from keras_triton.bench import blocks, compiler, starts

SAME = compiler.versions() == compiler.versions_of()


@pytest.mark.skipif(not SAME, reason=f"committed are the figures with {compiler.versions_of()}")
@pytest.mark.parametrize("name", blocks.BLOCKS)
def test_kernels_for_all_sizes_are_those_committed(name):
    (committed,) = (row.open_batch for row in starts.read() if row.model == name)
    found, _ = starts.open_batch(name)
    assert found == committed, "python -m keras_triton.bench.starts --write makes them anew"
    assert (found.closed, found.any_size) == ("", found.kernels)


def test_every_model_has_committed_figures():
    assert {row.model for row in starts.read()} == {*blocks.MODELS, *blocks.STACKS}


def test_written_figures_replace_those_of_the_same_model(tmp_path):
    path = tmp_path / "starts.json"
    first, second, *_ = starts.read()
    starts.write([first, second], path)
    again = starts.Start(**{**vars(first), "nodes": 1})
    starts.write([again], path)
    assert starts.read(path) == [again, second]


def test_the_command(capsys, monkeypatch):
    (row,) = (row for row in starts.read() if row.model == "mlp")
    monkeypatch.setattr(starts, "start", lambda name: row)
    assert starts.main(["mlp", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["model"] == "mlp"
    assert starts.main(["mlp"]) == 0
    assert "Processor seconds until a train step" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        starts.main(["unheard_of"])
    assert "no model is called 'unheard_of'; there are mlp" in capsys.readouterr().err
