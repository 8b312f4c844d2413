"""Ray Serve's module of this name, which Eagleray does not have: importing it says why."""

from eagleray.serve.absent import missing

raise missing("drivers")
