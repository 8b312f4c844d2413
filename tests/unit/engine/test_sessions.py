from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from eagleray.base.settings import Settings
from eagleray.engine.sessions import main_runtime_dir, make_runtime_dir, make_session_dir


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = Path(os.path.realpath("/tmp"), f"er-sessions-{os.getpid()}")
    path.mkdir(mode=0o700)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(path))
    yield path
    for directory, _, files in os.walk(path, topdown=False):
        for file in files:
            os.unlink(Path(directory, file))
        os.rmdir(directory)


def age(path: str | Path) -> None:
    os.utime(path, (1, 1))


def test_directories_are_private(home: Path) -> None:
    for path, lock in (
        make_runtime_dir(Settings(runtime_home=str(home / "run"))),
        make_session_dir(Settings()),
    ):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        assert path.startswith(str(home))
        os.close(lock)


def test_runtime_dir_is_below_xdg_runtime_dir(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    path, lock = make_runtime_dir(Settings())
    os.close(lock)
    assert Path(path).parent == home / "eagleray"


def test_runtime_dir_leaves_room_for_socket_names(home: Path) -> None:
    path, lock = make_runtime_dir(Settings(runtime_home=str(home / ("x" * 90))))
    os.close(lock)
    os.rmdir(path)
    assert len(path) <= 50


def test_runtime_home_that_others_may_enter_is_not_used(home: Path) -> None:
    shared = home / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    path, lock = make_runtime_dir(Settings(runtime_home=str(shared)))
    os.close(lock)
    os.rmdir(path)
    assert Path(path).parent != shared


@pytest.mark.parametrize("name", ["shared", "x" * 90])
def test_a_wanted_home_of_the_lasting_instance_is_used_or_refused(home: Path, name: str) -> None:
    (home / name).mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="EAGLERAY_RUNTIME_HOME="):
        main_runtime_dir(Settings(runtime_home=str(home / name)))
    assert main_runtime_dir(Settings(runtime_home=str(home / "run"))) == str(home / "run" / "main")


def test_what_dead_instances_left_is_removed_and_the_living_stay(home: Path) -> None:
    settings = Settings(runtime_home=str(home / "run"))
    living, lock = make_runtime_dir(settings)
    dead, dead_lock = make_runtime_dir(settings)
    os.close(dead_lock)
    age(living)
    age(dead)
    newest, newest_lock = make_runtime_dir(settings)
    assert os.path.isdir(living) and os.path.isdir(newest) and not os.path.exists(dead)
    os.close(lock)
    os.close(newest_lock)


def test_only_the_last_sessions_are_kept(home: Path) -> None:
    sessions = home / "eagleray" / "sessions"
    sessions.mkdir(parents=True)
    for number in range(12):
        old = sessions / f"20200101-0000{number:02}-1-xxxxxxxx"
        old.mkdir()
        (old / "node.log").write_text("old")
        age(old)
    path, lock = make_session_dir(Settings(keep_sessions=3))
    os.close(lock)
    kept = sorted(entry.name for entry in sessions.iterdir())
    assert kept == ["20200101-000010-1-xxxxxxxx", "20200101-000011-1-xxxxxxxx", os.path.basename(path)]


def test_home_that_cannot_be_written_is_no_obstacle(home: Path) -> None:
    path, lock = make_session_dir(Settings(state_home="/proc/none"))
    os.close(lock)
    os.rmdir(path)
    assert "eagleray-session-" in path
