"""A web server: the page to try the model by hand, and the routes of other systems' clients.

`create_app` makes the application around a `serving.Service`, and `sam3-image web` runs it. The
modules of `clients` translate between a client's requests and the typed request, and compute
nothing. The other exports are for `fleet`, which puts several of these applications behind one
address.
"""

from sam3_image.settings import WebSettings
from sam3_image.web.app import OPEN_PATHS, create_app
from sam3_image.web.guard import Guard, RequireToken
from sam3_image.web.image_input import from_base64
from sam3_image.web.problems import problem
from sam3_image.web.routes import BODY_SECONDS, MAX_PARTS
from sam3_image.web.segmentation import image_id
from sam3_image.web.server import behind_proxy
from sam3_image.web.store import ROUTING_KEY

__all__ = [
    "BODY_SECONDS",
    "MAX_PARTS",
    "OPEN_PATHS",
    "ROUTING_KEY",
    "Guard",
    "RequireToken",
    "WebSettings",
    "behind_proxy",
    "create_app",
    "from_base64",
    "image_id",
    "problem",
]
