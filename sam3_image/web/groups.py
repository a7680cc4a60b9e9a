"""Every group of routes that the server can answer."""

from __future__ import annotations

from sam3_image.errors import UserError, shown
from sam3_image.web import (
    api,
    cvat,
    label_studio,
    openai_images,
    openapi,
    oxen,
    page,
    prodia,
    replicate,
    roboflow,
    x_anylabeling,
)
from sam3_image.web.context import Group

CLIENTS = (
    roboflow.GROUP,
    replicate.GROUP,
    prodia.GROUP,
    oxen.GROUP,
    openai_images.GROUP,
    label_studio.GROUP,
    cvat.GROUP,
    x_anylabeling.GROUP,
)
ALL: tuple[Group, ...] = (page.GROUP, api.GROUP, *CLIENTS)


def chosen(names: tuple[str, ...] | None) -> tuple[Group, ...]:
    """Return the groups of these names, all where None, and the one that describes them.

    Raises UserError for a name that none has.
    """
    known = {group.name: group for group in ALL}
    for name in names or ():
        if name not in known:
            raise UserError(
                f"SAM3_WEB_ROUTES names {shown(name)}; the groups of routes are "
                f"{', '.join(known)}: choose some of them, or leave it unset for all."
            )
    picked = ALL if names is None else tuple(known[name] for name in dict.fromkeys(names))
    return (*picked, openapi.group(picked))
