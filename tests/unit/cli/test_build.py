"""`eagleray build` without an instance."""

from __future__ import annotations

import yaml
from click.testing import CliRunner

from eagleray.cli.build import build


def test_a_builder_function_is_built_too() -> None:
    done = CliRunner().invoke(build, ["tests.compat.builders:untyped", "tests.compat.builders:app"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("# This file was generated using the `eagleray build` command")
    config = yaml.safe_load(done.stdout)
    assert [(one["name"], one["route_prefix"], one["import_path"]) for one in config["applications"]] == [
        ("app1", "/app1", "tests.compat.builders:untyped"),
        ("app2", "/app2", "tests.compat.builders:app"),
    ]
    assert config["http_options"] == {"host": "0.0.0.0", "port": 8000}
    assert config["applications"][0]["deployments"] == [{"name": "Echo"}]


def test_options_that_need_the_ray_engine_are_told() -> None:
    done = CliRunner().invoke(build, ["tests.unit.cli.clustered:app"])
    assert done.exit_code == 1 and "or run the application on the Ray engine" in done.output
