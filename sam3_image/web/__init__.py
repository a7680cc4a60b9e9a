"""A web server: the page to try the model by hand, and the routes of other systems' clients.

`create_app` makes the application around a `serving.Service`, and `sam3-image web` runs it. The
modules of `clients` translate between a client's requests and the typed request, and compute
nothing.
"""

from sam3_image.settings import WebSettings
from sam3_image.web.app import create_app

__all__ = ["WebSettings", "create_app"]
