"""Section 1, second part: batching, models, autoscaling, options, hooks, ingress, tasks, metrics."""

from __future__ import annotations

from tests.compat.names.rows import Section, differs, no, ray, works

BATCH = Section(
    "1.8 `@serve.batch`",
    (
        works(
            "serve.batch(max_batch_size, batch_wait_timeout_s, max_concurrent_batches, batch_size_fn)",
            by="compat/1_8_batch::test_defaults compat/1_8_batch::test_unfit_settings_are_refused "
            "compat/1_8_batch::test_an_integral_float_is_a_size "
            "compat/1_8_batch::test_the_bare_form_takes_coroutine_functions_only",
        ),
        works("~a batch closes by size and by time", by="compat/1_8_batch::test_a_batch_closes_when_it_is_full compat/1_8_batch::test_a_batch_closes_when_its_time_is_over"),
        works("~lists for every parameter", by="compat/1_8_batch::test_every_parameter_is_a_list_named_ones_too"),
        differs("~calls that name their arguments beside calls that don't", key="batch-named-and-positional"),
        works("~wrong length, exceptions", by="compat/1_8_batch::test_a_wrong_number_of_results_fails_all_callers compat/1_8_batch::test_what_the_body_raises_fails_all_callers"),
        differs("~exception objects among results", key="batch-exception-objects"),
        works("~batches at once", by="compat/1_8_batch::test_so_many_batches_run_at_once"),
        works("~`batch_size_fn`", by="compat/1_8_batch::test_batch_size_fn_counts_instead_of_the_number_of_items compat/1_8_batch::test_an_item_larger_than_a_batch_is_a_runtime_error_for_its_caller_only"),
        differs("~items that do not fit; a `batch_size_fn` that raises", key="batch-deferred-items batch-broken-size-function"),
        works("~cancelled callers", by="compat/1_8_batch::test_a_cancelled_caller_does_not_cancel_the_batch compat/1_8_batch::test_callers_cancelled_before_the_batch_formed_are_dropped"),
        works("~models do not share a batch", by="compat/1_8_batch::test_models_do_not_share_a_batch"),
        differs("~instances do not share a batch either", key="batch-of-one-instance"),
        works("~streams, early ends by `StopIteration`", by="compat/1_8_batch::test_each_caller_reads_its_slice_until_its_stop_iteration compat/1_8_batch::test_a_row_of_the_wrong_length_fails_all_streams"),
        differs("~a batched generator called by a handle", key="batched-generator-by-handle"),
        works("~`set_max_batch_size`, `set_batch_wait_timeout_s`, `_get_max_batch_size`, `_get_batch_wait_timeout_s`", by="compat/1_8_batch::test_setters_and_getters compat/1_8_batch::test_setters_check_their_values"),
        works("~`_get_curr_iteration_start_times`, `_is_batching_task_alive`, `_get_handling_task_stack`", by="compat/1_8_batch::test_what_debuggers_ask"),
        differs("~`max_ongoing_requests` below what batches hold", key="batch-capacity"),
        works("~outside of Serve", by="unit/serve/batching", text="as documented; Ray Serve 2.60 itself raises"),
    ),
)  # fmt: skip

MULTIPLEX = Section(
    "1.9 `@serve.multiplexed`",
    (
        works("serve.multiplexed(max_num_models_per_replica)", by="compat/1_9_multiplex::test_what_cannot_be_multiplexed_is_refused compat/1_9_multiplex::test_models_are_kept_and_the_least_recently_used_goes_first"),
        works("serve.get_multiplexed_model_id()", by="compat/1_9_multiplex::test_the_header_names_the_model compat/1_9_multiplex::test_the_handle_option_names_the_model_and_is_not_inherited"),
        works("~wrong calls and ids", by="compat/1_9_multiplex::test_calls_with_a_wrong_id_are_refused compat/1_9_multiplex::test_it_only_works_in_a_replica compat/1_9_multiplex::test_a_request_without_a_model_id_gets_an_error"),
        works("~a failing load keeps nothing", by="compat/1_9_multiplex::test_a_load_that_fails_is_tried_again"),
        differs("~eviction, `__del__`", key="models-stay-while-in-use del-of-a-model-runs-once"),
        differs("~loading", key="models-load-side-by-side"),
        works("~requests go where the model is", by="compat/1_9_multiplex::test_requests_go_to_the_replica_that_has_the_model"),
        differs("~when callers hear of models", key="models-are-found-at-once"),
    ),
)  # fmt: skip

AUTOSCALING = Section(
    "1.10 `AutoscalingConfig`",
    (
        works(
            "serve.config.AutoscalingConfig(min_replicas, initial_replicas, max_replicas, target_ongoing_requests, "
            "look_back_period_s, upscaling_factor, downscaling_factor, upscale_delay_s, downscale_delay_s, "
            "downscale_to_zero_delay_s, aggregation_function, policy)",
            "serve.config.AutoscalingConfig.default()",
            by="compat/6_6_autoscaling::test_defaults compat/6_6_autoscaling::test_wrong_bounds_are_refused unit/reconcile/autoscaler",
        ),
        works("serve.config.AutoscalingConfig(smoothing_factor, upscale_smoothing_factor, downscale_smoothing_factor)", by="unit/spec/old_names", text="deprecated"),
        works("serve.config.AutoscalingConfig(metrics_interval_s)", by="unit/reconcile/autoscaler::test_samples_come_five_times_in_the_look_back_period", text="deprecated"),
        works("serve.config.AggregationFunction", ".MEAN", ".MAX", ".MIN", by="property/autoscaler"),
        works("serve.config.AutoscalingPolicy(policy_function, policy_kwargs)", by="integration/serve/autoscaling_policies"),
        differs("~unknown fields", how="refused, instead of being ignored", by="unit/spec/deployment::test_wrong_bounds_are_refused"),
        differs("~a short `look_back_period_s`", how="no warning: load is told five times in it", by="unit/reconcile/autoscaler::test_samples_come_five_times_in_the_look_back_period"),
    ),
)  # fmt: skip

OPTIONS = Section(
    "1.11 Other options",
    (
        works(
            "serve.config.HTTPOptions(host, port, root_url, root_path, request_timeout_s, keep_alive_timeout_s, "
            "ssl_keyfile, ssl_certfile, ssl_keyfile_password, ssl_ca_certs, location, middlewares, num_cpus)",
            by="compat/1_12_config::test_http_options compat/1_12_config::test_bad_http_options_are_refused",
        ),
        differs("~its unknown fields; a key without its certificate", key="http-options-extras tls-key-without-certificate"),
        works("serve.config.gRPCOptions(port, grpc_servicer_functions, request_timeout_s, enable_reflection)", by="compat/4_grpc::test_options_have_the_documented_defaults"),
        works("serve.config.ProxyLocation", ".Disabled", ".HeadOnly", ".EveryNode", by="compat/1_12_config::test_proxy_location_is_a_string unit/spec/options::test_proxy_locations_are_read_from_names"),
        works("serve.config.ControllerOptions(runtime_env)", by="compat/1_12_config::test_controller_options_take_environment_variables_only"),
        works("serve.config.BackpressureConfig(status_code, retry_after_s)", by="compat/1_12_config::test_backpressure_config compat/3_3_errors::test_a_full_queue_is_503_or_as_configured"),
        works(
            "serve.config.RequestRouterConfig(request_router_class, request_router_kwargs, request_routing_stats_period_s, "
            "request_routing_stats_timeout_s, initial_backoff_s, backoff_multiplier, max_backoff_s)",
            by="compat/6_7_routing::test_the_config_has_the_documented_defaults compat/6_7_routing::test_a_config_that_makes_no_sense_is_refused",
            text="the backoff has no effect: replicas say when they have room",
        ),
        differs("~a router class of a function or script", key="router-classes-by-value"),
        works("serve.TracingConfig(enabled, exporter_import_path, sampling_ratio)", by="unit/spec/options::test_tracing"),
    ),
)  # fmt: skip
LOGGING = Section(
    "1.12 `LoggingConfig`",
    (
        works(
            "serve.schema.LoggingConfig(encoding, log_level, logs_dir, enable_access_log, additional_log_standard_attrs)",
            by="compat/1_12_config::test_logging_config compat/1_12_config::test_bad_logging_config_is_refused",
        ),
        works("~of a deployment, an application, the instance", by="unit/spec/config::test_logging_of_the_file_is_that_of_applications_without_one unit/base/logs::test_options_come_from_the_config_and_then_from_the_environment"),
    ),
)  # fmt: skip

EXCEPTIONS = Section(
    "1.13 Exceptions",
    (
        works("serve.exceptions.RayServeException", by="compat/1_13_exceptions::test_one_base"),
        works("serve.exceptions.BackPressureError(num_queued_requests, max_queued_requests, status_code, retry_after_s)", ".message", by="compat/1_13_exceptions::test_back_pressure_error compat/1_13_exceptions::test_back_pressure_error_survives_pickling"),
        differs("serve.exceptions.RequestCancelledError(request_id)", how="the same text; `TaskCancelledError` of `eagleray.exceptions` is another name of it", by="compat/1_13_exceptions::test_request_cancelled_error"),
        differs("serve.exceptions.DeploymentUnavailableError(deployment_id)", "serve.exceptions.ReplicaUnavailableError(replica_id)", key="unavailable-text"),
        works("serve.exceptions.gRPCStatusError", ".original_exception", ".grpc_code", ".grpc_details", by="compat/4_grpc::test_a_code_that_was_set_before_raising"),
    ),
)  # fmt: skip

CLUSTER = Section(
    "1.14 Deployment actors, gangs, placement groups",
    (
        works("serve.config.GangSchedulingConfig(gang_size, gang_placement_strategy, runtime_failure_policy)", by="compat/1_14_cluster::test_a_gang_config", text="as data"),
        works("serve.config.DeploymentActorConfig(name, actor_class, init_args, init_kwargs, actor_options)", by="compat/1_14_cluster::test_an_actor_config", text="as data"),
        works("serve.config.GangPlacementStrategy", ".PACK", ".SPREAD", "serve.config.GangRuntimeFailurePolicy", ".RESTART_GANG", ".RESTART_REPLICA", by="compat/1_14_cluster::test_a_gang_config", text="as data"),
        ray("~deploying what has gangs, deployment actors or placement groups", why="one error that says so and what does the same here", by="compat/1_14_cluster::test_whoever_deploys_them_is_told_what_they_need"),
        ray("serve.get_deployment_actor(name)", "serve.get_deployment_actor_context()", why="one error; a deployment of its own with one replica does the same", by="compat/1_14_cluster::test_a_replica_has_no_actor_and_is_told_what_does_the_same compat/1_14_cluster::test_outside_of_replicas_and_actors_there_is_no_actor"),
        ray("serve.context.DeploymentActorContext", ".deployment_id", ".actor_name", ".code_version", ".app_name", ".deployment", "serve.gang.GangContext", ".gang_id", ".rank", ".world_size", ".member_replica_ids", ".pg_name", why="for annotations", by="compat/names::test_a_python_name_is_there"),
    ),
)  # fmt: skip

TASKS = Section(
    "1.15 Task consumers",
    (
        works("serve.task_consumer.task_consumer(task_processor_config)", "serve.task_consumer.task_handler(name)", by="unit/serve/task_consumer::test_a_blank_name_is_refused unit/serve/task_consumer::test_a_class_without_handlers_is_refused integration/tasks/consumers::test_what_becomes_of_tasks"),
        works("serve.task_consumer.instantiate_adapter_from_config(task_processor_config)", by="unit/serve/task_consumer::test_an_adapter_works_without_an_instance"),
        works("serve.schema.TaskProcessorConfig(queue_name, adapter, adapter_config, max_retries, failed_task_queue_name, unprocessable_task_queue_name)", by="unit/serve/task_consumer::test_what_is_configured_is_checked integration/tasks/consumers::test_what_becomes_of_tasks"),
        differs("serve.schema.CeleryAdapterConfig(broker_url, backend_url, app_custom_config, task_custom_config, broker_transport_options)", "serve.task_processor.CeleryTaskProcessorAdapter", how="`broker_url` chooses our queue in Redis, SQLite or memory; Celery does not run, and RabbitMQ is refused ([tasks.md](tasks.md))", by="unit/serve/task_consumer::test_the_broker_chooses_the_queue contract/tasks/queues"),
        works("serve.schema.TaskResult", ".id", ".status", ".created_at", ".result", by="unit/serve/task_consumer::test_an_adapter_works_without_an_instance"),
        works(
            "serve.schema.TaskProcessorAdapter",
            *(".initialize", ".register_task_handle", ".enqueue_task_sync", ".get_task_status_sync", ".start_consumer"),
            *(".stop_consumer", ".cancel_task_sync", ".get_metrics_sync", ".health_check_sync", ".enqueue_task_async"),
            *(".get_task_status_async", ".cancel_task_async", ".get_metrics_async", ".health_check_async"),
            by="unit/serve/task_consumer::test_what_has_no_async_twin_says_so integration/tasks/consumers::test_tasks_are_cancelled",
        ),
        works("~retries with backoff, failed and unprocessable queues", by="unit/serve/task_consumer::test_a_task_runs_once_more_than_it_may_be_retried unit/serve/task_consumer::test_delays_grow_up_to_a_minute"),
        works("~concurrency is `max_ongoing_requests`", by="integration/tasks/consumers::test_as_many_tasks_run_as_the_replica_takes_requests"),
        differs("~`async def` handlers", how="work, instead of `NotImplementedError`", by="integration/tasks/consumers::test_what_becomes_of_tasks"),
        works("serve.async_inference_autoscaling_policy.AsyncInferenceAutoscalingPolicy(broker_url, queue_name, poll_interval_s)", by="integration/tasks/consumers::test_replicas_are_as_many_as_the_tasks_need unit/serve/task_consumer::test_the_policy_is_found_under_rays_name"),
        no("~its `rabbitmq_management_url`", why="there is no queue in RabbitMQ", by="unit/serve/task_consumer::test_the_broker_chooses_the_queue"),
    ),
)  # fmt: skip

HOOKS = Section(
    "1.16 Hooks of user classes",
    (
        works("~`__init__`, sync or async", by="compat/1_16_hooks::test_an_async_constructor_is_awaited"),
        works("~`__call__`", by="compat/1_16_hooks::test_a_class_without_call_answers_its_other_methods"),
        differs("~a class with `predict` and no `__call__`", key="predict"),
        works("~`reconfigure`", by="compat/1_16_hooks::test_reconfigure_follows_the_constructor compat/1_16_hooks::test_reconfigure_is_not_called_without_a_user_config compat/1_16_hooks::test_a_user_config_needs_reconfigure compat/1_16_hooks::test_a_function_takes_no_user_config"),
        works("~`check_health`", by="compat/1_16_hooks::test_check_health_is_called_again_and_again compat/6_control::test_three_failed_health_checks_replace_a_replica"),
        works("~`__del__`", by="compat/1_16_hooks::test_del_runs_once_when_a_replica_stops compat/1_16_hooks::test_an_exception_in_del_hinders_nothing"),
        works("~`record_routing_stats`", by="compat/6_7_routing::test_statistics_of_replicas_reach_the_router unit/replica/report::test_what_hooks_return_is_told_when_it_changes"),
        works("~`record_replica_metadata`", by="unit/replica/report::test_metadata_that_cannot_be_told_fails_the_start unit/routing/chooser"),
        works("~`record_autoscaling_stats`", by="integration/serve/autoscaling_policies::test_function_sees_the_replicas_statistics_and_its_own_state unit/replica/stats_hook"),
        works("~`__serve_build_asgi_app__`", by="unit/serve/ingress::test_a_router_a_builder_a_function_and_a_hook_are_applications"),
        works("~the number of threads of sync methods", by="unit/replica/threads unit/replica/capacity"),
        works("~threads and loops of user code", by="compat/1_16_hooks::test_sync_methods_run_side_by_side compat/1_16_hooks::test_async_methods_share_one_thread_with_the_constructor"),
    ),
)  # fmt: skip

REQUEST_CONTEXT = Section(
    "1.17 Request context",
    (
        works("serve.context._get_serve_request_context()", "serve.context.RequestContext", ".route", ".request_id", "._internal_request_id", ".app_name", ".multiplexed_model_id", ".session_id", ".grpc_context", ".is_http_request", ".cancel_on_parent_request_cancel", by="compat/1_7_contexts::test_the_request_context_over_http compat/1_7_contexts::test_the_request_id_follows_into_tasks_threads_and_child_calls compat/1_7_contexts::test_a_handle_call_has_an_id_of_its_own"),
    ),
)  # fmt: skip

INGRESS = Section(
    "1.18 Ingress, builders, local testing, LLM, Gradio",
    (
        works("serve.ingress(app)", by="compat/1_18_ingress::test_any_asgi_app_can_be_the_ingress compat/1_18_ingress::test_a_bare_asgi_object_can_be_the_ingress compat/1_18_ingress::test_a_builder_function_makes_the_app_in_the_replica compat/1_18_ingress::test_only_classes_without_call_can_be_ingresses"),
        works("~FastAPI views", by="compat/1_18_ingress::test_views_get_the_instance_as_self compat/1_18_ingress::test_bodies_are_validated compat/1_18_ingress::test_docs_are_below_the_prefix_and_self_is_no_parameter compat/1_18_ingress::test_two_classes_may_share_one_app"),
        works("~lifespan", by="compat/1_18_ingress::test_the_lifespan_runs_once_in_each_replica compat/1_18_ingress::test_a_failing_startup_fails_the_deploy"),
        works("~errors of child calls in a route", by="compat/1_18_ingress::test_errors_of_child_calls_are_mapped_in_a_route"),
        works("~an `APIRouter`", by="unit/serve/ingress::test_a_router_a_builder_a_function_and_a_hook_are_applications", text="as documented; Ray Serve 2.60 itself does not answer"),
        differs("~an ASGI function", key="asgi-function-ingress"),
        differs("~subclasses of an ingress class", how="may have a sync `__init__`", by="unit/serve/ingress::test_subclasses_are_ingresses_too_and_others_are_not"),
        works("~application builders, their arguments from command line and config file", by="compat/1_18_builders unit/build::test_builders_take_a_dict_or_a_model unit/build::test_a_wrong_path_or_argument_is_one_clear_error"),
        differs("~postponed annotations", key="postponed-annotations"),
        works("~local testing: `_local_testing_mode`, `RAY_SERVE_FORCE_LOCAL_TESTING_MODE`", by="integration/local/compat integration/local/local::test_the_environment_can_ask_for_it unit/base/settings::test_ray_serves_variables_count_where_ours_are_not_set"),
        works("~what local testing lacks: `choose_replica`", by="integration/local/local::test_there_is_one_replica_to_broadcast_to_and_none_to_choose", text="`NotImplementedError`"),
        differs("~HTTP in local testing", how="is there: `eagleray.testing.LocalClient` ([testing.md](testing.md))", by="docs/testing"),
        no("~`serve.llm`: `LLMConfig`, `LLMServingArgs`, `ModelLoadingConfig`, `CloudMirrorConfig`, `LoraConfig`, `build_llm_deployment`, `build_openai_app`, `build_pd_openai_app`, `build_dp_deployment`, `build_dp_openai_app`, `LLMServer`, `.deployment`, `.ingress` (`OpenAiIngress`, `make_fastapi_ingress`), `.request_router` (`PrefixCacheAffinityRouter`, `KVAwareRouter`), its routes `/v1/...`", why="it is made of vLLM and of Ray's placement groups. An engine in a deployment of your own streams ([streaming.md](streaming.md), examples/streaming_chat); the Ray engine has the real one", by="unit/serve/absent"),
        works("serve.gradio_integrations.GradioServer.bind", "serve.gradio_integrations.GradioIngress(builder)", by="integration/serve/gradio docs/gradio", text="[gradio.md](gradio.md)"),
    ),
)  # fmt: skip

METRICS = Section(
    "1.19 `serve.metrics`",
    (
        works("serve.metrics.Counter(name, description, tag_keys)", "serve.metrics.Counter.inc(value, tags)", by="unit/serve/metrics::test_each_kind_counts_by_its_tags"),
        works("serve.metrics.Gauge(name, description, tag_keys)", "serve.metrics.Gauge.set(value, tags)", by="unit/serve/metrics::test_each_kind_counts_by_its_tags"),
        works("serve.metrics.Histogram(name, description, boundaries, tag_keys)", "serve.metrics.Histogram.observe(value, tags)", by="unit/serve/metrics::test_each_kind_counts_by_its_tags"),
        works("serve.metrics.Counter", ".set_default_tags", ".info", by="unit/serve/metrics::test_default_tags_stand_in_for_those_that_are_left_out unit/serve/metrics::test_a_replica_adds_what_it_is"),
        works("~bad names, tags and values", by="unit/serve/metrics::test_what_does_not_fit_is_refused unit/serve/metrics::test_a_bad_name_costs_the_metric_only"),
        works("~the tag `route`", by="unit/serve/metrics::test_the_tag_route_is_that_of_the_request", text="also without tags, where Ray Serve 2.60 raises"),
        works("~pickling; outside of replicas", by="unit/serve/metrics::test_a_metric_made_outside_counts_in_the_replica_that_it_comes_to unit/serve/metrics::test_without_an_instance_nothing_is_counted_and_nothing_fails"),
        works("~exported as `ray_<name>`, counters as `<name>_total`", by="docs/user_metrics integration/metrics/series"),
    ),
)  # fmt: skip

SECTIONS = (BATCH, MULTIPLEX, AUTOSCALING, OPTIONS, LOGGING, EXCEPTIONS, CLUSTER, TASKS, HOOKS, REQUEST_CONTEXT, INGRESS, METRICS)  # fmt: skip

__all__ = ["SECTIONS"]
