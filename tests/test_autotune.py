"""The tuner with kernels that are Python functions: no device, no compiler."""

import sqlite3
import threading

import pytest
import torch

from keras_triton.autotune import tuner
from keras_triton.autotune.protocol import Candidate, Key, Trial
from keras_triton.autotune.search import SEARCHES, Exhaustive, Random
from keras_triton.autotune.store import Store

KEY = Key("matmul", "0123", "64x64", "fake", "3.6.0")
CPU = torch.device("cpu")


@pytest.fixture
def times(monkeypatch):
    """Each configuration "takes" its block's distance from 32, without running a clock."""
    monkeypatch.setattr(tuner.measure, "seconds", lambda run, device: run())


def candidate(blocks=(128, 64, 32, 16), broken=(), wrong=()):
    current = {}

    def build(config):
        if config["block"] in broken:
            raise RuntimeError("the compiler crashed")
        current.update(config)
        return lambda: abs(config["block"] - 32) + 1.0

    def right():
        return current["block"] not in wrong

    configs = [{"block": b} for b in blocks]
    return Candidate(KEY, configs[0], configs.__contains__, lambda: configs, build, right)


def test_exhaustive_finds_the_best(times):
    best = tuner.tune(candidate(), Exhaustive(), 5.0, CPU)
    assert best == Trial({"block": 32}, 1.0)


def test_a_crash_and_a_wrong_result_cost_one_configuration_each(times):
    seen = []
    best = tuner.tune(
        candidate(broken=(64,), wrong=(32,)),
        Exhaustive(),
        5.0,
        CPU,
        lambda trial, best: seen.append(trial),
    )
    assert best.config == {"block": 16}
    assert [trial.error for trial in seen] == [
        "",
        "RuntimeError: the compiler crashed",
        "wrong result",
        "",
    ]


def test_random_starts_at_the_guess_and_repeats():
    configs = [{"block": b} for b in range(50)]
    search, history = Random(trials=10, seed=3), []
    while (config := search.propose(configs, history)) is not None:
        history.append(Trial(config, 1.0))
    again = []
    while (config := Random(trials=10, seed=3).propose(configs, again)) is not None:
        again.append(Trial(config, 1.0))
    assert history == again
    assert len(history) == 10
    assert history[0].config == configs[0]
    assert len({trial.config["block"] for trial in history}) == 10


def test_no_effort_takes_the_first_guess_and_runs_nothing(tmp_path):
    never = Candidate(KEY, {"block": 8}, pytest.fail, pytest.fail, pytest.fail, pytest.fail)
    assert tuner.choose(never, "none", Store(tmp_path / "tuning.db"), CPU) == {"block": 8}


def test_a_stored_result_is_used_and_a_stale_one_is_not(times, tmp_path):
    store = Store(tmp_path / "tuning.db")
    assert tuner.choose(candidate(), "full", store, CPU) == {"block": 32}
    assert tuner.choose(candidate(), "none", store, CPU) == {"block": 32}
    assert tuner.choose(candidate(blocks=(128, 64)), "none", store, CPU) == {"block": 128}


def test_the_store_keeps_the_faster(tmp_path):
    store = Store(tmp_path / "tuning.db")
    for seconds in (3.0, 1.0, 2.0):
        store.keep(KEY, Trial({"block": int(seconds)}, seconds))
    assert store.best(KEY) == Trial({"block": 1}, 1.0)


def test_the_store_is_shared_by_threads(tmp_path):
    def work(i):
        Store(tmp_path / "tuning.db").keep(KEY, Trial({"block": i}, 10.0 - i))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Store(tmp_path / "tuning.db").best(KEY) == Trial({"block": 7}, 3.0)


def test_a_store_that_is_no_database_is_an_empty_store(tmp_path):
    path = tmp_path / "tuning.db"
    path.write_text("this is no database, " * 100)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("select * from best")
    store = Store(path)
    store.keep(KEY, Trial({"block": 1}, 1.0))
    assert store.best(KEY) is None


def test_searches_are_known_by_name():
    assert set(SEARCHES) == {"exhaustive", "random"}
