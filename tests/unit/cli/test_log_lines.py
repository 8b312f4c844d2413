from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eagleray.base.log_files import list_files
from eagleray.cli.log_lines import LATE_S, Follower, Stamps, read_all

NOW = 1_800_000_000.0


def stamped(at: float, text: str) -> str:
    date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    return f"INFO {date},{round(at * 1000) % 1000:03d} app_D r1 -- {text}\n"


def write(path: Path, *lines: str) -> str:
    with path.open("a") as file:
        file.writelines(lines)
    return str(path)


def texts(lines: Iterator[bytes] | list[bytes]) -> list[str]:
    return [line.decode().split(" -- ")[-1].strip() for line in lines]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (stamped(NOW + 0.25, "x"), NOW + 0.25),
        ('{"levelname":"INFO","timestamp_ns":1800000000250000000}', NOW + 0.25),
        ('{"timestamp_ns": 1800000000250000000}', NOW + 0.25),
        ("Traceback (most recent call last):", None),
        ("INFO 2026-13-41 99:99:99,123 app", None),
        ("INFO 2026-01-01 00:00:00,abc app", None),
        ('{"timestamp_ns": "x"}', None),
        ("INFO ", None),
        ("", None),
    ],
)
def test_the_time_of_a_line(line: str, expected: float | None) -> None:
    assert Stamps().read(line.encode()) == pytest.approx(expected)


def test_files_are_merged_and_tracebacks_stay_with_their_line(tmp_path: Path) -> None:
    one = write(
        tmp_path / "a.log",
        "importing\n",
        stamped(NOW, "first"),
        stamped(NOW + 3, "third"),
        "Traceback\n",
        "  here\n",
    )
    two = write(tmp_path / "b.log", stamped(NOW + 2, "second"), stamped(NOW + 4, "fourth").rstrip("\n"))
    expected = ["importing", "first", "second", "third", "Traceback", "here", "fourth"]
    assert texts(read_all([[one], [two], [str(tmp_path / "none.log")]])) == expected
    for last in range(len(expected) + 2):
        assert texts(read_all([[one], [two]], last)) == expected[len(expected) - last :] or last > len(
            expected
        )


def test_lines_that_were_written_late_are_put_in_order(tmp_path: Path) -> None:
    rng = random.Random(7)
    times = sorted(NOW + rng.random() * 30 for _ in range(500))
    late = sorted(times, key=lambda at: at + rng.random() * LATE_S * 0.99)
    path = write(tmp_path / "a.log", *(stamped(at, f"{at:.3f}") for at in late))
    found = texts(read_all([[path]]))
    assert found == sorted(found) and len(found) == 500


def test_the_last_lines_of_a_file_that_is_larger_than_a_block(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", *(stamped(NOW + i, "x" * 200 + str(i)) for i in range(5000)))
    found = texts(read_all([[path]], 3000))
    assert len(found) == 3000 and found[0].endswith("x2000") and found[-1].endswith("x4999")


def test_rotated_files_are_one_stream_also_within_a_millisecond(tmp_path: Path) -> None:
    chain = [
        write(tmp_path / f"a.log{number}", *(stamped(NOW, f"{number}-{n}") for n in range(300)))
        for number in (".2", ".1", "")
    ]
    found = texts(read_all([chain]))
    assert found == [f"{number}-{n}" for number in (".2", ".1", "") for n in range(300)]
    for last in (0, 1, 299, 300, 301, 700, 900, 1000):
        assert texts(read_all([chain], last)) == found[max(900 - last, 0) :]


class World:
    """Files of a directory, followed, and a clock."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = NOW
        self.follower = Follower(lambda: list_files(str(home), re.compile(".*log")), lambda: self.now)

    def say(self, name: str, *words: str) -> None:
        write(self.home / name, *(stamped(self.now, word) for word in words))

    def later(self) -> list[str]:
        """What is told once it is old enough."""
        self.follower.look()
        self.now += LATE_S
        return texts(self.follower.look())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.follower.close()


def test_following_begins_with_the_last_lines_and_goes_on(world: World) -> None:
    world.say("a.log", "one", "two")
    write(world.home / "a.log", stamped(NOW, "thr")[:-1])
    assert texts(world.follower.begin(1)) == ["two"]
    write(world.home / "a.log", "ee\n")
    assert world.later() == ["three"]
    assert world.later() == []


def test_a_rotated_file_is_read_to_its_end_and_the_new_one_from_its_beginning(world: World) -> None:
    world.say("a.log", "one")
    world.follower.begin(0)
    world.say("a.log", "two")
    for number in (1, 2):
        if (world.home / "a.log.1").exists():
            os.rename(world.home / "a.log.1", world.home / "a.log.2")
        os.rename(world.home / "a.log", world.home / "a.log.1")
        world.say("a.log", f"new {number}")
    assert world.later() == ["two", "new 1", "new 2"]
    os.unlink(world.home / "a.log.2")
    world.say("a.log", "last")
    assert world.later() == ["last"]
    assert len(world.follower._files) == 2


def test_new_files_and_lines_without_a_time(world: World) -> None:
    world.follower.begin(10)
    world.say("a.log", "failed")
    write(world.home / "a.log", "Traceback\n", "  here\n")
    world.say("b.log", "a new replica")
    assert world.later() == ["failed", "Traceback", "here", "a new replica"]
    write(world.home / "b.log", "printed\n")
    assert world.later() == ["printed"]


def test_what_is_later_than_a_burst_waits_for_its_place(world: World) -> None:
    world.follower.begin(0)
    world.now += 0.4
    world.say("a.log", "second")
    assert world.follower.look() == []
    write(world.home / "b.log", stamped(NOW + 0.1, "first"))
    assert world.later() == ["first", "second"]
