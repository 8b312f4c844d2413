"""The one wire: frames, messages and sessions without I/O. No clock, socket or loop is imported here."""
