"""Files are whole or not there: a kill, a full disk or a bad folder never leaves half of one."""

import hashlib
import os
import random
import resource
import signal
import time

import pytest
import torch
from helpers.weights import files_below

from sigmoid_vit import files
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import sha256, write_atomically, write_csv
from sigmoid_vit.model.checkpoints import load_checkpoint, save_checkpoint


def keep_writing(path, size, first):
    """Write the file again and again, each version `size` times one byte, until killed."""
    try:
        for version in range(first, 10_000):
            parts = [bytes([version % 256]) * 1000] * (size // 1000)
            write_atomically(path, lambda file, parts=parts: file.writelines(parts))
    finally:
        os._exit(1)


def test_a_killed_writer_leaves_the_old_or_the_new_file_whole(tmp_path):
    path, size, seen = tmp_path / "file", 2_000_000, set()
    path.touch()
    for kill in range(25):
        before = path.stat().st_ino
        child = os.fork()
        if child == 0:
            keep_writing(path, size, first=7 * kill)
        while path.stat().st_ino == before:  # this writer is at work
            time.sleep(0.001)
        time.sleep(random.Random(kill).uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        content = path.read_bytes()
        assert content == content[:1] * size
        seen.add(content[:1])
    assert len(seen) > 1


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def write(file):
        file.write(b"half")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert files_below(tmp_path) == ["file"]


def test_a_full_disk_is_said_in_a_sentence_and_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write .*last\.pt.*disk full"):
            save_checkpoint(path, {"epoch": 2, "weights": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(path) == {"epoch": 1}
    assert files_below(tmp_path) == ["last.pt"]


def test_a_folder_that_is_a_file_is_said_in_a_sentence(tmp_path):
    (tmp_path / "models").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        save_checkpoint(tmp_path / "models" / "a.pt", {})


def test_leftovers_of_killed_writers_go_but_those_of_live_writers_stay(tmp_path):
    abandoned, live, other = (tmp_path / f".{name}.tmp" for name in ("file.1", "file.2", "other.1"))
    for leftover in (abandoned, live, other):
        leftover.write_text("half")
    long_ago = time.time() - files.LEFTOVER_AGE - 1
    os.utime(abandoned, (long_ago, long_ago))
    os.utime(other, (long_ago, long_ago))
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert files_below(tmp_path) == [".file.2.tmp", ".other.1.tmp", "file"]


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "disk" / "file", tmp_path / "link"
    write_atomically(target, lambda file: file.write(b"old"))
    link.symlink_to(target)
    write_atomically(link, lambda file: file.write(b"new"))
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_sha256_is_the_one_of_hashlib(tmp_path):
    (tmp_path / "file").write_bytes(b"attention" * 100_000)
    assert sha256(tmp_path / "file") == hashlib.sha256(b"attention" * 100_000).hexdigest()


@pytest.mark.parametrize("name, mark", [("scratch", b""), ("傷", b"\xef\xbb\xbf")])
def test_a_csv_file_has_the_mark_that_excel_needs_where_it_needs_it(tmp_path, name, mark):
    write_csv(tmp_path / "a.csv", [["class", "n"], [name, 1]])
    assert (tmp_path / "a.csv").read_bytes() == mark + f"class,n\n{name},1\n".encode()
