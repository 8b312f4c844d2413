"""`eagleray run module:app`, or `run config.yaml`: serve an application, or all of a file, until Ctrl-C.

Exit codes: 0 stopped after it had served, 1 it could not be served, 2 wrong usage, 130 interrupted before it served.
"""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from eagleray.base.errors import EaglerayError
from eagleray.base.ray_names import VARIABLE
from eagleray.cli import interrupt
from eagleray.cli.files import parse_arguments
from eagleray.cli.plan import ConfigPlan, Plan

_ENV_AS_RAY = {VARIABLE: "1"}


def _check_import_path(path: str) -> str:
    module, colon, attribute = path.partition(":")
    if not colon:
        module, _, attribute = path.rpartition(".")
    dotted = all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")])
    if not dotted or path.endswith(".py"):
        raise click.UsageError(
            f"'{path}' is no import path: expected 'module:attribute', for example 'hello:app'.{_hint(path)}"
        )
    return path


def _hint(path: str) -> str:
    """What was meant, when it looks like the name of a file or of a module."""
    file, _, attribute = path.partition(":")
    if not Path(file).name:
        return ""
    where = Path(file).with_suffix("")
    option = f"--app-dir {where.parent} " if where.is_absolute() else ""
    parts = [where.name] if option else [part for part in where.parts if part != "."]
    if not parts or not all(part.isidentifier() for part in parts):
        return ""
    what = (
        "A file is named by its module"
        if file.endswith(".py") or "/" in file
        else "Name the application, too"
    )
    return f" {what}: write '{option}{'.'.join(parts)}:{attribute if attribute.isidentifier() else 'app'}'."


def _check_prefix(prefix: str) -> str | None:
    if prefix.lower() in ("none", ""):
        return None
    if (
        not prefix.startswith("/")
        or (prefix.endswith("/") and prefix != "/")
        or "{" in prefix
        or "}" in prefix
    ):
        raise click.UsageError(
            f"--route-prefix '{prefix}' must start with '/', may not end with '/' (unless it is '/') and may not "
            f"contain '{{' or '}}'."
        )
    return prefix


@click.command()
@click.argument("config_or_import_path")
@click.argument("arguments", nargs=-1)
@click.option(
    "-d", "--app-dir", default=".", show_default=True, help="Directory to import the application from."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the HTTP proxy binds.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free port."
)
@click.option(
    "--grpc-port",
    default=9000,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Port of the gRPC proxy, which there is with --grpc-servicer-functions only.",
)
@click.option(
    "--grpc-servicer-functions",
    multiple=True,
    metavar="MODULE:FUNCTION",
    help="A generated add_XServicer_to_server, importable from --app-dir; may be repeated.",
)
@click.option(
    "--route-prefix", default="/", show_default=True, help="Path under which it is served; 'none': no HTTP."
)
@click.option("--name", default="default", show_default=True, help="Name of the application.")
@click.option("--runtime-env", default=None, metavar="FILE", help="YAML file of the runtime environment.")
@click.option("--runtime-env-json", default=None, metavar="JSON")
@click.option("--working-dir", default=None, metavar="DIR", help="Directory or archive that replicas run in.")
@click.option(
    "-r", "--reload", is_flag=True, help="Watch --app-dir; a change restarts the deployments it concerns."
)
@click.option(
    "--as-ray", is_flag=True, help="The code imports ray and ray.serve, and means Eagleray (docs/as-ray.md)."
)
@click.option(
    "--blocking/--non-blocking",
    default=True,
    show_default=True,
    help="Serve until Ctrl-C, or leave it to the instance of `eagleray start`, started if need be.",
)
@click.pass_context
def run(
    ctx: click.Context,
    config_or_import_path: str,
    arguments: tuple[str, ...],
    app_dir: str,
    host: str,
    port: int,
    grpc_port: int,
    grpc_servicer_functions: tuple[str, ...],
    route_prefix: str,
    name: str,
    runtime_env: str | None,
    runtime_env_json: str | None,
    working_dir: str | None,
    reload: bool,
    as_ray: bool,
    blocking: bool,
) -> None:
    """Serve a config file or an import path until Ctrl-C.

    An import path is 'module:app': an application, or a builder of one that takes KEY=VALUE arguments. Of a config file
    all applications are served; --host, --port and --app-dir may be given beside it.
    """
    if reload and not blocking:
        raise click.UsageError(
            "--reload and --non-blocking exclude each other: somebody has to stay and watch."
        )
    directory = Path(app_dir).resolve()
    if not directory.is_dir():
        raise click.UsageError(f"--app-dir '{app_dir}' is no directory.")
    if not name or "#" in name:
        raise click.UsageError(f"--name '{name}' must not be empty or contain '#'.")
    path = config_or_import_path
    is_config = _is_config(path)
    plan = Plan(
        import_path="" if is_config else _check_import_path(path),
        arguments={} if is_config else parse_arguments(arguments),
        env_vars=_ENV_AS_RAY if as_ray else {},
        app_dir=str(directory),
        host=host,
        port=port,
        route_prefix=_check_prefix(route_prefix),
        name=name,
        reload=reload,
        grpc_port=grpc_port,
        grpc_servicer_functions=grpc_servicer_functions,
    )
    environment = (runtime_env, runtime_env_json, working_dir)
    has_environment = any(one is not None for one in environment)
    if reload and (is_config or has_environment):
        raise click.UsageError(
            "--reload needs an import path alone: a config or runtime environment that has not changed builds nothing."
        )
    if is_config:
        _warn_of_what_a_file_says(arguments, environment)
        plan = replace(plan, config=_read_config(path, plan, _given(ctx, plan)))
    elif has_environment:
        plan = replace(plan, config=_with_environment(plan, *environment))
    sys.exit(_serve(plan) if blocking else _leave_running(ctx, plan))


def _warn_of_what_a_file_says(arguments: tuple[str, ...], environment: tuple[str | None, ...]) -> None:
    if arguments:
        click.echo(f"Warning: arguments {list(arguments)} are ignored beside a config file.", err=True)
    if any(one is not None for one in environment):
        click.echo("Warning: a config file says its runtime environments itself.", err=True)


def _given(ctx: click.Context, plan: Plan) -> dict[str, Any]:
    """Options of the instance that stand on the command line."""
    names = {"host": plan.host, "port": plan.port}
    return {
        f"http_{name}": value
        for name, value in names.items()
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }


def _with_environment(plan: Plan, file: str | None, text: str | None, working_dir: str | None) -> ConfigPlan:
    """An import path with a runtime environment is what a config file of one application says."""
    from eagleray.cli.files import read_environment

    application = {
        "name": plan.name,
        "route_prefix": plan.route_prefix,
        "import_path": plan.import_path,
        "args": plan.arguments,
        "runtime_env": read_environment(file, text, working_dir),
    }
    data: dict[str, Any] = {"applications": [application]}
    given = {"http_host": plan.host, "http_port": plan.port, "grpc_options": _grpc_options(plan)}
    return _config_plan(data, plan.import_path, plan, given)


def _is_config(path: str) -> bool:
    """A file that exists is one, but for Python's: whoever names that means what is in it."""
    return Path(path).is_file() and not path.endswith(".py")


def _read_config(path: str, plan: Plan, given: dict[str, Any]) -> ConfigPlan:
    """What is in the file; see `_config_plan`."""
    from eagleray.cli.files import read_file  # a run of an import path needs neither YAML nor pydantic

    try:
        data = read_file(path)
    except EaglerayError as error:
        raise click.ClickException(str(error)) from None
    return _config_plan(data, path, plan, given)


def _config_plan(data: Any, path: str, plan: Plan, given: dict[str, Any]) -> ConfigPlan:
    """What `data` says, with the options that the instance must be started with; `given` wins over them.

    `env_vars` of the plan come to those of every application.
    """
    from eagleray.spec.config import read_config
    from eagleray.spec.overlay import merge_environments

    try:
        read = read_config(data, path)
    except EaglerayError as error:
        raise click.ClickException(str(error)) from None
    app_dir, env_vars = plan.app_dir, plan.env_vars
    for one in read.data["applications"] if env_vars else ():
        one["runtime_env"] = merge_environments({"env_vars": env_vars}, one.get("runtime_env") or {})
    schema = read.schema
    http = schema.http_options
    options: dict[str, Any] = {
        "http_host": None if schema.proxy_location == "Disabled" else http.host,
        "http_port": http.port,
        "http_options": http.model_dump(
            mode="json", exclude_unset=True, exclude_none=True, exclude={"host", "port"}
        ),
    }
    if schema.grpc_options.is_served:
        options["grpc_options"] = {**schema.grpc_options.model_dump(mode="json"), "sys_path": [app_dir]}
    if schema.tracing_config is not None:
        tracing = schema.tracing_config.model_dump(mode="json", exclude_unset=True)
        options["tracing_config"] = {**tracing, "sys_path": [app_dir]}
    if schema.controller_options is not None:
        options["controller_env"] = dict(schema.controller_options.runtime_env.env_vars)
    return ConfigPlan(
        source=path,
        data=json.dumps(read.data).encode(),
        applications={one.name: one.route_prefix for one in schema.applications},
        warnings=read.warnings,
        options={**options, **given},
    )


def _node_options(plan: Plan) -> dict[str, Any]:
    if plan.config is not None:
        return plan.config.options
    return {"http_host": plan.host, "http_port": plan.port, "grpc_options": _grpc_options(plan)}


def _grpc_options(plan: Plan) -> dict[str, Any]:
    if not plan.grpc_servicer_functions:
        return {}
    from eagleray.spec.options import gRPCOptions  # pydantic takes longer to import than all else here

    options = gRPCOptions(port=plan.grpc_port, grpc_servicer_functions=list(plan.grpc_servicer_functions))
    return {**options.model_dump(mode="json"), "sys_path": [plan.app_dir]}


def _leave_running(ctx: click.Context, plan: Plan) -> int:
    from eagleray.cli.run_on import run_on

    fixed = ("host", "port", "grpc_port", "grpc_servicer_functions")
    given = [
        f"--{name.replace('_', '-')}"
        for name in fixed
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    ]
    return run_on(plan, _node_options(plan), given)


def _serve(plan: Plan) -> int:
    """Node starts first: it takes a while, in which this process imports what else it needs."""
    for warning in plan.config.warnings if plan.config is not None else ():
        click.echo(f"Warning: {warning}", err=True)
    stop_asked = threading.Event()
    interrupt.tell(stop_asked.set)
    from eagleray.engine.spawn import node_config, spawn_node

    try:
        config = node_config(**_node_options(plan))
        node = spawn_node(config, writes_bytecode=not plan.reload)
    except (EaglerayError, OSError) as error:
        raise click.ClickException(f"Eagleray could not start: {error}") from error
    try:
        from eagleray.cli.driver import Driver
        from eagleray.cli.relay import relayed

        with relayed(node.logs_dir):
            try:
                return Driver(plan, node).run(stop_asked)
            finally:
                interrupt.ignore()
                node.close()
    finally:
        node.close()
