"""Archives that are hostile, and directories that are made once and collected when they are too big."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from eagleray.base.errors import ConfigError
from eagleray.base.settings import Settings
from eagleray.engine.environments.archive import Limits, unpack
from eagleray.engine.environments.cache import Cache, cache_home
from eagleray.engine.environments.child import prepare
from eagleray.engine.environments.packages import unseen_options
from eagleray.engine.exec import LOCK_FILE, hold

LIMITS = Limits(files=20, bytes=1 << 20)


def write_zip(path: Path, *entries: tuple[str, bytes, int]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return str(path)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("../evil", b"", 0)], "leads out of it: '../evil'"),
        ([("a/../../evil", b"", 0)], "leads out of it"),
        ([("/etc/evil", b"", 0)], "absolute or foreign path: '/etc/evil'"),
        ([("..\\evil", b"", 0)], "absolute or foreign path"),
        ([("C:/evil", b"", 0)], "absolute or foreign path"),
        ([("link", b"/etc", stat.S_IFLNK | 0o777)], "symbolic link, which could lead out of it: 'link'"),
        ([("null", b"", stat.S_IFCHR | 0o666)], "device or pipe: 'null'"),
        ([("fifo", b"", stat.S_IFIFO | 0o666)], "device or pipe: 'fifo'"),
        ([("bomb", bytes(2 << 20), 0)], "unpacks to more than 1048576 bytes"),
        ([(f"f{number}", b"", 0) for number in range(21)], "has 21 files, more than 20"),
    ],
    ids=[
        "parent",
        "hidden parent",
        "absolute",
        "backslash",
        "drive",
        "symlink",
        "device",
        "pipe",
        "bomb",
        "many",
    ],
)
def test_a_hostile_archive_writes_nothing_outside(
    tmp_path: Path, entries: list[tuple[str, bytes, int]], words: str
) -> None:
    archive = write_zip(tmp_path / "bad.zip", *entries)
    with pytest.raises(ConfigError) as raised:
        unpack(archive, str(tmp_path / "in/here"), limits=LIMITS)
    assert words in str(raised.value) and archive in str(raised.value)
    inside = tmp_path / "in/here"
    left = [path for path in tmp_path.rglob("*") if path.is_file() and inside not in path.parents]
    assert left == [tmp_path / "bad.zip"]
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK but not really")
    with pytest.raises(ConfigError, match=r"bad\.zip' is no zip file"):
        unpack(str(tmp_path / "bad.zip"), str(tmp_path / "out"))


def test_an_archive_that_was_damaged(tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    write_zip(path, ("a", bytes(range(256)) * 100, 0))
    data = bytearray(path.read_bytes())
    data[50:80] = bytes(byte ^ 0xFF for byte in data[50:80])
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"bad\.zip' is no zip file that can be read"):
        unpack(str(path), str(tmp_path / "out"))


def test_a_good_archive_and_one_with_a_single_top(tmp_path: Path) -> None:
    archive = write_zip(
        tmp_path / "a.zip", ("top/", b"", stat.S_IFDIR), ("top/a", b"1", 0o755), ("top/b/c", b"2", 0o644)
    )
    unpack(archive, str(tmp_path / "whole"))
    unpack(archive, str(tmp_path / "inner"), strips_top=True)
    assert (tmp_path / "whole/top/b/c").read_bytes() == (tmp_path / "inner/b/c").read_bytes() == b"2"
    assert os.access(tmp_path / "inner/a", os.X_OK) and not os.access(tmp_path / "inner/b/c", os.X_OK)


def fill(size: int) -> Callable[[str], None]:
    def make(path: str) -> None:
        os.mkdir(path)
        Path(path, "data").write_bytes(bytes(size))

    return make


def age(cache: Cache, name: str, seconds: float) -> None:
    marker = os.path.join(cache.home, name, LOCK_FILE)
    then = os.stat(marker).st_mtime - seconds
    os.utime(marker, (then, then))


def test_the_longest_unused_go_and_what_is_held_stays(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), 1000)
    for number, name in enumerate(("first", "second", "third")):
        cache.get(name, fill(400 if number < 2 else 150), "data")
        age(cache, name, 5000 - number)
    hold([str(tmp_path / "first")])
    cache.get("fourth", fill(400), "data")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["first", "fourth", "third"]


def test_what_failed_or_was_left_half_is_made_anew(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), 1000)

    def fail(path: str) -> None:
        os.mkdir(path)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.get("one", fail, "data")
    assert not (tmp_path / "one").exists()
    fill(1)(str(tmp_path / "one"))  # its maker died
    made: list[str] = []

    def make(path: str) -> None:
        made.append(path)
        fill(2)(path)

    assert cache.get("one", make, "data") == cache.get("one", make, "data") == str(tmp_path / "one")
    assert len(made) == 1 and (tmp_path / "one/data").stat().st_size == 2
    (tmp_path / "one/data").unlink()  # somebody has cleaned up
    cache.get("one", make, "data")
    assert len(made) == 2 and (tmp_path / "one/data").exists()


def test_a_home_that_others_may_write_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match=r"Others may write.*chmod 700"):
        cache_home(Settings(environment_home=str(tmp_path)))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ('{"working_dir": "/not/there.zip"}', ["working_dir", "'/not/there.zip' does not exist"]),
        ('{"py_modules": ["/etc/hostname"]}', ["py_modules", "neither a folder, a .py file"]),
        ('{"pip": {"packages": "/not/there.txt"}}', ["Requirements file '/not/there.txt'", "No such file"]),
    ],
)
def test_paths_that_lead_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, words: list[str]
) -> None:
    monkeypatch.setenv("EAGLERAY_ENVIRONMENT_HOME", str(tmp_path / "home"))
    error = prepare(recipe).error
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    ("options", "is_pip", "seen", "variables"),
    [
        (["--retries", "0"], True, ["--retries", "0"], {}),
        (
            ["--index-url", "https://me:pw@h/s", "--pre"],
            True,
            ["--pre"],
            {"PIP_INDEX_URL": "https://me:pw@h/s"},
        ),
        (["--proxy=http://me:pw@h"], True, [], {"PIP_PROXY": "http://me:pw@h"}),
        (
            ["-f", "https://a:b@h/1", "-f", "https://a:b@h/2"],
            True,
            [],
            {"PIP_FIND_LINKS": "https://a:b@h/1 https://a:b@h/2"},
        ),
        (["--index-url", "https://h/s"], False, ["--index-url", "https://h/s"], {}),
        (["--default-index=https://me:pw@h/s"], False, [], {"UV_DEFAULT_INDEX": "https://me:pw@h/s"}),
    ],
)
def test_options_with_passwords_are_not_arguments(
    options: list[str], is_pip: bool, seen: list[str], variables: dict[str, str]
) -> None:
    assert unseen_options(options, is_pip) == (seen, variables)


@pytest.mark.parametrize("options", [["--proxy", "http://me:s3cret@h"], ["https://me:s3cret@h"]])
def test_options_that_would_show_a_password_are_refused(options: list[str]) -> None:
    with pytest.raises(ConfigError, match="has credentials") as caught:
        unseen_options(options, is_pip=False)
    assert "s3cret" not in str(caught.value)


def test_a_password_of_an_index_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAGLERAY_ENVIRONMENT_HOME", str(tmp_path / "home"))
    index = "--index-url http://me:s3cret@127.0.0.1:9/simple"
    recipe = {"pip": {"packages": [index, "not-there==1"], "pip_install_options": ["--retries", "0"]}}
    error = prepare(json.dumps(recipe)).error
    assert "not-there==1" in error and "could not be installed" in error and "s3cret" not in error, error
    assert not [path for path in (tmp_path / "home").iterdir() if path.is_dir()]
