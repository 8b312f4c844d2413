"""Ray Serve's router by a central queue of capacity, which nothing here needs: named only to say so."""

from eagleray.serve.absent import Absent

CapacityQueueRouter = Absent("CapacityQueueRouter")
CapacityQueue = Absent("CapacityQueue")

__all__ = ["CapacityQueue", "CapacityQueueRouter"]
