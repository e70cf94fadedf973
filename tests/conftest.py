"""Every test runs with the triton backend, and keeps its files to itself."""

import os
import tempfile

import pytest

collect_ignore = ["keras_suite"]  # Keras's own tests, with a command of their own

# Keras and the settings read these once, so they are set before either is imported.
_home = tempfile.mkdtemp(prefix="keras-triton-tests-")
os.environ["KERAS_BACKEND"] = "triton"
os.environ["KERAS_HOME"] = os.path.join(_home, "keras")
os.environ["KERAS_TRITON_CACHE"] = os.path.join(_home, "cache")
# A test sees what the compiler makes now, not what it made in another test.
os.environ["KERAS_TRITON_CACHE_SIZE"] = "0"


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew")


@pytest.fixture
def forced(monkeypatch):
    """Forces a target, by name."""
    from keras_triton.settings import settings

    def force(name):
        monkeypatch.setenv("KERAS_TRITON_TARGET", name)
        settings.cache_clear()

    yield force
    monkeypatch.undo()
    settings.cache_clear()
