"""What users declare and what they are told: deployments, applications, options and statuses.

One schema: the decorator builds it, the store keeps it, the controller compares it. Pure: no I/O, no clock.
"""
