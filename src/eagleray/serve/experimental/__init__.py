"""Modules under the paths where Ray Serve has its further request routers."""
