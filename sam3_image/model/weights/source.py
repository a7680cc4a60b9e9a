"""Where the weights come from: a folder, or a gated repository on the Hugging Face hub.

Three different things can stand between a person and the gated weights (no token, no access, no
network), and each has its own message.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub as hub
from huggingface_hub import constants as hub_constants
from huggingface_hub import errors as hub_errors

from sam3_image.errors import CheckpointError, shown
from sam3_image.settings import Settings
from sam3_image.shipped import DEMO, DEMO_NAME, command, default_weights

REPOSITORY = "facebook/sam3"
# What the image classes read. The repository also holds Meta's own format, a pickle.
FILES = ("*.safetensors", "*.json", "*.txt", "LICENSE*")


@dataclass(frozen=True)
class WeightsSource:
    """A folder, or (where `folder` is None) a repository and the token to fetch it with."""

    folder: Path | None
    repository: str = REPOSITORY
    token: str | None = None

    def __repr__(self) -> str:
        """Without the token: a repr ends up in logs."""
        return f"WeightsSource(folder={self.folder}, repository={self.repository!r})"

    @property
    def name(self) -> str:
        """What to call the weights before others: it says nothing else about this machine."""
        return self.folder.resolve().name if self.folder else self.repository

    @property
    def is_demo(self) -> bool:
        """Whether this is the demo checkpoint, which knows drawn shapes only."""
        return self.folder is not None and self.folder.resolve() == DEMO.resolve()

    @classmethod
    def of(cls, settings: Settings) -> WeightsSource:
        """The weights that the settings name; raises CheckpointError.

        That is "demo", a folder or a repository. Without a name: `default_weights()` where it is
        there, else the hub with a token, or with HF_HUB_OFFLINE=1 the hub's cache.
        """
        named = settings.weights
        token = settings.token or hub.get_token()
        if named:
            return cls._named(named, token)
        folder = default_weights()
        if folder.is_dir():
            return cls(folder=folder)
        if token or hub_constants.HF_HUB_OFFLINE:
            return cls(folder=None, token=token)
        raise CheckpointError(
            f"There are no weights. Either run {command('download-weights')} (fetches "
            f"{REPOSITORY} into {_readable(folder)}), or set HF_TOKEN to the token of an account "
            f"that has access to {REPOSITORY}, or set SAM3_WEIGHTS to a folder "
            f"(SAM3_WEIGHTS={DEMO_NAME} is a small one that knows drawn shapes)."
        )

    @classmethod
    def _named(cls, named: str, token: str | None) -> WeightsSource:
        if named == DEMO_NAME:
            return cls(folder=DEMO)
        folder = Path(os.path.expanduser(named))  # pathlib's own fails where there is no home
        if folder.is_dir():
            return cls(folder=folder)
        if folder.is_file():
            raise CheckpointError(
                f"The weights are {shown(named)}, a file; they must be a folder. "
                f"{conversion(folder)}"
            )
        # A folder of ours is called like that, and no account on the hub.
        if is_repository(named) and not named.startswith("weights/"):
            return cls(folder=None, repository=named, token=token)
        raise CheckpointError(
            f"The weights are {shown(named)}, which is neither {DEMO_NAME!r}, nor a folder here "
            f"({shown(str(Path.cwd()), 200)}), nor a Hugging Face repository such as "
            f"{REPOSITORY}. Check the spelling."
        )


def _readable(folder: Path) -> str:
    """A folder as a person would write it: from here, else from home."""
    for start, sign in ((Path.cwd(), ""), (Path(os.path.expanduser("~")), "~/")):
        if folder.is_relative_to(start):
            return f"{sign}{folder.relative_to(start)}"
    return str(folder)


def conversion(file: Path) -> str:
    """Say how to make a folder that loads from a checkpoint in one file."""
    folder = f"weights/{file.stem}"
    return (
        f"If it is Meta's checkpoint, convert it once: {command('convert-weights')} {file} "
        f"{folder} (then SAM3_WEIGHTS={folder})."
    )


def token_of(environment: Mapping[str, str]) -> str | None:
    """The Hugging Face token: HF_TOKEN, else the one that `hf auth login` has stored."""
    return environment.get("HF_TOKEN", "").strip() or hub.get_token()


def locate(source: WeightsSource) -> Path:
    """The folder with the weights, which are fetched first if necessary, with a progress bar."""
    return source.folder or fetch(source.repository, source.token)


def fetch(
    repository: str,
    token: str | None,
    folder: Path | None = None,
    patterns: Sequence[str] = FILES,
) -> Path:
    """Download what is missing of a repository and return the folder; resumes.

    folder: where to; None for the hub's own cache. patterns: of the files' names.
    Raises CheckpointError.
    """
    cache = hub_constants.HF_HUB_CACHE
    if folder is None and cache.startswith("~"):
        raise CheckpointError(
            f"Cannot fetch {repository}: this user has no home folder, so there is no {cache} to "
            "keep it in: set HF_HOME to a folder that can be written."
        )
    try:
        return Path(
            hub.snapshot_download(
                repository, token=token, local_dir=folder, allow_patterns=list(patterns)
            )
        )
    except (hub_errors.HfHubHTTPError, hub_errors.OfflineModeIsEnabled, OSError) as error:
        reason = _local_reason(error, folder) or _reason(error, repository, token)
    raise CheckpointError(f"Cannot fetch {repository}: {reason}.")


def _local_reason(error: Exception, folder: Path | None) -> str | None:
    """Why a download failed on this machine and what to do, as the end of a sentence."""
    where = hub_constants.HF_HUB_CACHE if folder is None else folder
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES):
        remedy = "set HF_HOME to a folder that can be" if folder is None else "name one that can be"
        return (
            f"{where} cannot be written to ({error.strerror}): free space there, or {remedy} "
            "written to"
        )
    if hub_constants.HF_HUB_OFFLINE:
        return (
            f"HF_HUB_OFFLINE is set, and {where} does not hold all of it: unset HF_HUB_OFFLINE, "
            "set HF_HOME to the folder of a cache that does, or set SAM3_WEIGHTS to a folder with "
            "the weights"
        )
    return None


def _reason(error: Exception, repository: str, token: str | None) -> str:
    """Why a download failed and what to do, as the end of a sentence."""
    page = f"https://huggingface.co/{repository}"
    if isinstance(error, hub_errors.GatedRepoError):
        if token:
            return (
                f"the account of this token has no access to {repository}: ask for it at {page} "
                "and try again once it is granted"
            )
        return (
            f"{repository} is gated and no token was given: ask for access at {page}, then set "
            "HF_TOKEN to a token of that account"
        )
    # The hub answers a missing or wrong token on a private repository like this, too.
    if isinstance(error, hub_errors.RepositoryNotFoundError):
        if token:
            return (
                f"there is no repository {repository} that this token may see: check the name "
                f"and the token ({page})"
            )
        return f"{repository} does not exist or needs a token: check the name, and set HF_TOKEN"
    if isinstance(error, hub_errors.HfHubHTTPError):
        status = error.response.status_code if error.response is not None else "no"
        if status == 401:
            return (
                "the token in HF_TOKEN is not valid: make a new one at "
                "https://huggingface.co/settings/tokens"
            )
        return f"the hub answered with status {status}: try again later"
    return (
        "the hub cannot be reached: check the network, or copy the folder of the weights from a "
        "machine that has one"
    )


def is_repository(name: str) -> bool:
    """Whether that may be the name of a repository on the hub."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None
