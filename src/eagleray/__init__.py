"""Eagleray serves Python models online. `from eagleray import serve` is the public API."""

__version__ = "0.1.0"
