"""The admin REST server: Ray Serve's HTTP routes for operators, behind a token, on loopback."""
