"""Sections 7 to 9: metrics, logs, traces, environment variables, names of earlier versions."""

from __future__ import annotations

from tests.compat.names.rows import Section, differs, no, ray, works

_SERIES = "integration/metrics/series docs/observability"

METRICS = Section(
    "7.1 Metrics",
    (
        works(
            *("serve_num_http_requests", "serve_num_grpc_requests", "serve_num_http_error_requests"),
            *("serve_num_grpc_error_requests", "serve_num_deployment_http_error_requests"),
            *("serve_num_deployment_grpc_error_requests", "serve_http_request_latency_ms"),
            *("serve_grpc_request_latency_ms", "serve_num_ongoing_http_requests", "serve_num_ongoing_grpc_requests"),
            *("serve_proxy_status", "serve_proxy_shutdown_duration_ms"),
            by=f"unit/proxy/metrics {_SERIES}",
        ),
        works(
            *("serve_handle_request_counter", "serve_num_router_requests", "serve_deployment_queued_queries"),
            *("serve_num_ongoing_requests_at_replicas", "serve_router_args_resolution_latency_ms"),
            *("serve_reserved_slots_active", "serve_num_scheduling_tasks", "serve_num_scheduling_tasks_in_backoff"),
            *("serve_request_router_fulfillment_time_ms", "serve_request_router_queue_len"),
            by=f"unit/routing/metrics {_SERIES}",
            text="the tag `handle` says what kind of process holds it; nobody is ever in backoff",
        ),
        works(
            *("serve_deployment_error_counter", "serve_deployment_processing_latency_ms"),
            *("serve_deployment_max_processing_latency_ms", "serve_replica_processing_queries"),
            *("serve_deployment_replica_starts", "serve_replica_utilization_percent"),
            *("serve_record_autoscaling_stats_failed", "serve_user_autoscaling_stats_latency_ms"),
            by=f"unit/replica/metrics integration/replica/feature_metrics {_SERIES}",
        ),
        differs("serve_deployment_request_counter", how="counts requests that raise, too, as its description says", by="unit/replica/metrics"),
        works(
            *("serve_batch_wait_time_ms", "serve_batch_execution_time_ms", "serve_batch_queue_length"),
            *("serve_batch_utilization_percent", "serve_actual_batch_size", "serve_batches_processed"),
            by="integration/replica/feature_metrics::test_batches_are_counted_by_function",
        ),
        works(
            *("serve_multiplexed_model_load_latency_ms", "serve_multiplexed_model_unload_latency_ms"),
            *("serve_num_multiplexed_models", "serve_registered_multiplexed_model_id"),
            *("serve_multiplexed_get_model_requests_counter", "serve_multiplexed_models_load_counter"),
            "serve_multiplexed_models_unload_counter",
            by="integration/replica/feature_metrics::test_models_are_counted_by_what_became_of_them",
        ),
        works(
            *("serve_deployment_replica_healthy", "serve_deployment_status", "serve_application_status"),
            *("serve_replica_startup_latency_ms", "serve_replica_initialization_latency_ms"),
            *("serve_replica_reconfigure_latency_ms", "serve_replica_shutdown_duration_ms"),
            *("serve_health_check_latency_ms", "serve_health_check_failures_total"),
            *("serve_autoscaling_target_replicas", "serve_autoscaling_desired_replicas"),
            *("serve_autoscaling_total_requests", "serve_autoscaling_target_ongoing_requests"),
            "serve_autoscaling_policy_execution_time_ms",
            by=f"integration/metrics/instance::test_what_the_controller_knows {_SERIES}",
        ),
        works(
            *("serve_controller_control_loop_duration_s", "serve_controller_sleep_duration_s"),
            *("serve_controller_num_control_loops", "serve_long_poll_latency_ms"),
            *("serve_long_poll_host_transmission_counter", "serve_long_poll_pending_clients"),
            *("serve_event_loop_scheduling_latency_ms", "serve_event_loop_monitoring_iterations"),
            "serve_event_loop_tasks",
            by=f"integration/metrics/instance::test_what_the_controller_knows {_SERIES}",
        ),
        no(
            *("serve_controller_node_update_duration_s", "serve_controller_proxy_state_update_duration_s"),
            *("serve_controller_deployment_state_update_duration_s", "serve_controller_application_state_update_duration_s"),
            why="a pass of the controller looks only at what has changed: it has no such phases",
        ),
        no("serve_autoscaling_replica_metrics_delay_ms", "serve_autoscaling_handle_metrics_delay_ms", why="loads come over the connection that they are about and carry no time of their own"),
        no("serve_routing_stats_delay_ms", "serve_routing_stats_error", why="what replicas record for routing goes to the routers, not through the controller"),
        ray("serve_num_compacted_nodes", why="one machine"),
        no("~`serve_haproxy_...`", why="there is no HAProxy mode"),
        no("~`RAY_EXPORT_COUNTER_AS_GAUGE`", why="counters have one name, with `_total`"),
        works("~`ray_` before the names, `_total` behind those of counters", by=_SERIES),
        differs("~where they are exported", how="`GET /metrics` of the REST server for the whole instance, and `EAGLERAY_METRICS_EXPORT_PORT`; no Ray labels such as `SessionName` ([observability.md](observability.md))", by="integration/metrics/instance::test_openmetrics_and_the_port_of_its_own"),
    ),
)  # fmt: skip

LOGS = Section(
    "7.2, 7.3 Logs, 7.4 traces",
    (
        differs("~files of the controller, the proxy and each replica", how="the same names, below the state directory of the session ([logging.md](logging.md))", by="integration/cli/logs unit/base/log_files"),
        works("~`logs_dir`, rotation, `serve_access_log` of a record", by="unit/base/logs::test_file_is_rotated unit/base/logs::test_access_lines_of_user_code_go_with_the_access_log integration/serve/logs::test_the_next_version_may_log_elsewhere_and_otherwise"),
        works("~`component_name`, `component_id`, `request_id`, `route`, `application`, `deployment`, `replica` of a line; keys of `extra`", by="docs/observability::test_every_field_of_a_log_line_is_named unit/base/logs::test_json_says_all_that_is_known"),
        works("~TEXT, JSON and their fields", by="unit/base/logs::test_text_format_is_ray_serves unit/base/logs::test_json_says_all_that_is_known integration/serve/logs::test_json_lines"),
        no("~`log_to_stderr` of a record", why="standard error shows whole files, where it is asked for (`EAGLERAY_LOG_TO_STDERR`)"),
        no("~Ray's ids in JSON lines", why="there are none"),
        works("serve.get_trace_context()", by="unit/serve/tracing integration/tracing/file::test_spans_of_the_user_stand_between_ours"),
        works("~spans `proxy_http_request`, `proxy_grpc_request`, `route_to_replica` and the replica's", by="integration/tracing/file::test_a_request_is_one_trace_from_the_proxy_to_the_last_child integration/tracing/otlp::test_an_rpc_is_traced"),
        differs("~exporters", how="the path of a function, and also `otlp` and `file`; a bad one is told in the log and costs no request ([tracing.md](tracing.md))", by="docs/tracing integration/tracing/otlp"),
    ),
)  # fmt: skip

_OPTION = "an option of the API instead: "

VARIABLES = Section(
    "8 Environment variables",
    (
        works(
            *("RAY_SERVE_DEFAULT_HTTP_HOST", "RAY_SERVE_RUN_SYNC_IN_THREADPOOL", "RAY_SERVE_FORCE_LOCAL_TESTING_MODE"),
            by="unit/base/settings::test_ray_serves_variables_count_where_ours_are_not_set",
        ),
        works(
            *("RAY_SERVE_LOG_TO_STDERR", "RAY_SERVE_LOG_CLIENT_ADDRESS", "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE"),
            *("RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH", "RAY_SERVE_TRACING_SAMPLING_RATIO"),
            by="docs/logging::test_options_and_settings_are_ours docs/tracing::test_fields_and_variables_are_ours docs/settings",
        ),
        differs("RAY_SERVE_LOG_ENCODING", how="counts, where Ray Serve does not read it", by="docs/logging::test_options_and_settings_are_ours"),
        no("RAY_SERVE_HTTP_KEEP_ALIVE_TIMEOUT_S", "SERVE_REQUEST_PROCESSING_TIMEOUT_S", why=f"deprecated; {_OPTION}`keep_alive_timeout_s`, `request_timeout_s`"),
        no("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH", why="no user code runs in proxies and controller"),
        no("RAY_SERVE_SESSION_ID_HEADER_KEY", why="the header is `x-session-id`"),
        no("RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS", "RAY_SERVE_MODEL_LOAD_LATENCY_BUCKETS_MS", "RAY_SERVE_REPLICA_STARTUP_SHUTDOWN_LATENCY_BUCKETS_MS", "~`RAY_SERVE_BATCH_*_BUCKETS*`", why="the buckets are Ray Serve's defaults, so that processes can be added up"),
        no("RAY_SERVE_METRICS_EXPORT_INTERVAL_MS", why="values are read when somebody asks"),
        no("RAY_SERVE_MAX_CACHED_HANDLES", why="handles hold nothing that would need a cache"),
        no("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", why="the controller goes by events, not by ticks"),
        no("RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT", why=f"it is 3; {_OPTION}`max_constructor_retry_count`"),
        no("RAY_SERVE_STOP_FAILED_ROLLING_UPDATES", why=f"they stop; {_OPTION}`auto_rollback` ([updates.md](updates.md))"),
        no("RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS", why=f"{_OPTION}`graceful_shutdown_timeout_s=0`"),
        no("RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S", "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S", "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", why="fixed: a proxy that does not answer is replaced"),
        no("RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S", why="`EAGLERAY_DRAIN_DELAY_S` ([operations.md](operations.md))"),
        no("RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "RAY_SERVE_COLLECT_AUTOSCALING_METRICS_ON_HANDLE", why="load is told five times in `look_back_period_s` by those that call"),
        no("RAY_SERVE_MULTIPLEXED_MODEL_ID_MATCHING_TIMEOUT_S", why="it is a second"),
        no("RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S", "RAY_SERVE_MAX_QUEUE_LENGTH_RESPONSE_DEADLINE_S", "RAY_SERVE_QUEUE_LENGTH_CACHE_TIMEOUT_S", "RAY_SERVE_ROUTER_RETRY_INITIAL_BACKOFF_S", "RAY_SERVE_ROUTER_RETRY_BACKOFF_MULTIPLIER", "RAY_SERVE_ROUTER_RETRY_MAX_BACKOFF_S", why="replicas are never probed: routers know their loads, and replicas say when they have room"),
        ray("RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING", "RAY_SERVE_PROXY_PREFER_LOCAL_AZ_ROUTING", "RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY", "RAY_SERVE_USE_COMPACT_SCHEDULING_STRATEGY", "RAY_SERVE_HIGH_PRIORITY_CUSTOM_RESOURCES", why="one machine"),
        no("RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP", "RAY_SERVE_THROUGHPUT_OPTIMIZED", "RAY_SERVE_USE_GRPC_BY_DEFAULT", "RAY_SERVE_PROXY_USE_GRPC", why="there is one way for calls, which is the fast one"),
        no("RAY_SERVE_GRPC_MAX_MESSAGE_SIZE", why=f"{_OPTION}`max_message_bytes` of `grpc_options`"),
        no("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_ENABLE_DIRECT_INGRESS", "~`RAY_SERVE_HAPROXY_*`, `RAY_SERVE_DIRECT_INGRESS_*`", why="there is no such mode"),
        no("RAY_SERVE_RETAINED_DEAD_REPLICAS", why="ten, its default"),
        no("SERVE_SLOW_STARTUP_WARNING_S", "SERVE_SLOW_STARTUP_WARNING_PERIOD_S", why="the status says at once what a start waits for"),
        no("SERVE_SOCKET_REUSE_PORT_ENABLED", why="the node holds the listening socket and hands it to proxies"),
        no("RAY_ADDRESS", "RAY_DASHBOARD_ADDRESS", why="`--address`; without one, the instance of this machine"),
        no("RAY_PROMETHEUS_HOST", "RAY_PROMETHEUS_HEADERS", why="no policy and no page here asks a Prometheus"),
    ),
)  # fmt: skip

LEGACY = Section(
    "9 Names of earlier versions",
    (
        differs("serve.Deployment", ".deploy", ".delete", ".get_handle", "serve.get_deployment(name)", "serve.list_deployments()", key="legacy-names", by="integration/serve/legacy"),
        differs("serve.handle", ".RayServeHandle", ".RayServeSyncHandle", ".RayServeDeploymentHandle", how="names of the handle that there is, with a warning", by="unit/serve/absent::test_old_handles_are_the_handle"),
        differs("~`ray.get(handle.remote(...))`", how="works with a warning ([as-ray.md](as-ray.md))", by="integration/serve/legacy::test_get_waits_for_responses"),
        no("serve.drivers", "serve.deployment_graph", "serve.http_adapters", why="deployment graphs (`DAGDriver`, `InputNode`) are gone from Ray Serve, too; importing them says what composes deployments now", by="unit/serve/absent::test_a_module_cannot_be_imported_and_says_why"),
        differs("~`max_concurrent_queries`, `object_store_memory`", key="legacy-names", by="unit/spec/old_names"),
        differs("~`target_num_ongoing_requests_per_replica`", how="is `target_ongoing_requests`, with a warning, where Ray Serve drops it silently", by="unit/spec/old_names::test_the_old_target_is_the_new_one"),
        works("~`HTTPOptions(max_concurrent_queries=...)`", by="unit/spec/old_names::test_what_they_mean", text="no effect, with a warning"),
        works('~`http_options={"location": "NoServer"}`', by="unit/spec/options::test_the_location_of_http_options_is_deprecated"),
        works("~`serve.start(detached=True)`", by="compat/1_6_instance::test_detached_is_still_accepted"),
        works("~`serve.start(http_host=...)` and its like are errors", by="compat/1_6_instance::test_old_spellings_of_http_options_are_refused"),
        differs("~`serve.start(dedicated_cpu=...)`", key="start-unknown-keyword"),
        works("~`serve.run(app, host=...)` is a `TypeError`", by="compat/1_5_run::test_unknown_arguments_are_type_errors"),
        differs("~a class with `predict`", key="predict"),
        works("~`smoothing_factor`, `metrics_interval_s`", by="unit/spec/old_names"),
        works("~`route_prefix` of a deployment is a `TypeError`", by="compat/1_2_decorator::test_unknown_options_are_type_errors", text="which says where routes are given"),
        works("~`version`, `Deployment.url`, `prev_version` are gone", by="compat/1_3_deployment::test_what_ray_serve_removed_is_absent compat/1_3_deployment::test_options_validates"),
        works("~`HTTPOptions(middlewares, num_cpus)` are refused", by="compat/1_12_config::test_bad_http_options_are_refused"),
        no("serve.accept_batch", "serve.BackendConfig", "serve.create_backend", "serve.create_endpoint", "serve.set_traffic", why="gone before Ray Serve 2; using them says what to write", by="unit/serve/absent::test_a_function_may_be_imported_and_says_why_when_it_is_used"),
        works("~responses inside containers are refused", by="compat/2_2_responses::test_a_response_inside_a_container_is_refused"),
        works("~config files of a single application are refused with a reason", by="unit/spec/config::test_the_former_format_of_a_single_application_is_told"),
        no("~`/api/serve/deployments/`, `serve build --single-app`, `serve run --host --port` of old", why="gone from Ray Serve, too; `eagleray run --host --port` exists"),
    ),
)  # fmt: skip

SECTIONS = (METRICS, LOGS, VARIABLES, LEGACY)

__all__ = ["SECTIONS"]
