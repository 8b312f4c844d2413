"""What every Engine must do, as functions of an engine and the rig that it works in."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import tempfile

import pytest
from tests.contract.engine.rig import Rig, next_exit
from tests.processes import still_alive, wait_gone

from eagleray.engine.base import Engine, EngineError


async def accepts_connects_as_soon_as_started(engine: Engine, rig: Rig) -> None:
    started = await engine.start(rig.request("a", payload=b"hello"))
    assert stat.S_IMODE(os.stat(f"{rig.dir}/a.sock").st_mode) == 0o600
    about = rig.ask("a", "about")
    assert (about["pid"], about["payload"]) == (started.pid, "hello")


async def gives_environment_and_directory(engine: Engine, rig: Rig) -> None:
    with tempfile.TemporaryDirectory(prefix="er-", dir="/tmp") as cwd:
        await engine.start(rig.request("a", env={"CUDA_VISIBLE_DEVICES": "3"}, cwd=cwd))
        about = rig.ask("a", "about")
        assert about["cwd"] == cwd
    assert about["env"]["CUDA_VISIBLE_DEVICES"] == "3"
    assert about["env"]["EAGLERAY_RUNTIME_DIR"] == rig.dir


async def sends_output_to_the_log(engine: Engine, rig: Rig) -> None:
    await engine.start(rig.request("a"))
    rig.ask("a", "print", "epoch 1")
    assert rig.log("a") == "epoch 1\nEPOCH 1\n"


async def reports_how_children_end(engine: Engine, rig: Rig) -> None:
    await engine.start(rig.request("a", payload=b"exit 3"))
    assert await next_exit(engine) == ("a", 3)
    assert "a.sock" not in os.listdir(rig.dir)
    await engine.start(rig.request("b", payload=b"raise"))
    assert await next_exit(engine) == ("b", 1)
    assert "RuntimeError: no weights" in rig.log("b")
    await engine.start(rig.request("c"))
    await engine.stop("c", signal.SIGKILL)
    assert await next_exit(engine) == ("c", -9)
    await engine.start(rig.request("d"))
    rig.ask("d", "about")
    await engine.stop("d")
    assert await next_exit(engine) == ("d", -15)


async def tells_who_is_stopped_and_who_goes_on(engine: Engine, rig: Rig) -> None:
    heard: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
    engine.on_suspended = lambda ref, stopped: heard.put_nowait((ref, stopped))
    await engine.start(rig.request("a"))
    rig.ask("a", "about")
    async with asyncio.timeout(30):
        await engine.stop("a", signal.SIGSTOP)
        assert await heard.get() == ("a", True)
        await engine.children()
        assert await heard.get() == ("a", True), "a new controller is told, too"
        await engine.stop("a", signal.SIGCONT)
        assert await heard.get() == ("a", False)
        await engine.children()
        await engine.stop("a", signal.SIGSTOP)
        assert await heard.get() == ("a", True)
    await engine.stop("a", signal.SIGKILL)
    assert await next_exit(engine) == ("a", -9)


async def forgets_children_that_have_gone(engine: Engine, rig: Rig) -> None:
    await engine.start(rig.request("a", payload=b"exit 0"))
    assert await next_exit(engine) == ("a", 0)
    await engine.stop("a", signal.SIGKILL)
    await engine.stop("never-started")
    assert await engine.children() == []
    await engine.start(rig.request("a"))
    assert [child.ref for child in await engine.children()] == ["a"]


async def refuses_a_ref_in_use(engine: Engine, rig: Rig) -> None:
    first = await engine.start(rig.request("a"))
    with pytest.raises(EngineError) as refused:
        await engine.start(rig.request("a"))
    assert refused.value.code == "exists"
    assert rig.ask("a", "about")["pid"] == first.pid


async def refuses_what_cannot_start(engine: Engine, rig: Rig) -> None:
    for fields in (
        {"log_path": "/dev/null/a.log"},
        {"cwd": "/nowhere"},
        {"listen": "/nowhere/a.sock"},
        {"listen": f"{rig.dir}/{'a' * 200}"},
        {"http": ("host.invalid", 0)},
        {"http": ("127.0.0.1", 70000)},
    ):
        with pytest.raises(EngineError) as refused:
            await engine.start(rig.request("a", **fields))
        assert refused.value.code == "internal", fields
    assert await engine.children() == []


async def says_whose_port_it_is(engine: Engine, rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EngineError) as refused:
            await engine.start(rig.request("proxy", http=("127.0.0.1", port)))
    assert refused.value.code == "port_in_use"
    assert refused.value.reason.startswith(f"Failed to bind to address '127.0.0.1:{port}'.")
    assert f"process {os.getpid()} " in refused.value.reason
    started = await engine.start(rig.request("proxy", http=("127.0.0.1", port)))
    assert started.http_address == ("127.0.0.1", port)


async def keeps_the_port_between_proxies(engine: Engine, rig: Rig) -> None:
    first = await engine.start(rig.request("one", http=("127.0.0.1", 0)))
    second = await engine.start(rig.request("two", http=("127.0.0.1", 0)))
    assert first.http_address == second.http_address is not None
    for ref in ("one", "two"):
        await engine.stop(ref, signal.SIGKILL)
        await next_exit(engine)
    with socket.create_connection(first.http_address, timeout=5):
        pass  # it waits in the backlog for the next proxy


async def closes_its_listeners_for_good(engine: Engine, rig: Rig) -> None:
    started = await engine.start(rig.request("one", http=("127.0.0.1", 0)))
    assert started.http_address is not None
    await engine.close_listeners()
    await engine.close_listeners()
    with socket.create_connection(started.http_address, timeout=5):
        pass  # the child has it still
    await engine.stop("one", signal.SIGKILL)
    await next_exit(engine)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(started.http_address, timeout=5)
    with pytest.raises(EngineError) as refused:
        await engine.start(rig.request("two", http=("127.0.0.1", 0)))
    assert refused.value.code == "closed"


async def kills_subprocesses_with_their_child(engine: Engine, rig: Rig) -> None:
    await engine.start(rig.request("a"))
    grandchild = rig.ask("a", "subprocess")
    assert still_alive([grandchild])
    await engine.stop("a", signal.SIGTERM)
    assert await next_exit(engine) == ("a", -15)
    assert not wait_gone([grandchild], 30.0)


async def starts_many_at_once(engine: Engine, rig: Rig) -> None:
    for number in range(20):
        await engine.start(rig.request(f"r{number}"))
    randoms = {rig.ask(f"r{number}", "about")["random"] for number in range(20)}
    assert len(randoms) == 20, "children must not draw the same random numbers"
    assert len(await engine.children()) == 20


ALL = (
    accepts_connects_as_soon_as_started,
    gives_environment_and_directory,
    sends_output_to_the_log,
    reports_how_children_end,
    tells_who_is_stopped_and_who_goes_on,
    forgets_children_that_have_gone,
    refuses_a_ref_in_use,
    refuses_what_cannot_start,
    says_whose_port_it_is,
    keeps_the_port_between_proxies,
    closes_its_listeners_for_good,
    kills_subprocesses_with_their_child,
    starts_many_at_once,
)
