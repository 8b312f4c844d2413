"""Renders deploy/grafana/eagleray.json, the board for Grafana: `python -m tests.docs.render_board`.

Its expressions use Ray Serve's metric names, so they hold for a cluster of Ray as well, but for the panels of our own
series. A test compares them with the series that there are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "eagleray.json"

APP = 'application=~"$application"'
DEPLOYMENT = f'{APP},deployment=~"$deployment"'
REPLICA = f'{DEPLOYMENT},replica=~"$replica"'

Target = tuple[str, str]
"""Expression and legend."""
Panel = tuple[str, str, list[Target]]
"""Title, unit and what is drawn."""


def rate(name: str, where: str, by: str, legend: str = "") -> list[Target]:
    return [(f"sum by ({by}) (rate({name}{{{where}}}[$__rate_interval]))", legend or legend_of(by))]


def total(name: str, where: str, by: str, prefix: str = "") -> Target:
    return f"sum by ({by}) ({name}{{{where}}})", prefix + legend_of(by)


def quantiles(name: str, where: str, by: str, *shares: float) -> list[Target]:
    return [
        (
            f"histogram_quantile({share}, sum by (le, {by}) (rate({name}_bucket{{{where}}}[$__rate_interval])))",
            f"P{share * 100:g} {legend_of(by)}",
        )
        for share in shares
    ]


def legend_of(by: str) -> str:
    return " ".join(f"{{{{{one.strip()}}}}}" for one in by.split(","))


ALL = (0.5, 0.9, 0.99)
OWNER = "application, deployment"

ROWS: list[tuple[str, list[Panel]]] = [
    (
        "Applications",
        [
            ("State", "state", [total("ray_serve_application_status", APP, "application")]),
            ("Requests", "reqps", rate("ray_serve_num_http_requests_total", APP, "application")),
            ("Errors", "reqps", rate("ray_serve_num_http_error_requests_total", APP, "application")),
            (
                "Errors by code",
                "reqps",
                rate("ray_serve_num_http_error_requests_total", APP, "application, error_code"),
            ),
            ("Latency", "ms", quantiles("ray_serve_http_request_latency_ms", APP, "application", *ALL)),
            (
                "RPCs and their errors",
                "reqps",
                rate("ray_serve_num_grpc_requests_total", APP, "application")
                + rate(
                    "ray_serve_num_grpc_error_requests_total", APP, "application", "errors {{application}}"
                ),
            ),
        ],
    ),
    (
        "Deployments",
        [
            (
                "Replicas that are well",
                "short",
                [total("ray_serve_deployment_replica_healthy", DEPLOYMENT, OWNER)],
            ),
            ("Requests", "reqps", rate("ray_serve_deployment_request_counter_total", DEPLOYMENT, OWNER)),
            ("Exceptions", "reqps", rate("ray_serve_deployment_error_counter_total", DEPLOYMENT, OWNER)),
            (
                "Latency",
                "ms",
                quantiles("ray_serve_deployment_processing_latency_ms", DEPLOYMENT, OWNER, *ALL),
            ),
            ("Queue", "short", [total("ray_serve_deployment_queued_queries", DEPLOYMENT, OWNER)]),
            ("Under way", "short", [total("ray_serve_replica_processing_queries", DEPLOYMENT, OWNER)]),
            (
                "Replicas wanted by load",
                "short",
                [
                    total("ray_serve_autoscaling_target_replicas", DEPLOYMENT, OWNER, "target "),
                    total("ray_serve_autoscaling_desired_replicas", DEPLOYMENT, OWNER, "desired "),
                ],
            ),
            (
                "Update: replicas of the new and of a former version",
                "short",
                [
                    total("eagleray_rollout_current_replicas", DEPLOYMENT, OWNER, "new "),
                    total("eagleray_rollout_former_replicas", DEPLOYMENT, OWNER, "former "),
                ],
            ),
            (
                "Refused, given up, lost",
                "reqps",
                rate("eagleray_shed_requests_total", DEPLOYMENT, "deployment, reason", "refused {{reason}}")
                + rate(
                    "eagleray_cancelled_requests_total",
                    DEPLOYMENT,
                    "deployment, reason",
                    "given up {{reason}}",
                )
                + rate("eagleray_lost_requests_total", DEPLOYMENT, "deployment, reason", "lost {{reason}}"),
            ),
            ("Time by hop", "ms", quantiles("eagleray_request_hop_ms", DEPLOYMENT, "deployment, hop", 0.99)),
            (
                "Start of a replica",
                "ms",
                quantiles("ray_serve_replica_startup_latency_ms", DEPLOYMENT, OWNER, 0.5, 0.99),
            ),
        ],
    ),
    (
        "Replicas",
        [
            (
                "Requests",
                "reqps",
                rate("ray_serve_deployment_request_counter_total", REPLICA, "deployment, replica"),
            ),
            (
                "Exceptions",
                "reqps",
                rate("ray_serve_deployment_error_counter_total", REPLICA, "deployment, replica"),
            ),
            (
                "Latency",
                "ms",
                quantiles("ray_serve_deployment_processing_latency_ms", REPLICA, "deployment, replica", 0.99),
            ),
            (
                "Under way",
                "short",
                [total("ray_serve_replica_processing_queries", REPLICA, "deployment, replica")],
            ),
            (
                "Utilization",
                "percent",
                [total("ray_serve_replica_utilization_percent", REPLICA, "deployment, replica")],
            ),
            (
                "Memory",
                "bytes",
                [total("eagleray_process_resident_memory_bytes", REPLICA, "deployment, replica")],
            ),
        ],
    ),
    (
        "Batches and models",
        [
            (
                "Size of batches",
                "short",
                quantiles("ray_serve_actual_batch_size", REPLICA, "deployment, function_name", 0.5, 0.99),
            ),
            (
                "Fill of batches",
                "percent",
                quantiles("ray_serve_batch_utilization_percent", REPLICA, "deployment, function_name", 0.5),
            ),
            (
                "Items that wait for a batch",
                "short",
                [total("ray_serve_batch_queue_length", REPLICA, "deployment, function_name")],
            ),
            (
                "Loaded models",
                "short",
                [total("ray_serve_num_multiplexed_models", REPLICA, "deployment, replica")],
            ),
            (
                "Loads and unloads",
                "reqps",
                rate(
                    "ray_serve_multiplexed_models_load_counter_total", REPLICA, OWNER, "loads {{deployment}}"
                )
                + rate(
                    "ray_serve_multiplexed_models_unload_counter_total",
                    REPLICA,
                    OWNER,
                    "unloads {{deployment}}",
                ),
            ),
            (
                "Time to load a model",
                "ms",
                quantiles("ray_serve_multiplexed_model_load_latency_ms", REPLICA, OWNER, 0.99),
            ),
            (
                "Models that were there",
                "percentunit",
                [
                    (
                        f"1 - sum by ({OWNER}) (rate(ray_serve_multiplexed_models_load_counter_total{{{REPLICA}}}"
                        f"[$__rate_interval])) / sum by ({OWNER}) (rate("
                        f"ray_serve_multiplexed_get_model_requests_counter_total{{{REPLICA}}}[$__rate_interval]))",
                        legend_of(OWNER),
                    )
                ],
            ),
        ],
    ),
    (
        "System",
        [
            (
                "Requests in proxies",
                "short",
                [
                    ("sum(ray_serve_num_ongoing_http_requests)", "HTTP"),
                    ("sum(ray_serve_num_ongoing_grpc_requests)", "gRPC"),
                ],
            ),
            (
                "Routing",
                "short",
                [
                    ("sum(ray_serve_num_scheduling_tasks)", "being routed"),
                    ("sum(ray_serve_num_scheduling_tasks_in_backoff)", "in back-off"),
                ],
            ),
            (
                "Pass of the controller",
                "s",
                [("max(ray_serve_controller_control_loop_duration_s)", "last pass")],
            ),
            (
                "Passes of the controller",
                "short",
                [("sum(rate(ray_serve_controller_num_control_loops[$__rate_interval]))", "a second")],
            ),
            ("Proxies", "proxy", [total("ray_serve_proxy_status", "", "node_id")]),
            ("CPU", "short", rate("eagleray_process_cpu_seconds_total", "", "component")),
            ("Memory", "bytes", [total("eagleray_process_resident_memory_bytes", "", "component")]),
            ("Descriptors", "short", [total("eagleray_process_open_fds", "", "component")]),
            (
                "Lateness of event loops",
                "ms",
                quantiles("ray_serve_event_loop_scheduling_latency_ms", "", "component, loop_type", 0.99),
            ),
        ],
    ),
]

STATES = {
    "state": ("DEPLOY_FAILED", "UNHEALTHY", "NOT_STARTED", "DELETING", "DEPLOYING", "RUNNING"),
    "proxy": ("STARTING", "HEALTHY", "UNHEALTHY", "DRAINING", "DRAINED"),
}
"""Meanings of 1, 2, ... in panels of these units."""

VARIABLES = {
    "application": "label_values(ray_serve_application_status, application)",
    "deployment": f"label_values(ray_serve_deployment_status{{{APP}}}, deployment)",
    "replica": f"label_values(ray_serve_deployment_replica_healthy{{{DEPLOYMENT}}}, replica)",
}

UPDATES = f"sum by ({OWNER}) (eagleray_rollout_former_replicas{{{DEPLOYMENT}}}) > 0"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def board() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    y = 0
    for title, members in ROWS:
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place, "panels": []})
        y += 1
        for at, member in enumerate(members):
            place = {"x": 8 * (at % 3), "y": y + 8 * (at // 3), "w": 8, "h": 8}
            panels.append({"id": len(panels) + 1, **_panel(member), "gridPos": place})
        y += 8 * -(-len(members) // 3)
    return {
        "title": "Eagleray",
        "uid": "eagleray",
        "tags": ["eagleray", "ray serve"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "annotations": {
            "list": [
                {
                    "name": "Updates",
                    "datasource": SOURCE,
                    "enable": True,
                    "expr": UPDATES,
                    "titleFormat": "update of {{application}} {{deployment}}",
                    "iconColor": "blue",
                }
            ]
        },
        "templating": {"list": [_source(), *(_variable(*one) for one in VARIABLES.items())]},
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    title, unit, targets = panel
    states = STATES.get(unit)
    defaults: dict[str, Any] = {"unit": "short" if states else unit, "min": 0}
    if states:
        texts = {str(number): {"text": text} for number, text in enumerate(states, 1)}
        defaults["mappings"] = [{"type": "value", "options": texts}]
    return {
        "type": "stat" if states else "timeseries",
        "title": title,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {} if states else {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": SOURCE,
                "expr": tidy(expr),
                "legendFormat": legend,
            }
            for number, (expr, legend) in enumerate(targets)
        ],
    }


def tidy(expr: str) -> str:
    return expr.replace("{}", "")


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def render() -> str:
    return json.dumps(board(), indent=1) + "\n"


if __name__ == "__main__":
    BOARD.write_text(render())
