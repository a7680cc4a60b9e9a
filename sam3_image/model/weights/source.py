"""Where the weights come from: a folder, or a gated repository on the Hugging Face hub.

Three different things can stand between a person and the gated weights (no token, no access, no
network), and each has its own message.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub as hub
from huggingface_hub import errors as hub_errors

from sam3_image.errors import CheckpointError, shown
from sam3_image.settings import Settings

REPOSITORY = "facebook/sam3"
ROOT = Path(__file__).resolve().parents[3]
BAKED = ROOT / "weights" / "sam3"
DEMO = ROOT / "weights" / "demo"
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
        return self.folder is not None and self.folder.resolve() == DEMO

    @classmethod
    def of(cls, settings: Settings) -> WeightsSource:
        """SAM3_WEIGHTS, else `weights/sam3`, else the hub with a token; raises CheckpointError."""
        named = settings.weights
        token = settings.token or hub.get_token()
        if named:
            folder = Path(named).expanduser()
            if folder.is_dir():
                return cls(folder=folder)
            if folder.is_file():
                raise CheckpointError(
                    f"SAM3_WEIGHTS is {shown(named)}, a file; it must be a folder. "
                    f"{conversion(folder)}"
                )
            if is_repository(named):
                return cls(folder=None, repository=named, token=token)
            raise CheckpointError(
                f"SAM3_WEIGHTS is {shown(named)}, which is neither a folder here nor a Hugging "
                f"Face repository such as {REPOSITORY}. Check the spelling."
            )
        if BAKED.is_dir():
            return cls(folder=BAKED)
        if token:
            return cls(folder=None, token=token)
        raise CheckpointError(
            "There are no weights. Either run script/download-weights (fetches "
            f"{REPOSITORY} into weights/sam3), or set HF_TOKEN to the token of an account that "
            f"has access to {REPOSITORY}, or set SAM3_WEIGHTS to a folder (weights/demo is a "
            "small one that knows drawn shapes)."
        )


def conversion(file: Path) -> str:
    """Say how to make a folder that loads from a checkpoint in one file."""
    folder = f"weights/{file.stem}"
    return (
        f"If it is Meta's checkpoint, convert it once: script/convert-weights {file} {folder} "
        f"(then SAM3_WEIGHTS={folder})."
    )


def token_of(environment: Mapping[str, str]) -> str | None:
    """Return the Hugging Face token: HF_TOKEN, else the one that `hf auth login` has stored."""
    return environment.get("HF_TOKEN", "").strip() or hub.get_token()


def locate(source: WeightsSource) -> Path:
    """Return the folder with the weights; fetches them first, with a progress bar, if necessary."""
    return source.folder or fetch(source.repository, source.token)


def fetch(
    repository: str,
    token: str | None,
    folder: Path | None = None,
    patterns: Sequence[str] = FILES,
) -> Path:
    """Download what is missing of a repository, resuming; returns the folder.

    folder: where to; None for the hub's own cache. patterns: of the files' names.
    Raises CheckpointError.
    """
    try:
        return Path(
            hub.snapshot_download(
                repository, token=token, local_dir=folder, allow_patterns=list(patterns)
            )
        )
    except (hub_errors.HfHubHTTPError, hub_errors.OfflineModeIsEnabled, OSError) as error:
        reason = _reason(error, repository, token)
    raise CheckpointError(f"Cannot fetch {repository}: {reason}.")


def _reason(error: Exception, repository: str, token: str | None) -> str:
    """Return why a download failed and what to do, as the end of a sentence."""
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
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES):
        return (
            f"the files cannot be written ({error.strerror}): free space, or choose another folder"
        )
    return (
        "the hub cannot be reached: check the network, or copy the weights into weights/sam3 on a "
        "machine that has one"
    )


def is_repository(name: str) -> bool:
    """Whether that may be the name of a repository on the hub."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None
