"""Several web servers behind one address, on Ray Serve: `sam3-image fleet`.

    Serve's proxy ─► Edge (no model: token, limits, routing, retries) ─► Model × N (the web server)

All requests about one image go to one replica, where the image is decoded and encoded already, and
where its jobs, files and names are kept.
"""

from sam3_image.fleet.application import FleetOptions, application
from sam3_image.fleet.command import run_fleet

__all__ = ["FleetOptions", "application", "run_fleet"]
