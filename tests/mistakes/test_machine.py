"""A machine that has too little of something: said by its name, where it lacks, with what to do; and others go on."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

from tests.integration.cli.command import get
from tests.integration.cli.detached import Shell, shell
from tests.waiting import wait_until

HELLO = """
from eagleray import serve

@serve.deployment
def hello(request):
    return "hello"

app = hello.bind()
"""

GREEDY = """
import resource
from eagleray import serve

@serve.deployment
class Greedy:
    def __init__(self):
        resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
        self.weights = bytearray(2**34)
    def __call__(self, request): ...

app = Greedy.bind()
"""


def controller(user: Shell) -> int:
    return int(user.details()["controller_info"]["worker_id"])


def test_a_full_disk_and_too_little_memory(home: Path) -> None:
    with shell(home) as user:
        user.write("hello.py", HELLO)
        user.write("greedy.py", GREEDY)
        user.start()
        user("deploy", "hello:app", "--wait")

        # As a full disk: no file of this process grows beyond its first byte.
        pid = controller(user)
        former = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, former[1]))
        other = ["--name", "other", "--route-prefix", "/other", "--merge"]
        told = user.error("deploy", "hello:app", *other)
        assert f"Failed to write the state in '{home}/state/main/state.db'" in told, told
        assert "look whether that disk is full or failing, then deploy again" in told
        assert "Traceback" not in told and get(f"http://127.0.0.1:{user.port}/") == "hello"
        resource.prlimit(pid, resource.RLIMIT_FSIZE, former)
        user("deploy", "hello:app", *other, "--wait")

        told = user.error(
            "deploy", "greedy:app", "--name", "greedy", "--route-prefix", "/greedy", "--merge", "--wait"
        )
        for words in (
            f'File "{home}/greedy.py", line 9, in __init__',
            "MemoryError",
            "It has no more memory: load less",
        ):
            assert words in told, told

        # What the kernel does when memory is short; nobody of ours has sent it.
        [replica] = user.details()["applications"]["other"]["deployments"]["hello"]["replicas"]
        os.kill(replica["pid"], signal.SIGKILL)
        log = home / "state/main/logs/controller.log"
        words = (
            f"its process {replica['pid']} was ended by SIGKILL, probably because the machine or its cgroup is out of "
            "memory: see dmesg, and give it less or more"
        )
        wait_until(lambda: words in log.read_text(), "a word of it")
        wait_until(lambda: user.status("other")["status"] == "RUNNING", "its successor")
