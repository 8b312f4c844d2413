"""Sections 2 to 4: handles, HTTP, gRPC."""

from __future__ import annotations

from tests.compat.names.rows import Section, differs, no, ray, works

HANDLES = Section(
    "2.1 `DeploymentHandle`",
    (
        works("serve.handle.DeploymentHandle", ".remote", by="compat/2_1_handles::test_arguments_pass_as_they_are"),
        works("~methods as attributes", by="compat/2_1_handles::test_methods_are_attributes_or_an_option"),
        works("serve.handle.DeploymentHandle.options(method_name, multiplexed_model_id, session_id, stream, _by_reference)", by="compat/2_1_handles::test_options_leaves_the_original_alone compat/2_1_handles::test_unknown_options_are_type_errors compat/1_9_multiplex::test_the_handle_option_names_the_model_and_is_not_inherited compat/6_7_routing::test_a_session_stays_with_its_replica"),
        differs("serve.handle.DeploymentHandle.options(request_serialization, response_serialization, _prefer_local_routing)", how="accepted and without effect: values travel in one form, on one machine", by="unit/serve/handle::test_none_leaves_an_option_as_it_was"),
        works("serve.handle.DeploymentHandle", ".deployment_name", ".app_name", ".deployment_id", ".handle_id", by="compat/2_1_handles::test_names_and_text"),
        works("serve.handle.DeploymentHandle", ".is_initialized", ".running_replicas_populated", "._init", ".shutdown", ".shutdown_async", by="compat/2_1_handles::test_a_handle_is_initialised_once integration/local/local::test_there_is_one_replica_to_broadcast_to_and_none_to_choose"),
        works("serve.handle.DeploymentHandle", ".choose_replica", ".dispatch", by="compat/2_1_replicas::test_a_call_runs_where_it_was_chosen_to compat/2_1_replicas::test_a_selection_is_good_for_one_call_in_its_block compat/2_1_replicas::test_a_chosen_slot_is_kept_until_it_is_used"),
        works("serve.handle.DeploymentHandle.broadcast(method_name)", "serve.handle.DeploymentBroadcastResponse.results(timeout_s, return_exceptions)", "serve.handle.DeploymentBroadcastResponse.results_async(timeout_s, return_exceptions)", by="compat/2_1_replicas::test_a_broadcast_reaches_every_replica compat/2_1_replicas::test_results_that_take_too_long compat/2_1_replicas::test_results_do_not_block_a_loop"),
        differs("~when a broadcast is sent", key="broadcast-at-once"),
        works("~pickling, threads, loops, `repr`, `DeploymentHandle[T]`", by="compat/2_1_handles::test_a_pickled_handle_works_and_keeps_its_options compat/2_1_handles::test_handles_work_in_threads_and_loops compat/2_1_handles::test_type_arguments_are_accepted"),
    ),
)  # fmt: skip

RESPONSES = Section(
    "2.2 `DeploymentResponse`, 2.3 `DeploymentResponseGenerator`",
    (
        works("serve.handle.DeploymentResponse", ".__await__", by="compat/2_2_responses::test_a_response_can_be_awaited_more_than_once_and_concurrently"),
        works("serve.handle.DeploymentResponse.result(timeout_s)", by="compat/2_2_responses::test_result_can_be_had_again_and_again compat/2_2_responses::test_result_times_out_and_the_call_goes_on compat/2_2_responses::test_result_inside_a_running_loop_is_a_runtime_error"),
        works("~`GetTimeoutError`", by="unit/ray_core integration/serve/legacy::test_get_gives_up_after_its_time", text="of `eagleray.exceptions`; it is the builtin `TimeoutError`"),
        works("serve.handle.DeploymentResponse", ".cancel", ".cancelled", by="compat/2_5_cancellation"),
        works("serve.handle.DeploymentResponse", ".request_id", ".by_reference", by="compat/2_2_responses::test_a_response_has_a_request_id", text="`by_reference` is False"),
        works("~a response as an argument", by="compat/2_2_responses::test_a_response_is_an_argument_by_its_value compat/2_2_responses::test_the_caller_does_not_wait_for_an_argument compat/2_2_responses::test_an_upstream_failure_surfaces_downstream_which_does_not_run"),
        works("~a response inside a container", by="compat/2_2_responses::test_a_response_inside_a_container_is_refused"),
        ray("serve.handle.DeploymentResponse", "._to_object_ref", "._to_object_ref_sync", why="`RuntimeError`, as with Ray's transport by value", by="compat/2_2_responses::test_there_is_no_object_ref"),
        works("serve.handle.DeploymentResponseGenerator", ".__iter__", ".__aiter__", ".cancel", ".cancelled", ".request_id", by="compat/2_3_generators::test_items_come_in_order compat/2_3_generators::test_items_can_be_iterated_in_a_loop compat/2_3_generators::test_cancel_closes_the_generator"),
        works("~neither awaited, nor resulted, nor an argument", by="compat/2_3_generators::test_a_generator_is_neither_awaited_nor_resulted compat/2_3_generators::test_a_generator_is_no_argument compat/2_3_generators::test_sync_iteration_inside_a_loop_is_a_runtime_error"),
        works("~each item at once; exceptions behind the items before", by="compat/2_3_generators::test_an_item_arrives_before_the_next_is_made compat/2_3_generators::test_an_exception_comes_after_the_items_before_it"),
        works("~`stream=True` where it belongs", by="compat/2_3_generators::test_a_generator_method_needs_stream compat/2_3_generators::test_stream_needs_a_generator_method"),
    ),
)  # fmt: skip

ERRORS = Section(
    "2.4 Errors, 2.5 cancellation, 2.6 concurrency",
    (
        works("~an exception is of its own type, with `.cause` and the remote frames", by="compat/2_4_errors::test_an_exception_is_caught_by_its_own_type compat/2_4_errors::test_its_text_has_the_remote_frames compat/2_4_errors::test_a_users_exception_keeps_its_attributes_in_cause"),
        differs("~`RayTaskError` among its bases", how="`eagleray.exceptions.RayTaskError` is, which is our `RemoteError`", by="compat/as_ray::test_a_program_runs_unchanged"),
        works("~unpicklable results and arguments", by="compat/2_4_errors::test_an_unpicklable_result_is_an_error_at_the_caller compat/2_4_errors::test_an_unpicklable_argument_is_an_error"),
        works("~missing method, wrong arguments", by="compat/2_1_handles::test_a_missing_method_fails_the_call_and_lists_the_others compat/2_4_errors::test_wrong_arguments_are_the_natural_type_error"),
        works("~`BackPressureError`", by="compat/2_6_concurrency::test_a_full_queue_is_back_pressure"),
        differs("~whose queue counts", key="queue-limit-per-deployment"),
        differs("~`DeploymentUnavailableError`", key="unavailable-at-once"),
        differs("~calls while their application is deleted, and after", key="delete-while-waiting call-after-delete"),
        works("~cancelling before and while a replica runs it", by="compat/2_5_cancellation::test_a_queued_call_leaves_the_queue compat/2_5_cancellation::test_a_running_coroutine_is_cancelled compat/2_5_cancellation::test_a_sync_method_runs_to_its_end compat/2_5_cancellation::test_cancel_after_the_end_changes_nothing"),
        works("~children are cancelled with their parent", by="compat/2_5_cancellation::test_children_are_cancelled_with_their_parent compat/2_5_cancellation::test_pending_children_are_cancelled_too"),
        differs("~`asyncio.wait_for`", key="cancel-on-wait-for"),
        works("~`max_ongoing_requests` is strict", by="compat/2_6_concurrency::test_a_replica_never_runs_more_than_its_limit"),
        works("~calls before a replica is up wait", by="compat/2_6_concurrency::test_calls_before_the_first_replica_wait"),
        works("~a death before a call is accepted costs nothing, one after it is an error", by="unit/serve/selection::test_before_it_is_taken_refusal_and_death_lead_to_another_replica fault/kill_replica::test_only_requests_of_the_dead_replica_fail compat/2_6_concurrency::test_a_death_in_flight_is_an_error_and_the_next_call_works"),
        differs("~order of waiting calls", key="first-in-first-out"),
        works("~child calls inherit request id and route, not model and session", by="compat/1_7_contexts::test_the_request_id_follows_into_tasks_threads_and_child_calls compat/1_9_multiplex::test_the_handle_option_names_the_model_and_is_not_inherited"),
    ),
)  # fmt: skip

HTTP = Section(
    "3.1 to 3.4 HTTP: requests, answers, errors, routes",
    (
        works("~Starlette's request, live", by="compat/3_1_request::test_a_starlette_request_with_everything compat/3_1_request::test_a_body_can_be_streamed_in compat/3_1_request::test_a_callable_without_parameters_gets_none"),
        differs("~a parameter annotated with something else", how="gets the decoded body ([typed-requests.md](typed-requests.md))", by="integration/serve/typed"),
        works("~conversion of values: `None`, bytes, text, Starlette's responses, JSON with NumPy and pandas", by="compat/3_2_conversion unit/replica/encode"),
        differs("~NaN and infinities", how="become `null`: JSON has no such numbers", by="unit/replica/encode::test_numbers_that_json_lacks_become_null"),
        differs("~`content-length`; the 500 of a plain deployment", key="content-length content-type-of-500"),
        works("~500, 404, 503, 429, 408 and their texts", by="compat/3_3_errors"),
        differs("~a replica that dies", how="502 (500); a GET or HEAD is sent to another one, once", by="integration/http/proxy::test_a_dead_replica_is_502_and_names_the_request integration/http/proxy::test_what_asks_for_no_change_is_sent_again_once"),
        differs("~`Retry-After`", key="computed-retry-after"),
        works("~routing by the longest prefix, `root_path`", by="compat/3_4_routing compat/1_18_ingress::test_paths_are_full_and_root_path_is_the_prefix"),
        works("~methods", by="compat/3_1_request::test_all_methods_are_forwarded"),
        differs("~methods that no standard knows, `CONNECT`", how="400, 405", by="unit/http/protocol"),
    ),
)  # fmt: skip

PROTOCOL = Section(
    "3.5 to 3.10 HTTP: built-in paths, headers, streams, WebSocket, logs",
    (
        works("~`/-/healthz`, `/-/routes`", by="compat/3_5_built_in::test_one_life_of_the_built_in_endpoints"),
        works("~`x-request-id`, in and out", by="compat/3_6_headers"),
        differs("~an application that sets it itself", key="doubled-request-id"),
        works("~`serve_multiplexed_model_id`", by="compat/1_9_multiplex::test_the_header_names_the_model"),
        differs("~other headers with `_` in their names", how="dropped by default (`drop_underscore_headers`)", by="unit/http/smuggling"),
        works("~`x-session-id`", by="compat/6_7_routing::test_a_session_stays_with_its_replica"),
        works("~`x-request-timeout-seconds`", by="compat/3_3_errors::test_a_client_can_shorten_the_time compat/3_3_errors::test_a_client_can_switch_the_limit_off compat/3_3_errors::test_a_malformed_limit_is_ignored"),
        works("~`x-request-disconnect-disabled`", by="compat/3_7_streaming::test_a_client_can_ask_not_to_be_cancelled"),
        works("~`traceparent`", by="integration/tracing/file::test_a_request_is_one_trace_from_the_proxy_to_the_last_child"),
        works("~streams; a disconnect cancels", by="compat/3_7_streaming"),
        works("~WebSocket: text, binary, close codes, disconnects", by="compat/3_7_websockets integration/serve/websocket"),
        differs("~WebSocket: errors, returns, time-outs, plain deployments, unknown paths", key="websocket-error websocket-return websocket-timeout websocket-plain websocket-unknown-path"),
        works("~keep-alive, HTTPS, a port in use", by="integration/proxy/process::test_https compat/3_6_headers::test_connections_are_kept_alive_unless_the_client_closes integration/serve/driver::test_a_port_in_use_is_one_clear_error_and_leaves_nothing"),
        differs("~limits of a request", how="there are limits of heads, bodies and times, all options ([settings.md](settings.md#limits-of-the-http-proxy))", by="unit/http/limits integration/http/connection"),
        no("~proxy middlewares (`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`)", why="no user code runs in the proxy: middlewares belong to the ingress's ASGI application"),
        differs("~access log", how="the same lines, written in bursts at most half a second later ([logging.md](logging.md))", by="unit/base/access_log integration/serve/logs::test_each_hop_of_a_request_has_a_line_with_its_id"),
        no("~direct ingress, HAProxy mode", why="one proxy per machine serves all; replicas have no ports"),
    ),
)  # fmt: skip

GRPC = Section(
    "4 gRPC",
    (
        works("~servicer functions; what is wrong with them is told", by="compat/4_grpc::test_a_servicer_function_that_cannot_be_imported integration/grpc_proxy/start"),
        differs("~where it is bound, size of messages", how="loopback by default, 64 MB; both are options", by="integration/grpc_proxy/start::test_options_may_be_an_object_and_loopback_is_bound integration/grpc_proxy/faults::test_too_large_a_request_is_refused"),
        works("~unary and the three kinds of streams", "serve.grpc_util.gRPCInputStream", ".is_cancelled", ".cancel", ".is_exhausted", by="compat/4_grpc::test_unary compat/4_grpc::test_server_stream compat/4_grpc::test_client_stream compat/4_grpc::test_both_streams unit/serve/grpc_util"),
        works("~metadata `application`, `request_id`, `multiplexed_model_id`, `session_id`, `traceparent`", by="compat/4_grpc::test_metadata_chooses_the_application compat/4_grpc::test_of_several_applications_one_must_be_named integration/grpc_proxy/status::test_the_context_says_what_the_client_sent"),
        differs("~a wrong `application` where only one runs", key="grpc-wrong-application"),
        works("~trailing metadata", by="compat/4_grpc::test_trailing_metadata_has_the_request_id_and_what_was_set"),
        differs("~trailing metadata of failures; a missing method", key="grpc-failed-request-id grpc-missing-method"),
        works(
            "serve.grpc_util.RayServegRPCContext",
            *(".set_code", ".code", ".set_details", ".details", ".set_trailing_metadata", ".trailing_metadata"),
            *(".invocation_metadata", ".set_compression", ".peer", ".peer_identities", ".peer_identity_key"),
            *(".auth_context", ".request_id", ".application", ".multiplexed_model_id", ".traceparent", ".tracestate"),
            by="compat/4_grpc::test_the_context_can_be_pickled_and_says_what_was_sent unit/serve/grpc_util",
        ),
        works("~codes and details: NOT_FOUND, INTERNAL, DEADLINE_EXCEEDED, CANCELLED, RESOURCE_EXHAUSTED, UNAVAILABLE, UNIMPLEMENTED", by="compat/4_grpc integration/grpc_proxy/status integration/grpc_proxy/services"),
        works("~`ray.serve.RayServeAPIService`: `ListApplications`, `Healthz`", by="compat/4_grpc::test_the_built_in_service"),
        works("~reflection", by="compat/4_grpc::test_reflection_describes_the_users_services"),
        differs("~`grpc.health.v1`", key="grpc-health"),
    ),
)  # fmt: skip

SECTIONS = (HANDLES, RESPONSES, ERRORS, HTTP, PROTOCOL, GRPC)

__all__ = ["SECTIONS"]
