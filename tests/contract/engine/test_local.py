"""The local engine: the contract of all engines, and what node adds to it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from tests.contract.engine.rig import OwnRig, Rig, next_exit, rig
from tests.contract.engine.suite import ALL
from tests.processes import still_alive, wait_gone
from tests.waiting import wait_until

from eagleray.engine.base import EngineError
from eagleray.engine.channel import FrameReader
from eagleray.engine.local import LocalEngine
from eagleray.wire.control import Children, ListChildren, NodeEvent


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnRig]:
    with rig(monkeypatch) as it:
        yield it


def with_engine(node: OwnRig, check: Callable[[LocalEngine, Rig], Awaitable[None]]) -> None:
    async def run() -> None:
        async with node.attach() as engine:
            await asyncio.wait_for(check(engine, node), 30)

    asyncio.run(run())


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.__name__)
def test_contract(node: OwnRig, check: Callable[[LocalEngine, Rig], Awaitable[None]]) -> None:
    with_engine(node, check)


def test_child_is_a_clean_process(node: OwnRig) -> None:
    async def check(engine: LocalEngine, _: Rig) -> None:
        started = await engine.start(node.request("a", http=("127.0.0.1", 0)))
        await engine.start(node.request("b"))
        about = node.ask("a", "about")
        assert about["group"] == about["session"] == started.pid
        assert about["gc"] and about["threads"] == 1 and about["wakeup"] == -1
        assert about["main"] == sorted(vars(type(os)("__main__")))
        assert not {"run", "_obey", "_start_child", "start", "fork_child"} & set(about["stack"])
        fds = {int(fd): target for fd, target in about["fds"].items()}
        accepted = 1
        unknown = {fd: target for fd, target in fds.items() if fd > 2 and fd not in about["given"] and target}
        assert len(unknown) == accepted, f"inherited: {unknown}"
        assert fds[0] == os.devnull
        assert fds[1] == fds[2] == os.path.join(node.logs_dir, "a.log")

    with_engine(node, check)


def test_death_of_a_child_refuses_connects(node: OwnRig) -> None:
    async def check(engine: LocalEngine, _: Rig) -> None:
        await engine.start(node.request("a"))
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{node.dir}/a.sock")
            await engine.stop("a", signal.SIGKILL)
            await next_exit(engine)
            sock.settimeout(5)
            with pytest.raises(ConnectionResetError):
                if not sock.recv(1):
                    raise ConnectionResetError

    with_engine(node, check)


def test_malformed_commands_are_ignored(node: OwnRig) -> None:
    async def check(engine: LocalEngine, _: Rig) -> None:
        assert engine._transport is not None
        for body in (b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"type": "start"}), os.urandom(100)):
            engine._transport.write(len(body).to_bytes(4, "little") + body)
        await engine.stop("nobody", 9999)
        started = await engine.start(node.request("a"))
        await engine.stop("a", 9999)
        with pytest.raises(EngineError):
            await engine.start(node.request("b", listen="\0/b.sock"))
        assert [child.pid for child in await engine.children()] == [started.pid]

    with_engine(node, check)


def test_broken_framing_costs_the_controller_only(node: OwnRig) -> None:
    async def check(engine: LocalEngine, _: Rig) -> None:
        started = await engine.start(node.request("a"))
        assert engine._transport is not None
        engine._transport.write(b"\xff\xff\xff\xff")
        assert not wait_gone([node.controller_pid], 30)
        async with node.attach() as successor:
            assert [child.pid for child in await successor.children()] == [started.pid]

    with_engine(node, check)


def test_controller_that_dies_is_restarted_and_adopts(node: OwnRig) -> None:
    async def check(engine: LocalEngine, _: Rig) -> None:
        refs = ["a", "b", "c"]
        pids = [(await engine.start(node.request(ref))).pid for ref in refs]
        for _ in range(3):
            os.kill(node.controller_pid, signal.SIGKILL)
            async with node.attach() as successor:
                found = {child.ref: child.pid for child in await successor.children()}
                assert found == dict(zip(refs, pids, strict=True))
                assert still_alive(pids) == set(pids)

    with_engine(node, check)


def test_exits_of_the_time_before_attaching_are_kept(node: OwnRig) -> None:
    fd = node.take_channel()

    async def first() -> None:
        engine = await LocalEngine.attach(os.dup(fd), node.node.config)
        await engine.start(node.request("a"))
        await engine.close()
        pid = node.ask("a", "about")["pid"]
        os.kill(pid, signal.SIGKILL)
        assert not wait_gone([pid], 30)

    async def second() -> None:
        engine = await LocalEngine.attach(fd, node.node.config)
        assert await next_exit(engine) == ("a", -9)
        await engine.close()

    asyncio.run(first())
    asyncio.run(second())


def test_exits_end_with_the_engine(node: OwnRig) -> None:
    async def check(engine: LocalEngine, _: Rig) -> None:
        await engine.close()
        assert [exited async for exited in engine.exits()] == []
        assert [exited async for exited in engine.exits()] == []
        with pytest.raises(EngineError, match="closed"):
            await engine.start(node.request("a"))

    with_engine(node, check)


def test_crash_looping_controller_does_not_burn_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig(monkeypatch, controller_module="eagleray.no_such_module") as node:
        log = Path(node.logs_dir, "controller.log")
        wait_until(lambda: log.exists() and log.read_text().count("ModuleNotFoundError") >= 3)
        assert node.node.is_alive()
        assert log.read_text().count("ModuleNotFoundError") < 10


def test_idle_node_sleeps(node: OwnRig) -> None:
    async def check(engine: LocalEngine, _: Rig) -> None:
        await engine.start(node.request("a"))
        node.ask("a", "about")
        await engine.children()
        node_process = psutil.Process(node.node.pid)
        wait_until(lambda: node_process.status() == psutil.STATUS_SLEEPING, what="node's sleep")
        switches = node_process.num_ctx_switches()
        with pytest.raises(TimeoutError):
            await next_exit(engine, timeout_s=0.5)
        assert node_process.num_ctx_switches() == switches

    with_engine(node, check)


def test_shutdown_ends_everything(node: OwnRig) -> None:
    async def check(engine: LocalEngine, _: Rig) -> None:
        pids = [(await engine.start(node.request(ref))).pid for ref in ("a", "b")]
        await engine.shutdown()
        # The stream ends with node; which of the children it still reports on the way is left open.
        assert {exited.pid async for exited in engine.exits()} <= set(pids)
        assert await node.node.wait() == 0
        assert not still_alive(pids)

    with_engine(node, check)


def test_large_launch_reaches_the_child(node: OwnRig) -> None:
    async def check(engine: LocalEngine, _: Rig) -> None:
        await engine.start(node.request("a", payload=b"x" * 20_000_000))
        assert len(node.ask("a", "about")["payload"]) == 20_000_000

    with_engine(node, check)


def test_frames_of_a_stopped_controller_wait(node: OwnRig) -> None:
    """Node must not block on a controller that does not read."""
    fd = node.take_channel()
    command = msgspec.msgpack.encode(ListChildren())
    frame = len(command).to_bytes(4, "little") + command
    total = 20_000
    with socket.socket(fileno=fd) as channel:
        channel.settimeout(10)
        channel.sendall(frame * total)
        reader, seen = FrameReader(), 0
        while seen < total:
            for body in reader.feed(channel.recv(1 << 16)):
                assert isinstance(msgspec.msgpack.decode(body, type=NodeEvent), Children)
                seen += 1
