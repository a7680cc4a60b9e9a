"""The image of a Label Studio task, fetched with the token of whoever runs this server.

Label Studio sends no token that could download its uploads, and a request must not decide where a
token goes: both the address of Label Studio and the token are settings of this server.
"""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

from sam3_image.errors import InputError, shown
from sam3_image.web.fetch import FetchError
from sam3_image.web.image_input import from_url
from sam3_image.web.state import ServerState

CLOUD = ("s3://", "gs://", "azure-blob://")


async def read_task_image(address: str, task_id: int | str | None, server: ServerState) -> bytes:
    """The bytes of an image that a task names; raises InputError and FetchError.

    address: a path on Label Studio (/data/upload/…), an object in its cloud storage (s3://…), which
        Label Studio itself resolves for the task `task_id`, a URL, or a data URL.
    """
    settings = server.settings
    base = settings.label_studio_url
    given = address
    if address.lower().startswith(CLOUD) and task_id is not None:
        uri = base64.b64encode(address.encode()).decode("ascii")
        address = f"/tasks/{quote(str(task_id), safe='')}/resolve/?fileuri={quote(uri)}"
    if address.startswith("/"):
        if base is None:
            raise InputError(
                f"the task's image is {shown(given)}, a file of Label Studio; set "
                "SAM3_LABEL_STUDIO_URL (and SAM3_LABEL_STUDIO_TOKEN) where this server runs."
            )
        address = base.rstrip("/") + address
    if base is None or not address.startswith(base.rstrip("/") + "/"):
        return await from_url(address, server.fetcher)
    return await server.fetcher.fetch(address, await _authorization(server, base))


async def _authorization(server: ServerState, base: str) -> str | None:
    """The header for Label Studio: a personal token is exchanged for a short-lived one."""
    token = server.settings.label_studio_token
    if not token:
        return None
    if token.count(".") != 2:  # a legacy token, which is used as it is
        return f"Token {token}"
    body = json.dumps({"refresh": token}).encode()
    try:
        answer = await server.fetcher.post(base.rstrip("/") + "/api/token/refresh/", body)
        return f"Bearer {json.loads(answer)['access']}"
    except (FetchError, ValueError, KeyError, TypeError):
        raise FetchError(
            "Label Studio did not accept SAM3_LABEL_STUDIO_TOKEN; give the personal access token "
            "of a user who may see the project."
        ) from None
