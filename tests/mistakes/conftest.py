"""The corpus runs what users run, in directories as those of the integration tests."""

from __future__ import annotations

from tests.integration.conftest import home

__all__ = ["home"]
