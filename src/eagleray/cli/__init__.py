"""The `eagleray` command: a thin client of the controller. It starts processes and calls RPC; it never imports them."""
