"""Tuning results on disk: one SQLite file in the cache folder, safe for several processes at once."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from .protocol import Config, Key, Trial

_TABLE = """
create table if not exists best (
    key text primary key, kernel text, problem text, device text, triton text, config text, seconds
    real
)
"""


class Store:
    """The best configuration known for each key.

    A store that cannot be opened or written (read-only home, full disk, a file that is no database)
    is an
    empty store: tuning results are worth having, never worth failing for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def best(self, key: Key) -> Trial | None:
        """What was found for `key`, or None."""
        try:
            with closing(self._open()) as database, database:
                row = database.execute(
                    "select config, seconds from best where key = ?", (_digest(key),)
                ).fetchone()
        except (sqlite3.Error, OSError):
            return None
        return Trial(_config(row[0]), row[1]) if row else None

    def keep(self, key: Key, trial: Trial) -> None:
        """Keeps a trial if it beats what is known for `key`."""
        values = (
            _digest(key), key.kernel, key.problem, key.device, key.triton,
            json.dumps(dict(trial.config), sort_keys=True), trial.seconds,
        )  # fmt: skip
        try:
            with closing(self._open()) as database, database:
                database.execute(
                    "insert into best values (?, ?, ?, ?, ?, ?, ?) on conflict (key) do update set "
                    "config = excluded.config, seconds = excluded.seconds "
                    "where excluded.seconds < best.seconds",
                    values,
                )
        except (sqlite3.Error, OSError):
            return

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=10.0)
        database.execute(_TABLE)
        return database


def _digest(key: Key) -> str:
    return hashlib.sha256(key.text().encode()).hexdigest()


def _config(text: str) -> Config:
    return json.loads(text)
