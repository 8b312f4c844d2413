"""The replica: a process that runs one copy of a deployment's code and answers its calls."""
