"""Sections 5 and 6: config files, commands, REST, statuses, the control plane."""

from __future__ import annotations

from tests.compat.names.rows import Section, differs, no, ray, works

FILES = Section(
    "5.1 Config files",
    (
        works("serve.schema.ServeDeploySchema(proxy_location, http_options, grpc_options, controller_options, logging_config, tracing_config, applications, target_capacity)", by="unit/spec/config::test_a_whole_file unit/spec/config::test_defaults_are_those_of_ray integration/controller/declared::test_target_capacity_scales_and_comes_back"),
        works("serve.schema.ServeApplicationSchema(name, route_prefix, import_path, runtime_env, args, deployments, autoscaling_policy, logging_config, external_scaler_enabled)", by="unit/spec/config::test_a_whole_file integration/serve/autoscaling_policies::test_policy_of_an_application_from_a_config_file"),
        works("serve.schema.DeploymentSchema(name, num_replicas, max_ongoing_requests, max_queued_requests, backpressure_config, user_config, autoscaling_config, graceful_shutdown_wait_loop_s, graceful_shutdown_timeout_s, health_check_period_s, health_check_timeout_s, ray_actor_options, logging_config, request_router_config, rolling_update_percentage, max_surge_percent)", by="unit/spec/config::test_config_beats_code_option_by_option"),
        ray("serve.schema.DeploymentSchema(placement_group_bundles, placement_group_strategy, placement_group_bundle_label_selector, gang_scheduling_config, deployment_actors, max_replicas_per_node)", why="read and checked; the application is DEPLOY_FAILED with a message that says so", by="unit/spec/cluster mistakes/deploy"),
        works("~`import_path` by colon or dot", by="unit/spec/config::test_an_import_path_has_a_colon_or_a_dot unit/spec/config::test_what_is_no_import_path"),
        works("~config beats code, environments are merged", by="unit/spec/config::test_config_beats_code_option_by_option unit/spec/config::test_actor_options_are_replaced_whole_and_environments_merged"),
        works("~an override that is taken away, or for nothing", by="integration/controller/declared::test_an_override_that_is_taken_away_gives_the_codes_value_back unit/spec/config::test_an_override_of_nothing_is_told_with_what_there_is"),
        works("~what a file no longer names goes, scripts' applications stay", by="integration/controller/declared::test_applications_that_are_no_longer_named_go_unless_merged integration/controller/declared::test_a_script_takes_an_application_over_and_gives_it_back"),
        works("~an identical file changes nothing", by="integration/controller/declared::test_a_file_is_served_and_the_same_file_again_costs_nothing"),
        differs("~what had failed to deploy", how="is tried anew by the same file", by="integration/controller/declared::test_what_was_given_up_is_tried_anew_by_the_same_file"),
        differs("~unknown keys", how="warnings with the nearest name, instead of silence", by="unit/spec/config::test_unknown_keys_warn_and_are_left_out"),
        differs("~a number of replicas over code that autoscales", how="ends autoscaling, instead of being ignored", by="unit/spec/overlay::test_a_number_ends_autoscaling"),
        differs("~mistakes of prefixes and bounds", how="the whole file is refused, with all its mistakes", by="unit/spec/config::test_what_must_agree integration/controller/declared::test_a_file_with_mistakes_changes_nothing"),
        works("~`host` and `port` in an application are mistakes", by="unit/spec/config::test_what_must_agree"),
        works("~autoscaling that will never happen is a warning", by="unit/spec/config::test_autoscaling_that_can_never_happen_is_doubted"),
        works("~`py_modules`", by="integration/serve/environments::test_an_application_with_archives_and_modules"),
        differs("~`working_dir`", how="may also be a path of this machine", by="integration/serve/environments::test_an_application_with_archives_and_modules"),
        differs("~an update that fails", how="is taken back (`auto_rollback`), where Ray Serve leaves replicas of the failed version", by="unit/reconcile/rollback::test_declared_applications_have_it_by_default"),
    ),
)  # fmt: skip

COMMANDS = Section(
    "5.2 Command line: `eagleray` for `serve`",
    (
        works("serve start --http-host --http-port --proxy-location --grpc-port --grpc-servicer-functions --grpc-enable-reflection --grpc-disable-reflection", by="integration/test_config_cli integration/grpc_proxy/start::test_the_command_line"),
        works("serve run --app-dir --blocking --non-blocking --reload --route-prefix --name", by="integration/cli/run integration/cli/run_config integration/cli/run_on integration/cli/reload"),
        works("serve run --runtime-env --runtime-env-json --working-dir", by="integration/cli/run_config::test_an_import_path_with_a_runtime_environment"),
        works("~`KEY=VALUE` arguments", by="integration/cli/run::test_builders_with_arguments mistakes/test_run::test_an_argument_without_a_value"),
        works("serve deploy --runtime-env --runtime-env-json --working-dir --name --address", by="integration/test_config_cli integration/test_config_rest"),
        works("serve config --address --name", "serve status --address --name", by="integration/test_config_cli unit/cli/files"),
        works("serve shutdown --address --yes", by="integration/test_config_cli::test_a_config_file_from_start_to_shutdown"),
        works("serve build --app-dir --output-path --grpc-servicer-functions --grpc-enable-reflection --grpc-disable-reflection", by="integration/test_config_cli::test_a_config_is_built_from_code_and_deployed unit/cli/build::test_a_file_is_written_with_what_was_asked_for"),
        differs("~`serve build` of a builder function", how="works (`TypeError`); standard output has nothing but YAML", by="unit/cli/build::test_a_builder_function_is_built_too"),
        works("serve controller-health --json", by="integration/cli/run_on::test_an_instance_is_started_used_again_and_left"),
        differs("~`--address`", how="the REST server, or the socket of this machine's instance; `run` and `start` have none, because they start one", by="integration/test_config_rest::test_every_command_by_rest"),
        differs("~exit codes", how="1 when nobody runs or an application cannot be served, where Ray Serve's are 0", by="integration/cli/run mistakes/test_instance"),
        works("serve.scripts.cli", by="unit/serve/absent::test_the_command_line_has_its_familiar_place"),
    ),
)  # fmt: skip

REST = Section(
    "5.3 REST, 5.4 details",
    (
        works("~`GET`, `PUT /api/serve/applications/`, `?api_type=`", by="integration/admin/routes::test_details integration/admin/routes::test_put_takes_json_and_yaml_and_answers_nothing"),
        differs("~`DELETE /api/serve/applications/`", how="ends the instance with its REST server", by="integration/admin/instance::test_a_life_by_rest"),
        works("~`POST /api/v1/applications/{app}/deployments/{dep}/scale`", by="integration/admin/routes::test_scale integration/admin/routes::test_failures_of_scale integration/controller/declared::test_scaling_from_outside"),
        works("~`GET /api/ray/version`", by="integration/admin/routes::test_version_and_openapi"),
        differs("~tokens", how="always ([rest.md](rest.md)); Host, Origin and content type are checked", by="integration/admin/locked_door"),
        works("serve.schema.ServeInstanceDetails", ".controller_info", ".proxy_location", ".http_options", ".grpc_options", ".proxies", ".applications", ".target_capacity", ".target_groups", ".controller_health_metrics", ".restores_unset_config_options", by="integration/controller/declared::test_details_have_every_key"),
        works("serve.schema.ApplicationDetails", ".name", ".route_prefix", ".docs_path", ".status", ".message", ".last_deployed_time_s", ".deployed_app_config", ".source", ".external_scaler_enabled", ".deployment_topology", ".deployments", by="integration/controller/declared::test_details_have_every_key"),
        works("serve.schema.DeploymentDetails", ".name", ".status", ".status_trigger", ".message", ".deployment_config", ".target_num_replicas", ".required_resources", ".replicas", ".recent_dead_replicas", ".autoscaling_detail", by="integration/controller/declared::test_details_have_every_key integration/serve/autoscaling_policies"),
        works("serve.schema.ReplicaDetails", ".replica_id", ".state", ".pid", ".start_time_s", "serve.schema.ServeActorDetails", ".node_id", ".node_ip", ".node_instance_id", ".actor_id", ".actor_name", ".worker_id", ".log_file_path", by="integration/controller/declared::test_details_have_every_key"),
        works("serve.schema.TargetGroup", ".targets", ".route_prefix", ".protocol", ".app_name", ".ingress_deployment_name", by="integration/controller/declared::test_details_have_every_key", text="the proxy's address"),
        no("serve.schema.TargetGroup.ingress_request_router_targets", why="of direct ingress, which there is not: always empty"),
        works("~`autoscaling_detail`: `scaling_status`, `decisions`, `metrics`, `metrics_health`, `errors`", by="integration/serve/autoscaling_policies::test_function_sees_the_replicas_statistics_and_its_own_state integration/serve/autoscaling_policies::test_policy_that_raises_changes_nothing"),
        no("~`RAY_AUTH_MODE`", why="the REST server always wants a token"),
    ),
)  # fmt: skip

STATUS = Section(
    "5.5, 5.6 Statuses",
    (
        works("serve.schema.ServeStatus", ".proxies", ".applications", ".target_capacity", "serve.schema.ApplicationStatusOverview", ".status", ".message", ".last_deployed_time_s", ".deployments", "serve.schema.DeploymentStatusOverview", ".status", ".status_trigger", ".replica_states", ".message", by="compat/5_status::test_a_running_application compat/5_status::test_the_whole_status_is_plain_data"),
        works("serve.schema.ApplicationStatus", ".NOT_STARTED", ".DEPLOYING", ".DEPLOY_FAILED", ".RUNNING", ".UNHEALTHY", ".DELETING", by="compat/5_status unit/reconcile/application"),
        works("serve.schema.DeploymentStatus", ".UPDATING", ".HEALTHY", ".UNHEALTHY", ".DEPLOY_FAILED", ".UPSCALING", ".DOWNSCALING", by="compat/5_status unit/reconcile/deployment"),
        works("serve.schema.DeploymentStatusTrigger", ".UNSPECIFIED", ".CONFIG_UPDATE_STARTED", ".CONFIG_UPDATE_COMPLETED", ".UPSCALE_COMPLETED", ".DOWNSCALE_COMPLETED", ".AUTOSCALING", ".REPLICA_STARTUP_FAILED", ".HEALTH_CHECK_FAILED", ".INTERNAL_ERROR", ".DELETING", by="unit/reconcile/deployment compat/5_status"),
        ray("serve.schema.DeploymentStatusTrigger.DEPLOYMENT_ACTOR_FAILED", why="there, and never told", by="compat/names::test_a_python_name_is_there"),
        works("serve.schema.ReplicaState", ".STARTING", ".UPDATING", ".RECOVERING", ".RUNNING", ".STOPPING", ".STOPPED", by="compat/5_status unit/reconcile/deployment"),
        ray("serve.schema.ReplicaState.PENDING_MIGRATION", why="there, and never told: one machine", by="compat/names::test_a_python_name_is_there"),
        works("serve.schema.ProxyStatus", ".STARTING", ".HEALTHY", ".UNHEALTHY", ".DRAINING", ".DRAINED", by="compat/5_status unit/reconcile/leaving"),
        differs("~messages of what is lacking", key="missing-resources-at-once"),
    ),
)  # fmt: skip

CONTROL = Section(
    "6.1 to 6.5 Updates, failures, health, the controller",
    (
        works("~what a changed option does", by="unit/spec/deployment::test_a_change_has_the_effect_of_its_strongest_option integration/controller/controller::test_user_config_reaches_the_replica_in_place", text="option by option in [settings.md](settings.md#options-of-a-deployment)"),
        works("~rolling updates by `rolling_update_percentage` and `max_surge_percent`", by="compat/6_control::test_a_redeploy_under_load_fails_no_request property/rollouts"),
        differs("~which goes first", key="surge-first"),
        works("~start-up failures and their budget", by="compat/6_control::test_the_number_of_start_attempts compat/6_control::test_a_constructor_that_fails_at_first_is_tried_again"),
        works("~a broken version leaves the old one serving", by="compat/6_control::test_a_broken_version_leaves_old_replicas_serving_and_a_good_one_recovers"),
        works("~health checks", by="compat/6_control::test_three_failed_health_checks_replace_a_replica compat/6_control::test_a_health_check_that_fails_twice_is_forgiven compat/6_control::test_a_hanging_health_check_replaces_a_replica"),
        works("~graceful shutdown", by="compat/6_control::test_requests_in_flight_finish_before_a_replica_stops compat/6_control::test_after_the_graceful_time_a_replica_is_killed compat/6_control::test_callers_stop_before_those_they_call"),
        differs("~`graceful_shutdown_wait_loop_s`", how="no sleep before a drain ends: nobody routes to the replica any more", by="compat/6_control::test_requests_in_flight_finish_before_a_replica_stops"),
        works("~a controller that crashes", by="fault/kill_controller integration/controller/controller::test_crashed_controller_adopts_what_lives_and_tables_go_on"),
        ray("~draining of nodes, spreading over nodes", why="one machine"),
    ),
)  # fmt: skip

SCALING = Section(
    "6.6 Autoscaling, 6.7 routing",
    (
        works("~the default policy, delays, factors, zero replicas", by="unit/reconcile/autoscaler compat/6_6_autoscaling::test_replicas_follow_the_load compat/6_6_autoscaling::test_first_call_wakes_a_deployment_without_replicas"),
        works(
            "serve.config.AutoscalingContext",
            *(".deployment_id", ".deployment_name", ".app_name", ".current_num_replicas", ".target_num_replicas"),
            *(".running_replicas", ".total_num_requests", ".total_queued_requests", ".total_running_requests"),
            *(".aggregated_metrics", ".raw_metrics", ".capacity_adjusted_min_replicas"),
            *(".capacity_adjusted_max_replicas", ".policy_state", ".last_scale_up_time", ".last_scale_down_time"),
            *(".current_time", ".config"),
            by="unit/policies::test_context_has_the_familiar_types compat/6_6_autoscaling::test_policy_sees_the_deployment_keeps_its_state_and_is_held_to_the_bounds",
        ),
        works("~policies of deployments and of applications", by="integration/serve/autoscaling_policies unit/policies"),
        differs("~a policy that raises", how="affects its own application only", by="integration/serve/autoscaling_policies::test_policy_that_raises_changes_nothing"),
        works("~`target_capacity`", by="unit/spec/config::test_target_capacity_rounds_half_up_and_keeps_one"),
        works("~`external_scaler_enabled`", by="integration/controller/declared::test_scaling_from_outside"),
        works("~power of two choices", by="unit/routing/policies::test_the_less_loaded_one_is_taken", text="by loads that are always known; nobody is probed"),
        works("~models", by="unit/routing/policies::test_whoever_has_the_model_gets_the_call_even_when_busier"),
        works(
            "serve.request_router.RequestRouter",
            *(".choose_replicas", ".initialize_state", ".on_request_completed", ".update_replicas"),
            *(".on_new_queue_len_info", ".on_replica_actor_died", ".on_send_request", ".select_available_replicas"),
            *(".curr_replicas", ".app_name", ".replica_queue_len_cache"),
            by="compat/6_7_routing::test_a_custom_router_chooses_and_hears_what_becomes_of_it "
            "unit/routing/chooser::test_the_router_sees_replicas_come_and_go_and_their_models "
            "unit/routing/router_mixins::test_what_a_router_sees_of_a_call_and_when_it_is_told",
        ),
        differs("serve.request_router.RequestRouter.on_replica_actor_unavailable", how="is never called: a connection on one machine is there, or has ended", by="unit/routing/router_mixins::test_what_a_router_sees_of_a_call_and_when_it_is_told"),
        differs("serve.request_router.RequestRouter.on_request_routed", how="gets no result object: answers do not pass through the router", by="compat/6_7_routing::test_a_custom_router_chooses_and_hears_what_becomes_of_it"),
        works("serve.request_router.LocalityMixin", ".apply_locality_routing", ".rank_replicas_via_locality", "serve.request_router.MultiplexMixin", ".apply_multiplex_routing", ".rank_replicas_via_multiplex", by="unit/routing/router_mixins::test_near_replicas_first unit/routing/router_mixins::test_replicas_with_the_model_first"),
        works("serve.request_router.FIFOMixin", by="unit/routing/chooser compat/6_7_routing"),
        works("serve.request_router.PendingRequest(args, kwargs, metadata)", "serve.request_router.PendingRequest", ".created_at", ".future", ".routing_context", ".resolved", by="unit/routing/router_mixins::test_a_pending_request_has_its_facts"),
        works("serve.request_router.RequestMetadata", ".request_id", ".call_method", ".multiplexed_model_id", ".session_id", ".route", ".app_name", ".is_streaming", by="unit/routing/router_mixins::test_a_pending_request_has_its_facts unit/routing/router_mixins::test_what_a_router_sees_of_a_call_and_when_it_is_told"),
        works("serve.request_router.RunningReplica", ".replica_id", ".node_id", ".availability_zone", ".multiplexed_model_ids", ".routing_stats", ".replica_metadata", ".max_ongoing_requests", ".get_queue_len", by="unit/routing/chooser::test_the_router_sees_replicas_come_and_go_and_their_models compat/2_1_replicas::test_a_selection_says_which_replica_it_is"),
        differs("~a router that fails", key="router-errors-cost-no-request"),
        works("serve.experimental.round_robin_router.RoundRobinRouter", by="compat/6_7_routing::test_round_robin_takes_turns"),
        differs("serve.experimental.consistent_hash_router.ConsistentHashRouter", how="`num_virtual_nodes`, `num_fallback_replicas`; calls without a session go by power of two choices", by="unit/routing/policies::test_a_session_stays_and_few_move_when_replicas_come_and_go unit/routing/policies::test_calls_without_a_session_spread"),
    ),
)  # fmt: skip

SECTIONS = (FILES, COMMANDS, REST, STATUS, CONTROL, SCALING)

__all__ = ["SECTIONS"]
