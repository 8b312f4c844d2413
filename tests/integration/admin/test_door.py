"""Where the REST server listens, what its files are, and that nothing is made before somebody knocks."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from pathlib import Path

from tests.admin_server import Remembering

from eagleray.admin import door as module
from eagleray.admin.door import Door
from eagleray.admin.records import Reading
from eagleray.admin.tokens import URL_FILE, Role, load_or_make_tokens


def make(path: Path, runtime: str = "") -> Door:
    runtime_dir = path / (runtime or "run")
    runtime_dir.mkdir(exist_ok=True)
    return Door(
        Remembering(),
        str(runtime_dir),
        str(path),
        version="1",
        scrape=Remembering().scrape,
        reading=Reading(Remembering()),
    )


def read(path: Path) -> str:
    return path.read_text().strip()


def version(url: str, token: str) -> int:
    request = urllib.request.Request(f"{url}/api/ray/version", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return int(reply.status)


def test_a_taken_port_makes_it_the_next_free_one(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.create_server((module.HOST, 0)) as taken:
            port = taken.getsockname()[1]
            one, two = make(tmp_path, "1"), make(tmp_path, "2")
            one.open(port)
            two.open(port)
            ports = [int(door.url.rpartition(":")[2]) for door in (one, two)]
            assert len({port, *ports}) == 3 and not one.error and not two.error
            await one.close()
            await two.close()
            await two.close()

    asyncio.run(main())


def test_files_are_private_and_outlive_a_controller(tmp_path: Path) -> None:
    async def main() -> None:
        first = make(tmp_path)
        first.open(0)
        url, path = first.url, Path(first.token_path)
        token = read(path)
        for file in path.parent.iterdir():
            assert file.stat().st_mode & 0o777 == 0o600, file
        assert len(token) >= 43
        assert read(path.parent / URL_FILE) == url
        assert await asyncio.to_thread(version, url, token) == 200
        await first.close()
        second = make(tmp_path)
        second.open(0)
        assert (second.url, read(Path(second.token_path))) == (url, token)
        assert await asyncio.to_thread(version, url, token) == 200
        await second.close()

    asyncio.run(main())


def test_two_roles_have_two_tokens(tmp_path: Path) -> None:
    tokens = load_or_make_tokens(str(tmp_path))
    assert tokens.role_of(tokens.admin) is Role.ADMIN
    assert tokens.role_of(tokens.read) is Role.READ
    assert tokens.role_of(b"") is Role.NONE
    assert tokens.admin.decode() not in repr(tokens)
    (tmp_path / "admin.token").write_text("")
    assert load_or_make_tokens(str(tmp_path)).admin not in (b"", tokens.admin)


def test_no_server_is_wanted_or_possible(tmp_path: Path) -> None:
    async def main() -> None:
        none = make(tmp_path)
        none.open(-1)
        assert (none.url, none.token_path, none.error) == ("", "", "")
        await none.close()
        assert not list((tmp_path / "run").iterdir())
        lost = Door(
            Remembering(),
            str(tmp_path / "missing"),
            str(tmp_path),
            version="1",
            scrape=Remembering().scrape,
            reading=Reading(Remembering()),
        )
        lost.open(0)
        assert not lost.url and "cannot be started" in lost.error
        await lost.close()

    asyncio.run(main())
