"""The bodies of requests: what lacks a member, or has one that holds anything but numbers, is refused with 422."""

from __future__ import annotations

from typing_extensions import TypedDict


class Features(TypedDict):
    """One row."""

    features: list[float]


class Rows(TypedDict):
    """Rows of one length, on which a model is asked at once."""

    data: list[list[float]]


class Row(TypedDict):
    """One row, under the name that the production programs have for it."""

    data: list[float]
