"""Surface 1.13: exceptions, their attributes, texts and pickling."""

from __future__ import annotations

import pickle

import pytest
from tests.compat.impl import differs, exceptions


@pytest.mark.parametrize(
    "name",
    ["BackPressureError", "RequestCancelledError", "DeploymentUnavailableError", "ReplicaUnavailableError"],
)
def test_one_base(name: str) -> None:
    assert issubclass(getattr(exceptions, name), exceptions.RayServeException)
    assert issubclass(exceptions.RayServeException, Exception)


def test_the_base_is_constructed_and_pickled_like_any_exception() -> None:
    error = pickle.loads(pickle.dumps(exceptions.RayServeException("what happened")))
    assert type(error) is exceptions.RayServeException
    assert str(error) == "what happened"


def test_back_pressure_error() -> None:
    error = exceptions.BackPressureError(num_queued_requests=3, max_queued_requests=2)
    text = "Request dropped due to backpressure (num_queued_requests=3, max_queued_requests=2)."
    assert (str(error), error.message, error.status_code, error.retry_after_s) == (text, text, 503, None)


def test_back_pressure_error_survives_pickling() -> None:
    error = exceptions.BackPressureError(3, 2, status_code=429, retry_after_s=1.5)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.message, copy.status_code, copy.retry_after_s) == (error.message, 429, 1.5)


def test_request_cancelled_error() -> None:
    error = exceptions.RequestCancelledError("abc")
    assert str(error) == "Request abc was cancelled."
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))
    assert exceptions.RequestCancelledError()


def test_deployment_unavailable_error() -> None:
    error = exceptions.DeploymentUnavailableError("Deployment(name='d', app='a')")
    assert error.message == "Deployment(name='d', app='a') is unavailable because it failed to deploy."
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message) == (type(error), error.message)


def test_replica_unavailable_error() -> None:
    error = exceptions.ReplicaUnavailableError("r1")
    assert error.message == "Replica r1 is no longer available."
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message) == (type(error), error.message)


@differs("unavailable-text")
def test_the_text_of_unavailable_errors_is_their_message() -> None:
    error = exceptions.DeploymentUnavailableError("Deployment(name='d', app='a')")
    assert str(error) == error.message
    replica_error = exceptions.ReplicaUnavailableError("r1")
    assert str(replica_error) == replica_error.message
