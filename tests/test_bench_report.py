"""The page of figures says what the files beside it hold."""

from pathlib import Path

from keras_triton.bench import blocks, report


def test_the_page_is_that_of_the_committed_figures():
    assert report.PAGE.read_text() == report.page(), "python -m keras_triton.bench.report"


def test_the_readme_has_the_figures_of_the_blocks():
    assert report.blocks() in (Path(__file__).parents[1] / "README.md").read_text()


def test_every_model_is_in_every_table():
    *tables, last = report.page().split("\n## ")[1:]
    for table in tables:
        assert all(f"| `{name}` |" in table for name in blocks.MODELS)
    assert all(f"| `{name}` |" in last for name in blocks.STACKS)


def test_the_command_makes_figures_and_writes_the_page(tmp_path, monkeypatch, capsys):
    asked = []
    for measure in report.MEASURES:
        monkeypatch.setattr(measure, "main", asked.append)
    path = tmp_path / "page.md"
    assert report.main(["--output", str(path)]) == 0
    assert asked == []
    assert report.main(["--make", "--output", str(path)]) == 0
    assert asked == [["--all", "--write"]] * 3
    assert path.read_text() == report.page()
    assert str(path) in capsys.readouterr().out
