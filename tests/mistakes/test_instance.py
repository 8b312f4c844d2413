"""Commands that meet an instance, a file or a machine as it should not be."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.cli.detached import shell
from tests.waiting import wait_until


def test_files_and_instances_that_are_not_there(home: Path) -> None:
    with shell(home) as made:
        assert "eagleray start" in made.error("status")
        file = made.write("bad.yaml", "applications: [\n")
        made.start()
        told = made.error("deploy", file)
        assert "bad.yaml" in told and "line 2" in told and "YAML" in told
        file = made.write("twice.yaml", "applications:\n- import_path: a:b\n  import_path: a:c\n")
        told = "Error: {} is not valid:\napplications[0].import_path: is given twice, in line {} and in line {}; "
        assert told.format(file, 2, 3) in made.error("deploy", file)
        file = made.write(
            "twice.json", '{"applications": [\n{"import_path":\n"a:b",\n\t"import_path": "a:c"}]}'
        )
        assert told.format(file, 2, 4) in made.error("deploy", file)
        assert f"Config file '{home}/absent.yaml' does not exist" in made.error("deploy", "absent.yaml")
        second = made.error("start", "--http-port", "0")
        assert "runs already" in second and "eagleray shutdown" in second, second


def test_a_port_that_somebody_has(home: Path) -> None:
    with socket.socket() as taken, shell(home) as user:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = user.error("start", "--http-port", str(port))
        assert f"127.0.0.1:{port}" in told and "choose another" in told, told
        user.start()


def test_sockets_of_an_instance_that_was_killed(home: Path) -> None:
    with shell(home) as user:
        user.start()
        user.kill_everything()
        assert "eagleray start" in user.error("status")
        assert f"127.0.0.1:{user.port}" in user.start()


def test_a_key_that_is_lost(home: Path) -> None:
    with shell(home) as user:
        user.start()
        user.kill_everything()
        [key] = home.glob("state/main/instance.key")
        aside = key.rename(home / "backup.key")
        told = user.error("start", "--http-port", str(user.port))
        assert f"The key '{key}' is gone" in told and "restore the key from a backup" in told, told
        assert not key.exists()
        aside.rename(key)
        user.start()


def test_a_state_that_is_damaged(home: Path) -> None:
    with shell(home) as user:
        user.start()
        user.kill_everything()
        [key] = home.glob("state/main/instance.key")
        good = key.read_bytes()
        key.write_bytes(b"")
        with ThreadPoolExecutor(1) as elsewhere:
            starting = elsewhere.submit(user.run, "start", "--http-port", str(user.port))
            log = home / "state/main/logs/controller.log"
            try:
                wait_until(
                    lambda: f"The key '{key}' is damaged: move it away" in log.read_text(), what="the reason"
                )
            finally:
                key.write_bytes(good)
            assert f"127.0.0.1:{user.port}" in starting.result().stdout
