"""Which replica gets a request: the routing table, the router, its policies, admission."""
