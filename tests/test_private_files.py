"""Files that only the user can have written: what is read, what is refused, and what goes first."""

import errno
import os
import subprocess
import sys
import time

import pytest

from keras_triton.private_files import ABANDONED, PrivateFiles, Untrusted

PARTS = {"plan": b"a plan\nof two lines", "empty": b"", "code": bytes(range(256)) * 40}


@pytest.fixture
def files(tmp_path):
    return PrivateFiles(tmp_path / "cache" / "kept", limit=100_000)


def entry(files, name="step"):
    return files.folder / f"{name}.entry"


def names(files):
    return [file.name for file in files.stored()]


def test_parts_come_back(files):
    assert files.read("step") is None
    files.write("step", PARTS)
    assert files.read("step") == PARTS
    files.write("step", {"plan": b"another"})
    assert files.read("step") == {"plan": b"another"}
    assert files.read("other") is None


def test_only_the_user_can_read_or_write(files):
    previous = os.umask(0)
    try:
        files.write("step", PARTS)
    finally:
        os.umask(previous)
    modes = [path.stat().st_mode & 0o777 for path in (files.folder, entry(files))]
    assert modes == [0o700, 0o600]


def change_one_bit(path):
    """Of the last part, where nothing but the digest can notice."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        change_one_bit,
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(b"no entry at all"),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    ],
    ids=["bit", "truncated", "empty", "other", "longer"],
)
def test_a_damaged_entry_is_refused_and_replaced(files, damage):
    files.write("step", PARTS)
    damage(entry(files))
    with pytest.raises(Untrusted, match=r"step\.entry is damaged"):
        files.read("step")
    files.write("step", PARTS)
    assert files.read("step") == PARTS


def test_an_entry_under_another_name_is_refused(files):
    files.write("step", PARTS)
    entry(files).rename(entry(files, "other"))
    with pytest.raises(Untrusted, match="damaged"):
        files.read("other")


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_refused(files, mode):
    files.write("step", PARTS)
    entry(files).chmod(mode)
    with pytest.raises(Untrusted, match="other users may write to the file"):
        files.read("step")


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_may_write_is_not_used(files, mode):
    files.write("step", PARTS)
    files.folder.chmod(mode)
    for use in (
        lambda: files.read("step"),
        lambda: files.write("b", PARTS),
        files.stored,
        files.clear,
    ):
        with pytest.raises(Untrusted, match="other users may write to the folder"):
            use()


def test_what_belongs_to_somebody_else_is_not_used(files, monkeypatch):
    files.write("step", PARTS)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(Untrusted, match=r"the folder .* belongs to another user"):
        files.read("step")


def test_links_are_not_followed(files, tmp_path):
    files.write("step", PARTS)
    entry(files).rename(tmp_path / "elsewhere")
    entry(files).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        files.read("step")
    files.write("step", PARTS)
    assert not entry(files).is_symlink()
    linked = PrivateFiles(tmp_path / "link", limit=100_000)
    linked.folder.symlink_to(files.folder)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        linked.read("step")


def test_a_full_disk_leaves_nothing_behind(files, monkeypatch):
    """The disk is full after the first bytes."""
    write = os.write

    def full(descriptor, content):
        if len(content) < 5000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content[: len(content) - 4000])

    files.write("before", PARTS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            files.write("step", PARTS)
    assert names(files) == ["before.entry"]
    assert files.read("before") == PARTS
    assert files.read("step") is None


def test_a_write_may_take_several_calls(files, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:100]))
    files.write("step", PARTS)
    assert files.read("step") == PARTS


KILLED = """
import os, signal, sys
from pathlib import Path
from keras_triton.private_files import PrivateFiles
write = os.write
def killed(descriptor, content):
    write(descriptor, content[:1000])
    os.kill(os.getpid(), signal.SIGKILL)
os.write = killed
PrivateFiles(Path(sys.argv[1]), 100_000).write("step", {"code": bytes(5000)})
"""


def test_a_writer_that_is_killed_leaves_no_entry(files, monkeypatch):
    files.write("before", PARTS)
    done = subprocess.run([sys.executable, "-c", KILLED, files.folder], check=False)
    assert done.returncode == -9
    (partial, _) = sorted(names(files), key=lambda name: name.endswith(".entry"))
    assert partial.endswith(".part")
    assert files.read("step") is None
    files.write("step", PARTS)
    assert partial in names(files), "its writer may still be at it"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + ABANDONED + 1)
    files.write("later", PARTS)
    assert names(files) == ["before.entry", "step.entry", "later.entry"]


def test_the_least_recently_used_go_first(files):
    for age, name in enumerate(["a", "b", "c", "d"]):
        files.write(name, {"code": bytes(20_000)})
        os.utime(entry(files, name), (100 + age, 100 + age))
    assert files.read("a"), "now the most recently used"
    files.write("large", {"code": bytes(50_000)})
    assert names(files) == ["d.entry", "a.entry", "large.entry"]
    assert sum(file.bytes for file in files.stored()) <= files.limit
    files.write("larger than all", {"code": bytes(100_000)})
    assert names(files) == ["d.entry", "a.entry", "large.entry"]


def test_clearing_removes_entries_only(files):
    assert files.clear() == 0
    files.write("a", PARTS)
    files.write("b", PARTS)
    (files.folder / "note.txt").write_text("somebody's own")
    assert files.clear() == 2
    assert files.stored() == []
    assert [path.name for path in files.folder.iterdir()] == ["note.txt"]
