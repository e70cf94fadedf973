"""Files that nobody but the user can have written: a folder of entries, each with a digest.

What a compiler keeps is executed when it is read again, so an entry counts only if the folder and the
file belong to the user, nobody else may write to them, and the content is what was written under this
very name. Both are looked at through the descriptors that are then read, so they cannot be exchanged
in between.

An entry appears whole or not at all: it is written under another name first. Nothing here locks;
two processes that write the same entry write the same content.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

FORMAT = b"keras-triton entry 1"
ENTRY, PARTIAL = ".entry", ".part"
ABANDONED = 3600.0
"""Seconds after which a half-written file belongs to a process that was killed."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Untrusted(Exception):
    """Something in the folder is not as we wrote it; the sentence says what."""


@dataclass(frozen=True)
class Stored:
    """A file of the folder: its name, size in bytes, and when it was used last (seconds since 1970)."""

    name: str
    bytes: int
    used: float


class PrivateFiles:
    """Entries by name in a folder of at most `limit` bytes; the least recently used go first."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    def read(self, name: str) -> dict[str, bytes] | None:
        """The parts of an entry, which now is the most recently used; None if there is none.

        Raises:
            Untrusted: folder or file are not the user's alone, or the content is damaged.
            OSError: it cannot be read.
        """
        try:
            with self._open_folder() as folder:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(name + ENTRY, flags, dir_fd=folder), "rb") as file:
                    _check_owner(os.fstat(file.fileno()), self.folder / (name + ENTRY), "file")
                    content = file.read()
                    with suppress(OSError):  # a read-only disk: it cannot be evicted there either
                        os.utime(file.fileno())
        except FileNotFoundError:
            return None
        parts = _unpack(name, content)
        if parts is None:
            raise Untrusted(f"{self.folder / (name + ENTRY)} is damaged")
        return parts

    def write(self, name: str, parts: Mapping[str, bytes]) -> None:
        """Adds or replaces an entry, and removes others until all fit; one that alone is too large is
        not kept.

        Raises:
            Untrusted: the folder is not the user's alone.
            OSError: it cannot be written, for example because the disk is full.
        """
        content = _pack(name, parts)
        if len(content) > self.limit:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._open_folder() as folder:
            partial = f"{name}.{secrets.token_hex(8)}{PARTIAL}"
            try:
                _write(partial, content, folder)
                os.replace(partial, name + ENTRY, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):  # what went wrong first says more
                    _remove(partial, folder)
                raise
            self._make_room(folder)

    def stored(self) -> list[Stored]:
        """What the folder holds, the least recently used first; half-written files too.

        Raises:
            Untrusted: the folder is not the user's alone.
        """
        try:
            with self._open_folder() as folder:
                return _stored(folder)
        except FileNotFoundError:
            return []

    def clear(self) -> int:
        """Removes every entry; returns how many files that were.

        Raises:
            Untrusted: the folder is not the user's alone.
            OSError: it cannot be written.
        """
        try:
            with self._open_folder() as folder:
                return sum(_remove(file.name, folder) for file in _stored(folder))
        except FileNotFoundError:
            return 0

    @contextmanager
    def _open_folder(self) -> Iterator[int]:
        """A descriptor of the folder, which is the user's alone."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        folder = os.open(self.folder, flags)
        try:
            _check_owner(os.fstat(folder), self.folder, "folder")
            yield folder
        finally:
            os.close(folder)

    def _make_room(self, folder: int) -> None:
        files = _stored(folder)
        total, now = sum(file.bytes for file in files), time.time()
        for file in files:
            abandoned = file.name.endswith(PARTIAL) and now - file.used > ABANDONED
            if total > self.limit or abandoned:
                _remove(file.name, folder)
                total -= file.bytes


def _check_owner(found: os.stat_result, path: Path, kind: str) -> None:
    right = stat.S_ISDIR if kind == "folder" else stat.S_ISREG
    if not right(found.st_mode):
        raise Untrusted(f"{path} is no {kind}")
    if found.st_uid != os.geteuid():
        raise Untrusted(f"the {kind} {path} belongs to another user")
    if found.st_mode & _OTHERS_WRITE:
        raise Untrusted(f"other users may write to the {kind} {path}")


def _stored(folder: int) -> list[Stored]:
    """Our files in the folder; what another process removes meanwhile is not there."""
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((ENTRY, PARTIAL)):
                with suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    files.append(Stored(entry.name, found.st_size, found.st_mtime))
    return sorted(files, key=lambda file: (file.used, file.name))


def _write(name: str, content: bytes, folder: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def _remove(name: str, folder: int) -> bool:
    """Whether there was such a file; another process may have removed it."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def _pack(name: str, parts: Mapping[str, bytes]) -> bytes:
    """A line with format and digest, a line with the parts' names and sizes, then the parts."""
    sizes = json.dumps({part: len(content) for part, content in parts.items()}).encode()
    body = b"".join([sizes, b"\n", *parts.values()])
    return b" ".join([FORMAT, _digest(name, body)]) + b"\n" + body


def _unpack(name: str, content: bytes) -> dict[str, bytes] | None:
    """The parts; None if the content is not what `_pack` gave for this name."""
    head, _, body = content.partition(b"\n")
    if head != b" ".join([FORMAT, _digest(name, body)]):
        return None
    sizes, _, rest = body.partition(b"\n")
    parts, start = {}, 0
    for part, size in json.loads(sizes).items():
        parts[part] = rest[start : start + size]
        start += size
    return parts


def _digest(name: str, body: bytes) -> bytes:
    """Of the name too: an entry under another entry's name is as good as damaged."""
    return hashlib.sha256(name.encode() + b"\0" + body).hexdigest().encode()
