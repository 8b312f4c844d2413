"""Typed requests: the parameters of a plain deployment's entry say what its HTTP requests are decoded to.

Everything that can be known of a callable is worked out once, when the replica has loaded it: annotations are resolved
(`annotations`), made into pydantic validators (`arguments`) and described (`openapi`). A request then costs one
validation. What a client sent wrong is a `RequestRefused` with FastAPI's `detail`, never a 500.

Pure: no I/O, no loop, no clock. Calls by handle never come here: they bring Python values.
"""

from eagleray.replica.typed.arguments import TypedEntry, typed_entry
from eagleray.replica.typed.media import RequestRefused
from eagleray.replica.typed.openapi import describe
from eagleray.serve.annotations import UnusableAnnotation

__all__ = ["RequestRefused", "TypedEntry", "UnusableAnnotation", "describe", "typed_entry"]
