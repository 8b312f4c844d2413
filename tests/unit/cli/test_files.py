"""Config files as commands read them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import click
import pytest

from eagleray.cli.files import Listed, is_file, read_file

ONE = "import_path: m:app\nname: one\nruntime_env: {working_dir: code}\n"


@pytest.mark.parametrize("text", [ONE, f"{ONE}\n---\n\n{ONE}", '{"import_path": "m:app", "name": "one"}'])
def test_applications_as_they_are_printed_are_a_config(tmp_path: Path, text: str) -> None:
    (tmp_path / "saved.yaml").write_text(text)
    found = read_file(str(tmp_path / "saved.yaml"))
    assert isinstance(found, Listed) and {one["name"] for one in found["applications"]} == {"one"}
    if "code" in text:
        assert found["applications"][-1]["runtime_env"]["working_dir"] == str(tmp_path / "code")


@pytest.mark.parametrize("text", ["applications: []\n", "import_path: m:app\n", "name: a\n", "3\n", ""])
def test_what_is_none_stays_what_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert not isinstance(read_file(str(tmp_path / "a.yaml")), Listed)


def test_other_documents_beside_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{ONE}---\napplications: []\n")
    with pytest.raises(click.ClickException, match="has 2 documents"):
        read_file(str(tmp_path / "a.yaml"))


def test_a_pipe_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_text, args=(ONE,))
    writer.start()
    assert is_file("pipe") and is_file("-") and not is_file(".") and not is_file("m:app")
    assert read_file("pipe")["applications"][0]["runtime_env"]["working_dir"] == str(tmp_path / "code")
    writer.join()
