"""Section 1, first part: names of `serve`, deployments and applications, running, contexts."""

from __future__ import annotations

from tests.compat.names.rows import Section, differs, no, ray, works

EXPORTS = Section(
    "1.1 Modules and what they export",
    (
        works(
            "serve",
            *(
                ".Application",
                ".ControllerOptions",
                ".Deployment",
                ".HTTPOptions",
                ".RunTarget",
                ".TracingConfig",
            ),
            *("._run", "._run_many", ".batch", ".delete", ".deployment", ".get_app_handle"),
            *(
                ".get_deployment_handle",
                ".get_multiplexed_model_id",
                ".get_replica_context",
                ".get_trace_context",
            ),
            *(
                ".ingress",
                ".multiplexed",
                ".run",
                ".run_many",
                ".shutdown",
                ".shutdown_async",
                ".start",
                ".status",
            ),
            by="compat/1_2_decorator compat/1_5_run compat/1_6_instance compat/1_7_contexts compat/1_8_batch "
            "compat/1_9_multiplex compat/1_18_ingress unit/serve/tracing",
        ),
        ray(
            "serve",
            *(".get_deployment_actor", ".get_deployment_actor_context"),
            why="there, and raising an error that says so ([1.14](#114-deployment-actors-gangs-placement-groups))",
            by="compat/1_14_cluster",
        ),
        works(
            "serve.handle",
            *(".DeploymentHandle", ".DeploymentResponse", ".DeploymentResponseGenerator"),
            ".DeploymentBroadcastResponse",
            by="compat/2_1_handles compat/2_2_responses compat/2_3_generators compat/2_1_replicas",
        ),
        works(
            "serve.config",
            *(".AggregationFunction", ".AutoscalingConfig", ".AutoscalingContext", ".AutoscalingPolicy"),
            *(".BackpressureConfig", ".ControllerOptions", ".HTTPOptions", ".ProxyLocation"),
            *(".RequestRouterConfig", ".gRPCOptions"),
            by="compat/1_12_config compat/6_6_autoscaling compat/6_7_routing compat/4_grpc",
        ),
        works(
            "serve.config",
            *(".DeploymentActorConfig", ".GangPlacementStrategy", ".GangRuntimeFailurePolicy"),
            ".GangSchedulingConfig",
            by="compat/1_14_cluster",
            text="as data: [1.14](#114-deployment-actors-gangs-placement-groups)",
        ),
        works(
            "serve.schema",
            *(".ServeDeploySchema", ".ServeApplicationSchema", ".DeploymentSchema", ".RayActorOptionsSchema"),
            *(
                ".HTTPOptionsSchema",
                ".gRPCOptionsSchema",
                ".LoggingConfig",
                ".EncodingType",
                ".TracingConfig",
            ),
            by="unit/spec/config compat/1_12_config",
        ),
        works(
            "serve.schema",
            *(
                ".ServeStatus",
                ".ApplicationStatusOverview",
                ".DeploymentStatusOverview",
                ".ApplicationStatus",
            ),
            *(".DeploymentStatus", ".DeploymentStatusTrigger", ".ReplicaState", ".ProxyStatus"),
            by="compat/5_status",
        ),
        works(
            "serve.schema",
            *(".ServeInstanceDetails", ".ApplicationDetails", ".DeploymentDetails", ".ReplicaDetails"),
            *(
                ".ProxyDetails",
                ".ServeActorDetails",
                ".TargetGroup",
                ".ReplicaRank",
                ".ScaleDeploymentRequest",
            ),
            by="integration/controller/declared::test_details_have_every_key integration/admin/routes::test_scale",
        ),
        works(
            "serve.schema",
            *(".TaskProcessorConfig", ".CeleryAdapterConfig", ".TaskProcessorAdapter", ".TaskResult"),
            by="unit/serve/task_consumer",
        ),
        works(
            "serve.exceptions",
            *(".RayServeException", ".gRPCStatusError", ".BackPressureError", ".RequestCancelledError"),
            *(".DeploymentUnavailableError", ".ReplicaUnavailableError"),
            by="compat/1_13_exceptions",
        ),
        works(
            "serve.context",
            *(".ReplicaContext", "._get_serve_request_context", "._serve_request_context"),
            by="compat/1_7_contexts",
        ),
        ray("serve.context.DeploymentActorContext", why="there, for annotations", by="compat/1_14_cluster"),
        works("serve.metrics", ".Counter", ".Gauge", ".Histogram", by="unit/serve/metrics"),
        works("serve.grpc_util", ".RayServegRPCContext", ".gRPCInputStream", by="compat/4_grpc"),
        works(
            "serve.autoscaling_policy",
            *(".default_autoscaling_policy", ".replica_queue_length_autoscaling_policy"),
            by="unit/policies::test_default_policy_is_load_over_target",
        ),
        no(
            "~Prometheus helpers of `serve.autoscaling_policy`",
            why="a policy is a function and may ask whom it likes",
        ),
        works(
            "serve.request_router",
            *(
                ".FIFOMixin",
                ".LocalityMixin",
                ".MultiplexMixin",
                ".PendingRequest",
                ".ReplicaID",
                ".RequestRouter",
            ),
            ".RunningReplica",
            by="compat/6_7_routing unit/routing/chooser",
        ),
        works(
            "serve.experimental.round_robin_router.RoundRobinRouter",
            "serve.experimental.consistent_hash_router.ConsistentHashRouter",
            by="compat/6_7_routing",
        ),
        no(
            "serve.experimental.capacity_queue_router",
            *(".CapacityQueueRouter", ".CapacityQueue"),
            why="no router overruns a replica here, so there is no capacity to hand out",
            by="unit/serve/absent::test_a_router_that_nothing_needs",
        ),
        ray(
            "serve.gang.GangContext",
            why="there, for annotations",
            by="compat/names::test_a_python_name_is_there",
        ),
        works(
            "serve.task_consumer",
            *(".task_consumer", ".task_handler", ".instantiate_adapter_from_config"),
            by="unit/serve/task_consumer integration/tasks/consumers",
        ),
        works("serve.task_processor.CeleryTaskProcessorAdapter", by="unit/serve/task_consumer"),
        no(
            "serve.taskiq_task_processor",
            why="tasks are queued by Eagleray itself ([tasks.md](tasks.md)); importing it says so",
            by="unit/serve/absent::test_a_module_cannot_be_imported_and_says_why",
        ),
        works(
            "serve.gradio_integrations",
            ".GradioServer",
            ".GradioIngress",
            by="integration/serve/gradio docs/gradio",
            text="[gradio.md](gradio.md)",
        ),
        no(
            "serve.llm",
            why="made of vLLM and Ray's placement groups; importing it says what to do ([1.18](#118-ingress-builders-local-testing-llm-gradio))",
            by="unit/serve/absent::test_a_module_cannot_be_imported_and_says_why",
        ),
        no(
            "serve.dag",
            why="vestigial in Ray Serve, too; importing it says what composes deployments now",
            by="unit/serve/absent::test_a_module_cannot_be_imported_and_says_why",
        ),
        works("serve.scripts.cli", by="unit/serve/absent::test_the_command_line_has_its_familiar_place"),
        works(
            "~a pip hint where an extra is missing",
            by="integration/grpc_proxy/start::test_a_missing_extra_is_named",
        ),
        works("~the logger `ray.serve`", by="integration/serve/logs"),
    ),
)

DECORATOR = Section(
    "1.2 `@serve.deployment`",
    (
        works(
            "serve.deployment(name, num_replicas, ray_actor_options, user_config, max_ongoing_requests, "
            "max_queued_requests, backpressure_config, autoscaling_config, graceful_shutdown_wait_loop_s, "
            "graceful_shutdown_timeout_s, health_check_period_s, health_check_timeout_s, logging_config, "
            "request_router_config, max_constructor_retry_count, rolling_update_percentage, max_surge_percent)",
            by="compat/1_2_decorator::test_good_values_are_taken "
            "compat/1_2_decorator::test_bad_values_are_refused_at_decoration compat/1_2_decorator::test_defaults",
        ),
        works("~bare, with options, as a plain call", by="compat/1_2_decorator::test_decorator_can_be_bare_parametrised_or_called"),
        works("serve.deployment(version)", by="compat/1_3_deployment::test_options_validates", text="removed: `ValueError`"),
        works(
            '~`num_replicas="auto"`',
            by="integration/serve/autoscaling::test_auto_means_bounds_of_one_and_a_hundred "
            "unit/spec/deployment::test_automatic_scaling_has_other_defaults",
        ),
        works(
            "~`ray_actor_options`: `num_cpus`, `num_gpus`, `memory`, `resources`, `runtime_env`",
            by="integration/resources compat/1_16_hooks::test_the_environment_variables_of_runtime_env",
        ),
        differs(
            "~`ray_actor_options`: `accelerator_type`",
            how="accepted and without effect on one machine",
            by="unit/spec/deployment::test_a_kind_of_accelerator_is_taken_and_choosing_nodes_is_refused_with_a_reason",
        ),
        ray(
            "~`ray_actor_options`: `label_selector`, `fallback_strategy`",
            why="they choose nodes; refused with a reason",
            by="unit/spec/deployment::test_a_kind_of_accelerator_is_taken_and_choosing_nodes_is_refused_with_a_reason",
        ),
        differs("~`runtime_env`", how="a Python of this machine with packages, archives and variables; `conda`, `container`, `image_uri` and such are refused with a reason ([environments.md](environments.md))", by="unit/spec/environment integration/serve/environments"),
        ray(
            "serve.deployment(placement_group_bundles, placement_group_strategy, "
            "placement_group_bundle_label_selector, gang_scheduling_config, deployment_actors)",
            why="checked and kept as data; deploying says so",
            by="compat/1_14_cluster",
        ),
        differs("serve.deployment(max_replicas_per_node)", key="cluster-options-are-data"),
        works("~`num_replicas` and `autoscaling_config` exclude each other", by="compat/6_6_autoscaling::test_a_number_and_autoscaling_exclude_each_other"),
        works("~only functions and classes", by="compat/1_2_decorator::test_only_functions_and_classes_can_be_deployed"),
        differs("~a text in place of them", key="undeployable-text"),
        works("~unknown options are `TypeError`s", by="compat/1_2_decorator::test_unknown_options_are_type_errors"),
        works("~bound arguments of a function", by="compat/1_2_decorator::test_a_function_takes_no_bound_arguments"),
    ),
)  # fmt: skip

DEPLOYMENT = Section(
    "1.3 `Deployment`",
    (
        works("~it can be neither called nor constructed", by="compat/1_3_deployment::test_it_cannot_be_called compat/1_3_deployment::test_it_cannot_be_constructed"),
        works(
            "serve.Deployment",
            *(".name", ".version", ".func_or_class", ".num_replicas", ".user_config", ".max_ongoing_requests"),
            *(".max_queued_requests", ".backpressure_config", ".ray_actor_options", ".init_args", ".init_kwargs"),
            *(".logging_config", ".set_logging_config"),
            by="unit/serve/deployment::test_a_logging_config_can_be_set_afterwards compat/1_3_deployment::test_properties compat/1_3_deployment::test_properties_are_read_only",
        ),
        works("serve.Deployment.bind", by="compat/1_3_deployment::test_bind_makes_an_application"),
        works(
            "serve.Deployment.options(func_or_class, name)",
            by="compat/1_3_deployment::test_options_returns_a_changed_copy "
            "compat/1_3_deployment::test_options_takes_another_class compat/1_3_deployment::test_options_validates",
        ),
        differs("~`.options(rolling_update_percentage=...)`", key="options-rolling-update-percentage"),
        differs(
            "~`.options(num_replicas=2)` of what autoscales",
            how="ends autoscaling, instead of being ignored",
            by="unit/serve/deployment::test_newer_wish_counts_between_a_number_and_autoscaling",
        ),
        works("~`repr`, equality", by="compat/1_3_deployment::test_text_and_equality"),
        differs("~equality with something else", key="equality-with-others"),
    ),
)  # fmt: skip

APPLICATION = Section(
    "1.4 `Application` and composition",
    (
        works("~children are handles wherever they are bound", by="compat/1_4_composition::test_children_are_handles_wherever_they_are_bound"),
        works("~handles are ready in constructors", by="compat/1_4_composition::test_a_constructor_can_start_calls compat/1_4_composition::test_handles_work_inside_an_async_constructor"),
        works("~bound twice is one deployment", by="compat/1_4_composition::test_the_same_application_bound_twice_is_one_deployment"),
        works("~`Name_1`, `Name_2`", by="compat/1_4_composition::test_different_applications_of_one_name_are_renamed"),
        works("~the outermost one is the ingress", by="compat/1_4_composition::test_the_outermost_application_gets_the_http_traffic"),
        works("~two ingress classes are refused", by="compat/1_4_composition::test_two_ingress_classes_in_one_application_are_refused"),
        works("~the driver's `runtime_env` is inherited", by="unit/ray_core::test_deployments_inherit_the_environment_of_the_job"),
    ),
)  # fmt: skip

RUN = Section(
    "1.5 `serve.run`",
    (
        works(
            "serve.run(target, blocking, name, route_prefix, logging_config, _local_testing_mode, "
            "external_scaler_enabled, controller_options)",
            by="compat/1_5_run integration/local/local "
            "integration/serve/driver::test_what_run_starts_has_its_controller_options",
        ),
        works(
            "serve.run_many(targets, blocking, wait_for_ingress_deployment_creation, wait_for_applications_running)",
            by="compat/1_5_run::test_run_many_returns_one_handle_for_each_target compat/1_5_run::test_run_many_can_return_at_once",
            text="a handle may be had at once; its calls wait",
        ),
        works(
            "serve.RunTarget(target, name, route_prefix, logging_config, external_scaler_enabled)",
            by="compat/1_5_run::test_run_target_has_the_defaults_of_run",
        ),
        works("serve._run(target, _blocking, name, route_prefix, logging_config)", "serve._run_many(targets)", by="compat/5_status"),
        works("~errors of name, target and route prefix", by="compat/1_5_run::test_the_name_may_not_be_empty compat/1_5_run::test_only_an_application_can_be_run compat/1_5_run::test_bad_route_prefixes_are_refused"),
        works("~a prefix belongs to one application", by="compat/1_5_run::test_a_prefix_belongs_to_one_application"),
        works("~`route_prefix=None`", by="compat/1_5_run::test_without_a_route_prefix_only_the_handle_reaches_it"),
        works("~a failed deploy is a `RuntimeError`", by="compat/1_5_run::test_a_failing_constructor_fails_the_run_with_its_traceback"),
        differs("~its text", key="deploy-error-names-the-cause"),
        works("~the same name again is a redeploy", by="compat/1_5_run::test_a_redeploy_removes_deployments_that_vanished compat/1_5_run::test_a_redeploy_can_move_the_route"),
        works("~every run replaces replicas", by="compat/1_5_run::test_every_run_replaces_the_replicas"),
        works("~`blocking=True` until Ctrl-C", by="compat/1_5_run::test_a_blocking_run_ends_with_ctrl_c"),
        differs("~arguments of other types", key="arguments-of-other-types"),
    ),
)  # fmt: skip

INSTANCE = Section(
    "1.6 Start, shutdown, status, look-ups",
    (
        works(
            "serve.start(proxy_location, http_options, grpc_options, logging_config, tracing_config, controller_options)",
            by="compat/1_6_instance compat/1_12_config integration/grpc_proxy/start",
        ),
        differs("~unknown keywords of `start`", key="start-unknown-keyword"),
        works("~`start` while it runs keeps the options", by="compat/1_6_instance::test_one_life_of_an_instance"),
        works("serve.shutdown()", "serve.shutdown_async()", by="compat/1_6_instance::test_one_life_of_an_instance integration/serve/driver::test_a_second_life_after_shutdown"),
        works("serve.delete(name, _blocking)", by="compat/1_6_instance::test_look_ups_and_delete"),
        works("serve.status()", by="compat/5_status"),
        works("serve.get_app_handle(name)", "serve.get_deployment_handle(deployment_name, app_name, _check_exists)", by="compat/1_6_instance::test_look_ups_and_delete integration/serve/driver::test_replicas_may_use_the_api_from_coroutines_and_threads"),
        differs("~the instance of `eagleray start`", how="scripts use it while it runs and leave it as it is ([operations.md](operations.md))", by="integration/cli/attach"),
    ),
)  # fmt: skip

CONTEXTS = Section(
    "1.7 Replica context",
    (
        works(
            "serve.context.ReplicaContext",
            *(".app_name", ".deployment", ".replica_tag", ".replica_id", ".servable_object", ".rank", ".world_size"),
            *(".code_version", "._deployment_config"),
            by="compat/1_7_contexts",
        ),
        ray("serve.context.ReplicaContext.gang_context", why="None", by="compat/1_14_cluster"),
        works("serve.get_replica_context()", by="compat/1_7_contexts::test_outside_a_replica_there_is_no_context compat/1_7_contexts::test_the_replica_context_in_the_hooks"),
        works("serve.request_router.ReplicaID", ".unique_id", ".deployment_id", ".to_full_id_str", "~`DeploymentID`, and the text of both", by="compat/1_7_contexts::test_the_replica_context_in_a_method"),
        works("serve.schema.ReplicaRank", ".rank", ".node_rank", ".local_rank", by="compat/1_7_contexts::test_ranks_are_contiguous"),
        differs("~ranks after a scale-down", how="those with the highest go first, so that the others need no new ones; a replica that died is replaced under its rank", by="unit/reconcile/deployment::test_scaling_keeps_the_replicas_that_stay_and_their_ranks_dense"),
        works("~`reconfigure(user_config, rank=...)`", by="unit/replica/callable::test_reconfigure_after_construction_with_rank_if_wanted"),
    ),
)  # fmt: skip

SECTIONS = (EXPORTS, DECORATOR, DEPLOYMENT, APPLICATION, RUN, INSTANCE, CONTEXTS)

__all__ = ["SECTIONS"]
