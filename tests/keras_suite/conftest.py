"""A pytest plugin for Keras's own tests, which stand in its wheel without their root conftest.

Gives them the markers and the helper they import, runs only the ids asked for, and writes what
became of each test, and of the steps compiled meanwhile, to files that `run.py` reads.

KERAS_SUITE_IDS: a file of ids, one a line. KERAS_SUITE_RESULTS: a file for the results.
"""

import collections
import json
import os
import pathlib
import re

import pytest
import torch  # noqa: F401  (before tensorflow, whose libraries clash with torch's otherwise)
from keras.src.backend import backend

RESULTS = os.environ.get("KERAS_SUITE_RESULTS")
# Keras's layout inside its wheel.
SOURCES = "/keras/src/"
ADDRESS = re.compile(r"\s?at 0x[0-9a-f]+|at0x[0-9a-f]+")


def skip_if_backend(given_backend, reason):
    """What Keras's tests import from their conftest."""
    return pytest.mark.skipif(backend() == given_backend, reason=reason)


def pytest_configure(config):
    for name in ("requires_trainable_backend", "multi_device"):
        config.addinivalue_line("markers", f"{name}: from Keras's suite")


def pytest_collection_modifyitems(config, items):
    wanted = _wanted()
    chosen = []
    for item in items:
        if "multi_device" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="one device here"))
        if wanted is None or test_id(item.nodeid) in wanted:
            chosen.append(item)
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


def test_id(node):
    """The id a test has in the lists: independent of where Keras lies and of memory addresses."""
    path, _, rest = f"/{node}".partition(SOURCES)[2].partition(".py::")
    module = path.replace("/", ".")
    head, bracket, parameters = rest.partition("[")
    *classes, name = head.split("::")
    name = ADDRESS.sub("", name + bracket + parameters).replace(" ", "")
    return ".".join([module, *classes]) + "::" + name


def _wanted():
    path = os.environ.get("KERAS_SUITE_IDS")
    return set(pathlib.Path(path).read_text().splitlines()) if path else None


def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        line = {
            "id": test_id(report.nodeid),
            # A test that Keras marks as expected to fail may do so; on torch it passed by luck.
            "outcome": "xfailed" if hasattr(report, "wasxfail") else report.outcome,
            "seconds": round(report.duration, 3),
            "text": "" if report.passed else str(report.longrepr)[-4000:],
        }
        _write(line)


def pytest_runtest_logstart(nodeid):
    _write({"started": test_id(nodeid)})


def pytest_sessionfinish():
    if backend() != "triton":
        return
    import keras_triton

    stats = keras_triton.stats()
    counted = collections.Counter(
        {
            "steps": len(stats.reports),
            "launches": stats.launches,
            "refused steps": len(stats.refused),
            **{f"launch: {reason}": count for reason, count in stats.fallbacks.items()},
            **{f"step: {reason}": count for reason, count in stats.refusals.items()},
        }
    )
    _write({"steps": counted})


def _write(value):
    if RESULTS is not None:
        with open(RESULTS, "a") as file:
            print(json.dumps(value), file=file)
