"""The commands by `--address http://...`: the same words and effects as by control socket; refusals are told."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from tests.integration.cli.detached import shell
from tests.integration.test_config_cli import CONFIG, HELLO, answer

from eagleray.admin.tokens import ADMIN_FILE, READ_FILE


def test_every_command_by_rest(home: Path) -> None:
    with shell(home) as user:
        user.environ["EAGLERAY_ADMIN_PORT"] = "0"
        user.write("hello.py", HELLO)
        file = user.write("c.yaml", CONFIG)
        found = re.search(r"Admin +(http://\S+) \(token: (\S+)\)", user.start())
        assert found is not None
        there = ["-a", found.group(1)]
        token_file = Path(found.group(2))
        assert token_file.name == ADMIN_FILE and token_file.is_file()

        assert user("config", *there) == "No configuration was found.\n"
        done = user.run("deploy", file, "--wait", *there)
        assert "Sent deploy request successfully." in done.stdout
        assert "first: is running." in done.stderr and "second: is running." in done.stderr
        assert answer(user, "/first")[:2] == ["hello", "file"]
        assert yaml.safe_load(user("status", *there)) == yaml.safe_load(user("status"))
        assert user("config", *there) == user("config")
        done = user.run("deploy", "hello:raises", "--name", "bad", "--route-prefix", "/bad", "--merge", "--wait",
                        *there, code=1)  # fmt: skip
        assert "no weights in /models" in done.stderr
        wrong = user.write("wrong.yaml", "applications:\n- {name: x, import_path: 'hello:app', args: 1}\n")
        assert "applications[0].args" in user.error("deploy", wrong, *there)

        reader = {"EAGLERAY_TOKEN_FILE": str(token_file.with_name(READ_FILE))}
        user.environ.update(reader)
        assert yaml.safe_load(user("status", *there))["applications"]["first"]["status"] == "RUNNING"
        for command in (["deploy", file], ["delete", "first", "-y"], ["shutdown", "-y"]):
            assert "may only read" in user.error(*command, *there)
        user.environ["EAGLERAY_TOKEN"] = "wrong"
        assert "Invalid authentication token" in user.error("shutdown", "-y", *there)
        del user.environ["EAGLERAY_TOKEN"], user.environ["EAGLERAY_TOKEN_FILE"]

        user("delete", "first", "-y", *there)
        assert "first" not in yaml.safe_load(user("status"))["applications"]
        assert user("shutdown", "-y", *there) == "Eagleray has been shut down.\n"
        assert "No Serve instance found" in user.error("shutdown", "-y", *there, code=0)
        assert "No Eagleray could be reached" in user.error("status", *there)
        assert "http://host:port" in user.error("status", "-a", "localhost:8265", code=2)
