"""One config file with every seeded mistake: each application fails for its own reason, and says it in its status."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.detached import shell
from tests.mistakes.seeded import HELPERS, MISTAKES, Mistake
from tests.waiting import wait_until

WAITING = ("no_gpu", "no_memory")
"""Mistakes that are no failures: a GPU may still come."""


def write_files(home: Path) -> str:
    """All modules and archives, and the text of the config that names them."""
    applications = []
    for mistake in MISTAKES:
        (home / f"{mistake.name}.py").write_text(mistake.source)
        path = mistake.import_path or f"{mistake.name}:app"
        one = {
            "name": mistake.name,
            "route_prefix": f"/{mistake.name}",
            "import_path": path,
            **mistake.config,
        }
        if mistake.options:
            one["deployments"] = [{"name": "Bad", **mistake.options}]
        applications.append(one)
    for name, source in HELPERS.items():
        (home / f"{name}.py").write_text(source)
    with zipfile.ZipFile(home / "hostile.zip", "w") as archive:
        archive.writestr("../../evil", "")
    with zipfile.ZipFile(home / "link.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
    return json.dumps({"applications": applications}).replace("{home}", str(home))


def messages(status: dict[str, Any]) -> str:
    return "\n".join([status["message"], *(one["message"] for one in status["deployments"].values())])


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[str, dict[str, str]]]:
    """The directory, and what the status says of each application when none is under way any more."""
    home = Path(tempfile.mkdtemp(prefix="er-"))
    former = dict(os.environ)
    os.environ |= {"EAGLERAY_ENVIRONMENT_HOME": str(home / "environments"), "PIP_NO_INDEX": "1"}
    try:
        with shell(home) as user:
            file = user.write("config.json", write_files(home))
            user.start()
            user("deploy", file)

            def settled() -> dict[str, Any] | None:
                found = json.loads(user("status", "--json"))["applications"]
                under_way = [
                    name
                    for name, one in found.items()
                    if one["status"] in ("DEPLOYING", "NOT_STARTED")
                    and not (name in WAITING and messages(one).strip())
                ]
                return found if len(found) == len(MISTAKES) and not under_way else None

            found = wait_until(settled, "the end of all deploys", 240.0)
            yield str(home), {name: messages(one) for name, one in found.items()}
    finally:
        for name in ("EAGLERAY_ENVIRONMENT_HOME", "PIP_NO_INDEX"):
            os.environ.pop(name)
            if name in former:
                os.environ[name] = former[name]
        shutil.rmtree(home)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_message_names_place_cause_and_remedy(told: tuple[str, dict[str, str]], mistake: Mistake) -> None:
    home, by_name = told
    text = by_name[mistake.name]
    missing = [word for word in mistake.words if word.format(home=home) not in text]
    assert not missing, text


def test_nothing_escaped_from_an_archive(told: tuple[str, dict[str, str]]) -> None:
    home, _ = told
    assert not [path for path in Path(home).rglob("*") if path.name in ("evil", "link")]
