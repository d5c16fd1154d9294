"""Networks on the Hugging Face Hub, by names like ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``.

Only such a name makes anything ask the Hub. What was downloaded stays in Hugging Face's own cache (``HF_HOME``); a
revision that is a commit's whole hash is not asked for again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub as hub
from huggingface_hub import constants, errors

from ccscale.errors import CcscaleError, Fault, InputError, first_line

PREFIX = "hf://"
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_EXPORTED = ("*.json", "*.safetensors", "*.npz", "*.onnx", "*.onnx.data", "*.pt2", "*.md")


@dataclass(frozen=True)
class Pushed:
    """A commit on the Hub: its page, and its hash."""

    url: str
    commit: str


def is_on_hub(name: str | Path) -> bool:
    """Return whether something is the name of a network on the Hub, and no path."""
    return isinstance(name, str) and name.startswith(PREFIX)


def fetch(name: str | Path) -> Path:
    """Download an exported network from the Hub, or find it in the cache.

    Parameters
    ----------
    name
        ``hf://OWNER/NAME``, of the newest commit of its main branch, or with a branch, tag or commit behind an @.

    Returns
    -------
    Path
        A folder, whose name is the commit's hash.

    Raises
    ------
    InputError
        If there is no such repository or revision, or it may not be read.
    Fault
        If the Hub cannot be reached.
    """
    repo, _, revision = str(name).removeprefix(PREFIX).partition("@")
    with _told(repo, revision):
        found = hub.snapshot_download(repo, revision=revision or None, allow_patterns=list(_EXPORTED))
    return Path(found)


def push(folder: Path, repo: str, private: bool = False, message: str | None = None) -> Pushed:
    """Copy an exported network into a repository of the Hub, which is made where it is not there.

    Parameters
    ----------
    folder
        What ``ccscale export`` wrote, in any format.
    repo
        ``OWNER/NAME``.
    private
        Whether a new repository is for its owner alone.
    message
        Of the commit.

    Raises
    ------
    InputError
        If it is no exported network, there is no token, or it may not be written.
    Fault
        If the Hub cannot be reached.
    """
    if not ((folder / "config.json").is_file() and (folder / "README.md").is_file()):
        raise InputError(
            f"{folder} is not an exported network with a model card; create one with `ccscale export RUN OUT`"
        )
    if hub.get_token() is None:
        raise InputError(f"pushing to the Hub needs a token with write access: {_LOG_IN}")
    repo = repo.removeprefix(PREFIX)
    with _told(repo, ""):
        api = hub.HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=list(_EXPORTED),
            commit_message=message or "A network of ccscale",
        )
    return Pushed(str(done.commit_url), str(done.oid))


@contextmanager
def _told(repo: str, revision: str) -> Iterator[None]:
    """Say in a sentence what the Hub's client says in many ways."""
    try:
        yield
    except (CcscaleError, KeyboardInterrupt):
        raise
    except errors.HFValidationError:
        raise InputError(f"'{repo}' is not a Hub repository: write OWNER/NAME") from None
    except errors.GatedRepoError:
        raise InputError(
            f"{repo} is a gated repository: request access on its page, then {_LOG_IN}"
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"the Hub has no repository {repo}, or it is private: check the name, and {_LOG_IN}"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{repo} has no branch, tag or commit '{revision}'") from None
    except Exception as error:  # of its own, of the HTTP client that it uses today, of the disk
        if constants.HF_HUB_OFFLINE:
            raise InputError(
                f"{repo} is not in the local cache, and HF_HUB_OFFLINE is set: unset it on a machine with "
                "internet access"
            ) from None
        response = getattr(error, "response", None)
        if getattr(response, "status_code", None) in (401, 403):
            raise InputError(
                f"the Hub denies you write access to {repo}: {_LOG_IN}, with write access"
            ) from None
        raise Fault(
            f"the Hub could not be reached for {repo} ({first_line(error)}): try again later"
        ) from error
