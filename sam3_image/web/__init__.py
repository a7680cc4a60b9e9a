"""A web server: the page to try the model by hand, and the routes of other systems' clients.

`create_app` makes the application around a `serving.Service`; `python -m sam3_image.web` (which
`script/web` calls) runs it. Each module that answers routes declares a `Group`; a group's routes
translate to the typed request and back, and compute nothing.
"""

from sam3_image.settings import WebSettings
from sam3_image.web.app import create_app
from sam3_image.web.context import Context, Group

__all__ = ["Context", "Group", "WebSettings", "create_app"]
