"""The shared count of waiting requests: exact over processes, and without those that have died."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eagleray.routing.board import QueueBoard, board_path


@pytest.fixture
def path(tmp_path: Path) -> str:
    return board_path(str(tmp_path), "app#Model")


def in_another_process(path: str, then: str) -> subprocess.Popen[bytes]:
    """A process that has counted 3 when it prints, and then does `then`."""
    program = (
        "import os, sys; from eagleray.routing.board import QueueBoard; board = QueueBoard(sys.argv[1]); board.add(3); "
        f"print('here', flush=True); {then}"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"here\n"
    return process


def test_routers_of_one_process_and_of_others_count_together(path: str) -> None:
    one, two = QueueBoard(path), QueueBoard(path)
    process = in_another_process(path, "sys.stdin.read(); board.close()")
    one.add(1)
    two.add(5)
    two.add(-1)
    assert one.total() == two.total() == 8
    one.clear_dead()
    assert one.total() == 8
    process.communicate()
    assert one.total() == 5
    one.close()
    assert two.total() == 4
    two.close()
    two.close()


def test_what_a_dead_process_had_counted_is_forgotten(path: str) -> None:
    board = QueueBoard(path)
    process = in_another_process(path, "sys.stdin.read()")
    process.kill()
    process.communicate()
    assert board.total() == 3
    board.clear_dead()
    assert board.total() == 0
    board.close()


def test_rows_are_used_again(path: str) -> None:
    for _ in range(10):
        board = QueueBoard(path)
        board.add(1)
        assert board.total() == 1
        board.close()
    for _ in range(3):
        in_another_process(path, "os._exit(0)").communicate()
    board = QueueBoard(path)
    assert board.total() == 0 and board._cells[0] == 1
    board.close()


def test_the_file_is_for_its_owner_only(path: str) -> None:
    QueueBoard(path).close()
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="queue-"):
        QueueBoard(board_path(str(tmp_path / "gone"), "a#b"))
