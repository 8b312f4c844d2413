"""Durable queues of tasks, and the consumer that works them off: at least once, with leases, retries and fencing."""
