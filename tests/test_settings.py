"""Every environment variable: its default, its values, and what a wrong value is told."""

from pathlib import Path

import pytest

from keras_triton import settings as module
from keras_triton.settings import NAMES, PREFIX, read, settings


def test_defaults():
    chosen = read({})
    assert (chosen.target, chosen.dump, chosen.autotune, chosen.verbose, chosen.cache_size) == (
        "auto",
        None,
        "none",
        0,
        500,
    )
    assert chosen.cache == module.default_cache()
    assert chosen.cache.name == "keras-triton"


def test_values(tmp_path):
    chosen = read(
        {
            "KERAS_TRITON_TARGET": "cpu",
            "KERAS_TRITON_DUMP": str(tmp_path),
            "KERAS_TRITON_CACHE": "~/kernels",
            "KERAS_TRITON_CACHE_SIZE": "20",
            "KERAS_TRITON_AUTOTUNE": "full",
            "KERAS_TRITON_MEMORY_BUDGET": "1.5GiB",
            "KERAS_TRITON_VERBOSE": "2",
        }
    )
    assert (chosen.target, chosen.autotune, chosen.verbose) == ("cpu", "full", 2)
    assert chosen.dump == tmp_path
    assert chosen.cache == Path.home() / "kernels"
    assert chosen.cache_size == 20
    assert chosen.memory_budget == 3 << 29


@pytest.mark.parametrize(
    ("value", "budget"),
    [("4096", 4096), ("2GiB", 2 << 30), ("500 MB", 500_000_000), ("0.8", 0.8), ("1.0", 1.0)],
)
def test_a_budget_of_memory_is_bytes_or_a_share(value, budget):
    found = read({"KERAS_TRITON_MEMORY_BUDGET": value}).memory_budget
    assert (found, type(found)) == (budget, type(budget))


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("TARGET", "cuda", "auto, triton, cpu, interpret, reference"),
        ("AUTOTUNE", "yes", "none, quick, full"),
        ("VERBOSE", "3", "0, 1, 2"),
        ("CACHE_SIZE", "-1", "a whole number"),
        ("CACHE_SIZE", "1 GB", "a whole number"),
        ("MEMORY_BUDGET", "much", "a share such as 0.8"),
        ("MEMORY_BUDGET", "1.5", "a share such as 0.8"),
        ("MEMORY_BUDGET", "0", "a share such as 0.8"),
        ("MEMORY_BUDGET", "2 gigs", "a share such as 0.8"),
        ("DUMP", __file__, "a directory"),
        ("CACHE", __file__, "a directory"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name, value, allowed):
    with pytest.raises(ValueError, match=f"{PREFIX}{name} must .*{allowed}") as error:
        read({PREFIX + name: value})
    assert value in str(error.value)


def test_a_misspelt_variable_is_refused():
    with pytest.raises(ValueError, match="KERAS_TRITON_TARGETS is not a variable"):
        read({"KERAS_TRITON_TARGETS": "cpu"})


def test_settings_are_read_once(monkeypatch):
    settings.cache_clear()
    first = settings()
    monkeypatch.setenv("KERAS_TRITON_VERBOSE", "1")
    assert settings() is first
    settings.cache_clear()
    assert settings().verbose == 1
    monkeypatch.delenv("KERAS_TRITON_VERBOSE")
    settings.cache_clear()


def test_a_cache_that_cannot_be_written_is_replaced(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_TRITON_CACHE", str(tmp_path / "file" / "below"))
        settings.cache_clear()
        with pytest.warns(RuntimeWarning, match=r"below cannot be written \(Not a directory\)"):
            chosen = settings()
        assert settings() is chosen, "one warning a process"
        (chosen.cache / "kernel").write_text("can be kept")
        assert chosen.cache_size == 0, "nothing is kept for nobody"
    settings.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_is_documented(name):
    readme = Path(__file__).parents[1] / "README.md"
    assert PREFIX + name in readme.read_text()
