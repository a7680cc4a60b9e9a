"""Every group of routes that the server can answer."""

from __future__ import annotations

from sam3_image.errors import UserError, shown
from sam3_image.web import api, page
from sam3_image.web.context import Group

ALL: tuple[Group, ...] = (page.GROUP, api.GROUP)


def chosen(names: tuple[str, ...] | None) -> tuple[Group, ...]:
    """The groups of these names, all where None; raises UserError for a name that is none."""
    if names is None:
        return ALL
    known = {group.name: group for group in ALL}
    for name in names:
        if name not in known:
            raise UserError(
                f"SAM3_WEB_ROUTES names {shown(name)}; the groups of routes are "
                f"{', '.join(known)}: choose some of them, or leave it unset for all."
            )
    return tuple(known[name] for name in dict.fromkeys(names))
