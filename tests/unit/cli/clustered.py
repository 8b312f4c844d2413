"""An application that needs the Ray engine."""

from eagleray import serve


@serve.deployment(placement_group_bundles=[{"CPU": 1}])
def placed() -> str:
    return "placed"


app = placed.bind()
