from __future__ import annotations

import re
from pathlib import Path

from eagleray.base.log_files import file_name, leave_link, list_files

MINE = re.compile(r"replica_app_[^_]+_[^_]+\.log")


def test_names_have_no_more_parts_than_were_given() -> None:
    assert (
        file_name("replica", "my_app", "Ünder score/../x", "r1") == "replica_my-app_-nder-score-..-x_r1.log"
    )
    assert len(file_name("replica", "a" * 500, "D")) < 255


def test_rotated_files_and_those_elsewhere_are_found(tmp_path: Path) -> None:
    home, there = tmp_path / "home", tmp_path / "there"
    home.mkdir()
    there.mkdir()
    for name in ("replica_app_D_r1.log", "replica_app_D_r1.log.1", "replica_app-2_D_r1.log", "proxy_p.log"):
        (home / name).touch()
    for name in ("replica_app_E_r2.log", "replica_app_E_r2.log.2", "replica_other_E_r3.log"):
        (there / name).touch()
    leave_link(str(home), str(there / "replica_app_E_r2.log"))
    leave_link(str(home), str(there / "replica_app_E_r2.log"))
    leave_link(str(home), str(home / "replica_app_D_r1.log"))
    (home / "replica_app_D_r1.log.10").touch()
    found = sorted([Path(path).name for path in paths] for paths in list_files(str(home), MINE))
    assert found == [
        ["replica_app_D_r1.log.10", "replica_app_D_r1.log.1", "replica_app_D_r1.log"],
        ["replica_app_E_r2.log.2", "replica_app_E_r2.log"],
    ]
    assert len(list(home.glob("*.link"))) == 1
    assert list(list_files(str(tmp_path / "nowhere"), MINE)) == []
