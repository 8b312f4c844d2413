"""Options of the instance and of deployments under their familiar path; they are defined in `spec.options`."""

from eagleray.spec.options import BackpressureConfig, HTTPOptions, ProxyLocation

__all__ = ["BackpressureConfig", "HTTPOptions", "ProxyLocation"]
