"""Whoever is killed, soon nothing of an instance is left: no process, no subprocess of a user's, no socket."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.contract.engine.rig import ROOT, Rig, rig
from tests.processes import descendants, kill, still_alive, wait_gone
from tests.waiting import wait_until

GONE_WITHIN_S = 30.0


class Scene(Rig):
    """A driver in its own process, its node, replicas, and what user code leaves in them: a subprocess, a daemon."""

    def __init__(self, driver: subprocess.Popen[str], node_pid: int, runtime_dir: str, logs_dir: str) -> None:
        super().__init__(runtime_dir, logs_dir)
        self.driver = driver
        self.node_pid = node_pid
        self.replicas: dict[str, int] = {}
        self.subprocess_pid = 0
        self.daemon_pid = 0

    def everything(self) -> set[int]:
        left = {self.subprocess_pid, self.daemon_pid} - {0}
        return left | {self.node_pid, *descendants(self.node_pid)}

    async def populate(self, *payloads: bytes) -> None:
        async with self.attach() as engine:
            for number, payload in enumerate(payloads):
                started = await engine.start(self.request(f"r{number}", payload=payload))
                self.replicas[started.ref] = started.pid
        self.subprocess_pid = self.ask("r0", "subprocess")
        self.daemon_pid = self.ask("r0", "daemon")
        assert len(still_alive(self.everything())) == 4 + len(payloads)


@contextmanager
def scene(*arguments: str, payloads: tuple[bytes, ...] = (b"", b"")) -> Iterator[Scene]:
    home = tempfile.mkdtemp(prefix="er-")
    directories = {"EAGLERAY_RUNTIME_HOME": f"{home}/run", "EAGLERAY_STATE_HOME": f"{home}/state"}
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.fault.idle_driver", *arguments],
        env=os.environ | directories | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert driver.stdout is not None
    pid, runtime_dir, logs_dir = driver.stdout.readline().split()
    at_start = descendants(driver.pid)
    the_scene = Scene(driver, int(pid), runtime_dir, logs_dir)
    try:
        asyncio.run(the_scene.populate(*payloads))
        yield the_scene
    finally:
        the_scene.let_go()
        driver.kill()
        driver.wait()
        kill(the_scene.everything() | at_start)
        driver.stdout.close()
        shutil.rmtree(home, ignore_errors=True)


def assert_all_gone(pids: set[int], runtime_dir: str) -> None:
    assert not wait_gone(pids, GONE_WITHIN_S)
    assert not os.path.exists(runtime_dir)


def test_driver_killed() -> None:
    with scene() as it:
        pids = it.everything()
        it.driver.kill()
        assert_all_gone(pids, it.dir)


def test_driver_killed_while_a_process_that_it_forked_lives() -> None:
    with scene("fork") as it:
        pids = it.everything()
        it.driver.kill()
        assert_all_gone(pids, it.dir)


def test_driver_killed_while_a_replica_ignores_sigterm() -> None:
    with scene(payloads=(b"", b"deaf", b"deaf")) as it:
        it.ask("r1", "about")
        pids = it.everything()
        it.driver.kill()
        assert_all_gone(pids, it.dir)


def test_driver_killed_while_the_controller_is_stopped() -> None:
    with scene() as it:
        pids = it.everything()
        os.kill(it.controller_pid, signal.SIGSTOP)
        it.driver.kill()
        assert_all_gone(pids, it.dir)


def test_ctrl_c_reaches_the_driver_only_and_it_ends_the_instance() -> None:
    with scene() as it:
        pids = it.everything()
        os.killpg(it.driver.pid, signal.SIGINT)
        assert it.driver.wait(10) == 0
        assert_all_gone(pids, it.dir)


def test_terminal_closed() -> None:
    with scene() as it:
        pids = it.everything()
        os.killpg(it.driver.pid, signal.SIGHUP)
        assert_all_gone(pids, it.dir)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_node_signalled(signum: signal.Signals) -> None:
    with scene() as it:
        pids = it.everything()
        os.kill(it.node_pid, signum)
        assert_all_gone(pids, it.dir)


def test_node_killed() -> None:
    """User code's own subprocesses have lost all their parents then; the driver finds them."""
    with scene() as it:
        children = it.everything() - {it.subprocess_pid, it.daemon_pid}
        pids = it.everything()
        os.kill(it.node_pid, signal.SIGKILL)
        assert not wait_gone(children, GONE_WITHIN_S)
        os.killpg(it.driver.pid, signal.SIGINT)
        assert it.driver.wait(10) == 0
        assert_all_gone(pids, it.dir)


def test_node_and_driver_killed_at_once() -> None:
    with scene() as it:
        children = it.everything() - {it.subprocess_pid, it.daemon_pid}
        os.kill(it.node_pid, signal.SIGKILL)
        it.driver.kill()
        assert not wait_gone(children, GONE_WITHIN_S)


def test_replica_killed() -> None:
    with scene() as it:
        others = it.everything() - {it.replicas["r0"], it.subprocess_pid}
        os.kill(it.replicas["r0"], signal.SIGKILL)
        assert not wait_gone([it.replicas["r0"], it.subprocess_pid], GONE_WITHIN_S)
        assert still_alive(others) == others
        wait_until(lambda: not os.path.exists(f"{it.dir}/r0.sock"), what="the end of its socket")


def test_node_reaps_orphans(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig(monkeypatch) as it:

        async def run() -> int:
            async with it.attach() as engine:
                await engine.start(it.request("a"))
                return int(it.ask("a", "daemon"))

        orphan = asyncio.run(run())
        os.kill(orphan, signal.SIGKILL)
        assert not wait_gone([orphan], 30)
        wait_until(lambda: not os.path.exists(f"/proc/{orphan}"), what="the zombie's end")


def test_node_is_ended_twice_without_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig(monkeypatch) as it:

        async def run() -> set[int]:
            async with it.attach() as engine:
                pids = {(await engine.start(it.request(ref, payload=b"deaf"))).pid for ref in ("a", "b")}
                it.ask("a", "about")
                it.ask("b", "about")
                return pids

        pids = asyncio.run(run())
        it.node.terminate()
        assert still_alive(pids) == pids
        it.node.terminate()
        assert not wait_gone(pids, GONE_WITHIN_S)


def test_broken_preload_does_not_stop_node_and_one_with_threads_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig(monkeypatch, preload=["no.such.module"]) as it:
        asyncio.run(it.node.wait_ready())
        os.close(it.take_channel())
    with rig(monkeypatch, preload=["tests.fault.starts_thread"]) as it:
        assert asyncio.run(it.node.wait()) == 1
        assert "tests.fault.starts_thread" in it.node.last_words()
