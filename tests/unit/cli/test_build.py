"""`eagleray build` without an instance."""

from __future__ import annotations

from pathlib import Path

import yaml
from click.testing import CliRunner

from eagleray.cli.build import build
from eagleray.spec.config import parse_config


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


def test_a_file_is_written_with_what_was_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    functions = ["tests.protos.echo_pb2_grpc:add_EchoServicer_to_server"]
    arguments = ["tests.compat.builders:app", "-o", str(file), "--grpc-disable-reflection"]
    done = CliRunner().invoke(build, [*arguments, "--grpc-servicer-functions", functions[0]])
    assert (done.exit_code, done.stdout) == (0, "")
    config = yaml.safe_load(file.read_text())
    assert config["grpc_options"] == {
        "port": 9000,
        "grpc_servicer_functions": functions,
        "enable_reflection": False,
    }
    assert [one["route_prefix"] for one in config["applications"]] == ["/"]
    assert parse_config(config)[1] == [], "it is a config that nothing is wrong with"


def test_options_that_need_the_ray_engine_are_told() -> None:
    done = CliRunner().invoke(build, ["tests.unit.cli.clustered:app"])
    assert done.exit_code == 1 and "or run the application on the Ray engine" in done.output
