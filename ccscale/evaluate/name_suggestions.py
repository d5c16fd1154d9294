"""Suggests names of clusters from words: each image votes for the word with the nearest CLIP embedding.

The clusters were made without words. So a cluster that no single word describes gets spread votes, which the
fraction of the top word shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from ccscale.errors import InputError
from ccscale.evaluate.opened_run import open_run
from ccscale.evaluate.reliability import assign_features
from ccscale.features.store import Features, open_features
from ccscale.features.store_config import BACKBONE
from ccscale.model.clip import Clip, load_clip
from ccscale.progress import say

TEMPLATE = "a photo of a {}"
FIRST = 3
"""Words suggested for a cluster."""


@dataclass(frozen=True)
class SuggestionOptions:
    """How names are suggested.

    Attributes
    ----------
    words
        A file with one word or phrase per line.
    clip, weights
        As in `load_clip`.
    store
        A store with the model's features of the run's images; default the run's own.
    template
        The prompt for each word.
    """

    words: Path
    clip: str
    weights: Path
    store: str | None = None
    template: str = TEMPLATE


@dataclass(frozen=True)
class Suggestion:
    """The words for which the images of a cluster voted.

    Attributes
    ----------
    images
        Number of images.
    words
        The words with the most votes, each with its fraction of the images.
    """

    images: int
    words: tuple[tuple[str, float], ...]


def suggest_names(
    run: str | Path, by: SuggestionOptions, clusters: int | None = None
) -> dict[int, Suggestion]:
    """Suggest names for a run's clusters.

    Parameters
    ----------
    run
        The run's folder, trained on a feature store.
    by
        How.
    clusters
        K, of a run with heads of several; by default the first.

    Returns
    -------
    dict
        By cluster that has images.

    Raises
    ------
    InputError
        If the run has no store, its images are not those of `by.store`, the features are not the model's, or a file
        cannot be read.
    """
    words = read_words(by.words)
    clip = load_clip(by.clip, by.weights)
    with open_run(run, "cpu", 0, heads_alone=True, clusters=clusters) as opened:
        if opened.config.data.features is None:
            raise InputError(
                f"{run} was trained on images, but words need stored features: train it on a store of the "
                "CLIP model (data.features)"
            )
        own = open_features(opened.config.data.features)
        seen = own if by.store is None else open_features(by.store)
        if seen.manifest_digest != own.manifest_digest:
            raise InputError(f"{by.store} has other images than the store that {run} was trained on")
        _check_tower(clip, seen)
        directions = clip.directions(words, by.template)
        votes = np.zeros((opened.network.k, len(words)), np.int64)
        for start, block in own.blocks():
            rows = np.flatnonzero(~(own.bad | seen.bad)[start : start + len(block)])
            found, _ = assign_features(opened.network, block[rows])
            images = clip.images(torch.from_numpy(seen.take(start + rows)).float())
            np.add.at(votes, (found, (images @ directions.T).argmax(dim=1).numpy()), 1)
    return top_words(votes, words)


def top_words(votes: NDArray[np.int64], words: Sequence[str]) -> dict[int, Suggestion]:
    """Return the words with the most votes (clusters, words) for each cluster that has any; ties in order."""
    found = {}
    for cluster in np.flatnonzero(votes.sum(axis=1)):
        images = int(votes[cluster].sum())
        first = np.argsort(-votes[cluster], kind="stable")[:FIRST]
        shares = [
            (words[word], float(votes[cluster, word] / images)) for word in first if votes[cluster, word]
        ]
        found[int(cluster)] = Suggestion(images, tuple(shares))
    return found


def read_words(path: Path) -> list[str]:
    """Read a file with one word or phrase per line; empty and repeated lines are ignored.

    Raises
    ------
    InputError
        If it cannot be read, or has fewer than two.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the words in {path} cannot be read: {error}") from None
    words = list(dict.fromkeys(word for line in lines if (word := line.strip())))
    if len(words) < 2:
        raise InputError(f"{path} has {len(words)} words: write at least two, one per line")
    return words


def _check_tower(clip: Clip, store: Features) -> None:
    """Refuse features of another image tower, if the store contains its backbone."""
    kept = store.folder / BACKBONE
    tensors = load_file(kept) if kept.exists() else {}
    same = clip.is_tower({name.removeprefix("backbone."): value for name, value in tensors.items()})
    if same is False:
        raise InputError(
            f"{store.folder} was not made with the image tower of this CLIP model, whose weights differ; "
            "embed with the same weights"
        )
    if same is None:
        say(
            f"cannot check whether {store.folder} was made with this CLIP model; if not, the names are "
            "meaningless"
        )
