"""The process that runs the autoscaling policies of one application: user code, which the controller never runs.

It answers `decide` calls, one after the other, on a thread. One that hangs is ended from outside; it keeps nothing that
the next process does not get again.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import inspect
import json
import math
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from numbers import Real
from typing import Any

from eagleray.base import logs
from eagleray.base.errors import ConfigError
from eagleray.base.ids import DeploymentID, ReplicaID
from eagleray.base.process import Child, run_child
from eagleray.rpc.control import serve_control
from eagleray.rpc.server import Incoming
from eagleray.serve.autoscaling_policy import AutoscalingContext
from eagleray.spec.autoscaling import AutoscalingConfig
from eagleray.spec.router import BY_VALUE
from eagleray.wire import codec
from eagleray.wire.control import Empty, decode
from eagleray.wire.scaling import PolicyAnswer, PolicyLaunch, PolicyQuestion

Policy = Callable[[Any], Any]

_MAX_ERROR = 32 * 1024
"""Characters of a traceback."""


def main(child: Child) -> None:
    """Answers on the child's socket until the controller ends it."""
    assert child.listener is not None, "a policy process needs its socket"
    listener, launch = child.listener, decode(child.payload, PolicyLaunch)
    logs.setup(logs.Component("policies", launch.app), path=child.log_path, owns_stdio=bool(child.log_path))
    sys.path[:0] = [path for path in launch.sys_path if path not in sys.path]
    run_child(child, lambda: _serve(listener))


async def _serve(listener: socket.socket) -> None:
    policies = Policies()

    async def answer(payload: bytes, _incoming: Incoming) -> PolicyAnswer:
        return await asyncio.to_thread(policies.decide, decode(payload, PolicyQuestion))

    async def ready(_payload: bytes, _incoming: Incoming) -> Empty:
        return Empty()

    await serve_control({"decide": answer, "ready": ready}, listener, name="policies")


class Policies:
    """Each policy is found, and constructed if it is a class, when it is asked for the first time."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], Policy] = {}

    def decide(self, question: PolicyQuestion) -> PolicyAnswer:
        """What the policy says, or its traceback."""
        try:
            contexts = {key: context_of(key, json.loads(text)) for key, text in question.contexts.items()}
            if question.is_app_level:
                return self._for_application(question, contexts)
            answer = PolicyAnswer()
            for key, context in contexts.items():
                found = self._policy(question, key)(context)
                number, state = found if isinstance(found, tuple) else (found, {})
                answer.counts[key] = _number(number)
                answer.states[key] = json.dumps(state or {}).encode()
            return answer
        except BaseException as error:  # user code may raise anything
            text = "".join(traceback.format_exception(error))
            if len(text) > _MAX_ERROR:  # it is logged, and shown with the deployment, again and again
                text = f"{text[: _MAX_ERROR // 2]}\n...\n{text[-_MAX_ERROR // 2 :]}"
            return PolicyAnswer(error=text.encode(errors="backslashreplace").decode())

    def _for_application(
        self, question: PolicyQuestion, contexts: dict[str, AutoscalingContext]
    ) -> PolicyAnswer:
        policy = self._policy(question, "")
        found = policy({context.deployment_id: context for context in contexts.values()})
        numbers, states = found if isinstance(found, tuple) else (found, None)
        return PolicyAnswer(
            counts={name.key: _number(number) for name, number in numbers.items()},
            states={name.key: json.dumps(state or {}).encode() for name, state in (states or {}).items()},
        )

    def _policy(self, question: PolicyQuestion, key: str) -> Policy:
        identity = (key, question.policy, question.kwargs)
        policy = self._found.get(identity)
        if policy is None:
            policy = self._found[identity] = load_policy(question.policy, json.loads(question.kwargs))
        return policy


def load_policy(text: str, kwargs: dict[str, Any]) -> Policy:
    """The policy that `text` names or holds. Raises whatever importing or constructing it raises, or ConfigError."""
    found = _resolve(text)
    if inspect.isclass(found) and not issubclass(found, AutoscalingConfig):
        found = found(**kwargs)
    elif inspect.isclass(found):
        found = found()
    calculate = getattr(found, "calculate_target_replicas", None)
    if isinstance(found, AutoscalingConfig) and callable(calculate):
        return _Calculated(calculate)
    if not callable(found):
        raise ConfigError(f"The autoscaling policy '{text}' is not callable but {type(found).__name__}.")
    policy: Policy = found
    return policy


class _Calculated:
    """A method that wants numbers instead of a context."""

    def __init__(self, calculate: Callable[..., Any]) -> None:
        self._calculate = calculate

    def __call__(self, context: AutoscalingContext) -> Any:
        return self._calculate(
            current_replicas=context.current_num_replicas,
            current_qps=context.requests_per_second,
            avg_latency_ms=context.average_latency_ms,
            cpu_utilization=context.cpu_utilization,
            queue_length=round(context.total_queued_requests),
        )


def _resolve(text: str) -> Any:
    if text.startswith(BY_VALUE):
        return codec.load_code(base64.b64decode(text.removeprefix(BY_VALUE)))
    module, _, path = text.partition(":") if ":" in text else text.rpartition(".")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _number(value: Any) -> float:
    # A Real: NumPy's integers are none of Python's.
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise ConfigError(
            f"An autoscaling policy must give a number of replicas of at least 0, got {value!r}."
        )
    return float(value)


def context_of(key: str, told: dict[str, Any]) -> AutoscalingContext:
    """`told` is the context as JSON, with replicas by their unique ids."""
    deployment = DeploymentID.parse(key)

    def by_replica(values: dict[str, Any]) -> dict[ReplicaID, Any]:
        return {ReplicaID(unique_id, deployment): value for unique_id, value in values.items()}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user was warned at decoration
        config = AutoscalingConfig.model_validate(told.pop("config"))
    raw, aggregated = told.pop("raw_metrics"), told.pop("aggregated_metrics")
    running = told.pop("running_replicas")
    return AutoscalingContext(
        deployment_id=deployment,
        deployment_name=deployment.name,
        app_name=deployment.app_name,
        running_replicas=[ReplicaID(unique_id, deployment) for unique_id in running],
        raw_metrics={
            name: {
                replica: [(at, value) for at, value in series]
                for replica, series in by_replica(values).items()
            }
            for name, values in raw.items()
        },
        aggregated_metrics={name: by_replica(values) for name, values in aggregated.items()},
        config=config,
        **told,
    )
