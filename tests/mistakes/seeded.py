"""Modules with one mistake each, and the words by which the message of each must name its place, cause and remedy.

`{home}` stands for the directory that the modules are in. Each is an application `app` of a config file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

HEAD = "from eagleray import serve\n"

ECHO = """
@serve.deployment
class Echo:
    def __init__(self, *held): ...
    def __call__(self, request): return "echo"
"""


@dataclass(frozen=True)
class Mistake:
    """`source` is the module; `words` all stand in the message of its application or deployment."""

    name: str
    source: str
    words: tuple[str, ...]
    import_path: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def built(name: str, body: str, *words: str, import_path: str = "", **config: Any) -> Mistake:
    """One that the import or the description of the application finds."""
    return Mistake(name, HEAD + body, words, import_path, config)


def started(name: str, body: str, *words: str, **options: Any) -> Mistake:
    """One that the start of a replica of `Bad` finds; `options` are the deployment's."""
    call = "    def __call__(self, request): ..."
    source = f"{HEAD}\n@serve.deployment\nclass Bad:\n{body}\n{call}\n\napp = Bad.bind()\n"
    return Mistake(name, source, words, options=options)


MISTAKES = (
    built(
        "wrong_module",
        "",
        "Module 'wrong_modul'",
        "not found",
        "Did you mean 'wrong_module'?",
        import_path="wrong_modul:app",
    ),
    built(
        "wrong_attribute",
        ECHO + "app = Echo.bind()",
        "'ap'",
        "{home}/wrong_attribute.py",
        "Did you mean 'app'?",
        import_path="wrong_attribute:ap",
    ),
    built(
        "missing_module",
        "import not_installed_anywhere",
        '{home}/missing_module.py", line 2',
        "No module named 'not_installed_anywhere'",
        "runtime_env",
    ),
    built("syntax_error", "def (:", '{home}/syntax_error.py", line 2', "SyntaxError"),
    built(
        "circular",
        "import circular_b\napp = circular_b.app",
        "{home}/circular",
        "partially initialized module",
        "circular import",
    ),
    built(
        "forgot_bind",
        ECHO + "app = Echo",
        "{home}/forgot_bind.py",
        "is a Deployment, not an application",
        "Echo.bind()",
    ),
    built(
        "plain_class",
        "class app: ...",
        "{home}/plain_class.py",
        "must be an application",
        "got type",
        ".bind(",
    ),
    built("an_instance", "app = 3", "{home}/an_instance.py", "must be an application", "got int"),
    built(
        "bound_class",
        "class Plain: ...\n" + ECHO + "app = Plain.bind()",
        '{home}/bound_class.py", line 8',
        "'Plain' has no attribute 'bind'",
    ),
    built(
        "unpicklable",
        "import threading\n" + ECHO + "app = Echo.bind(threading.Lock())",
        "{home}/unpicklable.py",
        "'Echo'",
        "argument 0",
        "create it inside",
    ),
    built("exits", "import sys; sys.exit(4)", "exits.py", "SystemExit", "4"),
    built(
        "killed_import",
        "import os; print('reading weights', flush=True); os.kill(os.getpid(), 9)",
        "could not be imported",
        "which ends with: reading weights",
        "SIGKILL",
        "out of memory",
        "log",
    ),
    built(
        "wrong_option",
        "@serve.deployment(num_replica=2)\nclass A: ...\napp = A.bind()",
        '{home}/wrong_option.py", line 2',
        "'num_replica'",
        "Did you mean 'num_replicas'?",
    ),
    built(
        "wrong_value",
        "@serve.deployment(max_ongoing_requests=0)\nclass A: ...\napp = A.bind()",
        '{home}/wrong_value.py", line 2',
        "max_ongoing_requests",
        "greater than or equal to 1",
    ),
    built(
        "wrong_type",
        "@serve.deployment(num_replicas='many')\nclass A: ...\napp = A.bind()",
        '{home}/wrong_type.py", line 2',
        "num_replicas",
        "integer",
    ),
    built(
        "wrong_resource",
        "@serve.deployment(ray_actor_options={'num_gpu': 1})\nclass A: ...\napp = A.bind()",
        '{home}/wrong_resource.py", line 2',
        "num_gpu",
        "num_gpus",
    ),
    built(
        "conda",
        "@serve.deployment(ray_actor_options={'runtime_env': {'conda': 'x'}})\nclass A: ...\napp = A.bind()",
        '{home}/conda.py", line 2',
        "'conda'",
        "not supported on one machine",
        "'pip' or 'uv'",
    ),
    built(
        "env_type",
        "@serve.deployment(ray_actor_options={'runtime_env': {'env_vars': {'A': 1}}})\nclass A: ...\napp = A.bind()",
        '{home}/env_type.py", line 2',
        "env_vars.A",
        "valid string",
    ),
    built(
        "async_builder",
        ECHO + "async def app(args): return Echo.bind()",
        "{home}/async_builder.py",
        "async function",
        "make it a plain `def`",
    ),
    built(
        "builder_returns_nothing",
        ECHO + "def app(args): Echo.bind()",
        "{home}/builder_returns_nothing.py",
        "got NoneType",
        "lacks a `return`",
    ),
    built(
        "builder_args",
        ECHO + "def app(args): return Echo.bind(args['size'])",
        '{home}/builder_args.py", line 7',
        "KeyError",
        "size",
    ),
    built(
        "no_deployment",
        "",
        "DoesNotExist",
        "does not exist",
        "Available: ['Echo']",
        import_path="wrong_attribute:app",
        deployments=[{"name": "DoesNotExist"}],
    ),
    built(
        "no_router",
        "from eagleray.serve.config import RequestRouterConfig\n"
        "router = RequestRouterConfig(request_router_class='no_such_routers:Mine')\n"
        "@serve.deployment(request_router_config=router)\nclass Routed: ...\napp = Routed.bind()",
        "{home}/no_router.py",
        "Deployment 'Routed': request_router_config.request_router_class 'no_such_routers:Mine'",
        "cannot be imported",
        "No module named 'no_such_routers'",
        "--app-dir or working_dir",
    ),
    built(
        "no_router_in_file",
        ECHO + "app = Echo.bind()\nclass Router: ...",
        "{home}/no_router_in_file.py",
        "Deployment 'Echo': request_router_config.request_router_class 'no_router_in_file:Router'",
        "the class Router",
        "must be a subclass of serve.request_router.RequestRouter",
        deployments=[
            {
                "name": "Echo",
                "request_router_config": {"request_router_class": "no_router_in_file.Router"},
            }
        ],
    ),
    built(
        "no_policy",
        "@serve.deployment(autoscaling_config={'max_replicas': 2, 'policy': {'policy_function': 'no_policy:grow'}})\n"
        "class Scaled: ...\napp = Scaled.bind()",
        "{home}/no_policy.py",
        "Deployment 'Scaled': autoscaling_config.policy.policy_function 'no_policy:grow'",
        "module 'no_policy' has no attribute 'grow'",
        "Correct the path",
    ),
    built(
        "no_policy_in_file",
        ECHO + "app = Echo.bind()",
        "Deployment 'Echo': autoscaling_config.policy.policy_function 'fails:grow'",
        "its module fails",
        '{home}/fails.py", line 1',
        "ZeroDivisionError",
        deployments=[{"name": "Echo", "autoscaling_config": {"policy": {"policy_function": "fails:grow"}}}],
    ),
    built(
        "no_app_policy",
        ECHO + "app = Echo.bind()",
        "{home}/no_app_policy.py",
        "autoscaling_policy.policy_function 'no_such_policies:grow' cannot be imported",
        "No module named 'no_such_policies'",
        autoscaling_policy={"policy_function": "no_such_policies:grow"},
    ),
    started(
        "raises",
        "    def __init__(self): raise ValueError('no weights in /models')",
        '{home}/raises.py", line 5, in __init__',
        "ValueError: no weights in /models",
    ),
    started(
        "asks_arguments",
        "    def __init__(self, size): ...",
        "Bad.__init__() missing 1 required positional argument: 'size'",
        "Bad.bind(...)",
    ),
    started(
        "killed",
        "    def __init__(self):\n        import os; os.kill(os.getpid(), 9)",
        "SIGKILL",
        "out of memory",
        "log",
    ),
    started(
        "dies",
        "    def __init__(self):\n        print('weights are damaged')\n        import os; os._exit(7)",
        "exit code 7",
        "(log: {home}/",
        "which ends with: weights are damaged)",
    ),
    started(
        "segfault", "    def __init__(self):\n        import ctypes; ctypes.string_at(0)", "SIGSEGV", "log"
    ),
    started(
        "async_reconfigure",
        "    def reconfigure(self, config, more): ...",
        "reconfigure",
        "missing 1 required positional argument: 'more'",
        user_config={"a": 1},
    ),
    started("no_reconfigure", "    x = 1", "user_config", "reconfigure", user_config={"a": 1}),
    started(
        "no_such_package",
        "    x = 1",
        "could not be installed (no-such-package-eagleray==1)",
        "No matching distribution",
        "Correct the requirement",
        ray_actor_options={"runtime_env": {"pip": ["no-such-package-eagleray==1"]}},
    ),
    started(
        "no_gpu",
        "    x = 1",
        "Waiting for resources",
        "num_gpus=7, free 0 of 0",
        ray_actor_options={"num_gpus": 7},
    ),
    started("no_memory", "    x = 1", "Waiting for resources", "memory", ray_actor_options={"memory": 1e18}),
    started(
        "hostile_zip",
        "    x = 1",
        "hostile.zip",
        "leads out of it: '../../evil'",
        "make it anew",
        ray_actor_options={"runtime_env": {"py_modules": ["{home}/hostile.zip"]}},
    ),
    started(
        "link_zip",
        "    x = 1",
        "link.zip",
        "symbolic link",
        "make it anew",
        ray_actor_options={"runtime_env": {"py_modules": ["{home}/link.zip"]}},
    ),
    started(
        "no_folder",
        "    x = 1",
        "/not/there",
        "does not exist",
        "name a folder or a .zip file",
        ray_actor_options={"runtime_env": {"working_dir": "/not/there"}},
    ),
    started(
        "no_module_path",
        "    x = 1",
        "/not/there",
        "does not exist",
        "name one that can be read",
        ray_actor_options={"runtime_env": {"py_modules": ["/not/there"]}},
    ),
    started(
        "gang",
        "    x = 1",
        "Deployment 'Bad' has gang_scheduling_config",
        "needs Ray itself",
        "run the application on the Ray engine",
        num_replicas=2,
        gang_scheduling_config={"gang_size": 2},
    ),
    built(
        "bundles",
        "@serve.deployment(placement_group_bundles=[{'CPU': 1}])\nclass A: ...\napp = A.bind()",
        "Deployment 'A' has placement_group_bundles",
        "what one replica needs is ray_actor_options",
        "run the application on the Ray engine",
    ),
)

HELPERS = {"circular_b": "from circular import app\n", "fails": "1 / 0\n"}
"""Modules that the mistaken ones import."""
