"""Engines: who starts, reaps and kills the processes of an instance. Today there is one, the local machine's node."""
