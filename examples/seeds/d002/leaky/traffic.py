"""More requests than four replicas take before they are replaced."""

from program import Ask

ASKS = [Ask(text="one two three", right=lambda found: found["words"] == 3)] * 60
