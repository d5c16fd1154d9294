"""The decisions for a folder of images, stored with its clusters, with which the same command continues.

OUT/cluster.json   {"version": 1, "folder": "/home/me/photos", "labels": false, "channels": null, "backbone": …,
                    "weights": …, "size": 128, "seen": …, "views": 6, "seed": 0, "clusters": 20, "advised": true,
                    "runs": [{"data": digest of the shards, "clusters": 20, "folder": "run-1"}]}
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ccscale import atomic
from ccscale.errors import InputError
from ccscale.own_images.backbones import ChosenBackbone

NAME = "cluster.json"
VERSION = 1


@dataclass
class Decisions:
    """What was decided.

    Attributes
    ----------
    out
        The folder that all goes into.
    folder
        The images', as an absolute path.
    labels
        Whether sub-folders are classes, which score the clusters and choose nothing.
    backbone
        What makes the features.
    channels
        Of the images; None: they are photographs.
    views, seed
        Random views of each image; of these, the training and k-means.
    clusters
        How many are made; None while that is not decided.
    advised
        Whether that was advised, not asked for.
    runs
        One for each state of the shards and number of clusters that was trained on, the newest last.
    """

    out: Path
    folder: str
    labels: bool
    backbone: ChosenBackbone
    views: int
    channels: int | None = None
    seed: int = 0
    clusters: int | None = None
    advised: bool = False
    runs: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, out: Path) -> "Decisions | None":
        """Return that of an earlier call; None where there was none.

        Raises
        ------
        InputError
            If it cannot be read, or the folder holds something else.
        """
        path = out / NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("version") != VERSION:
                raise ValueError(f"its version is not {VERSION}")
            chosen = ChosenBackbone(
                **{name: content.pop(name) for name in ("backbone", "weights", "size", "seen")}
            )
            return cls(out, backbone=chosen, **content)
        except FileNotFoundError:
            if out.is_dir() and any(out.iterdir()):
                raise InputError(
                    f"{out} is neither empty nor the folder of an earlier `ccscale cluster`; name another --out"
                ) from None
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); delete {out}, or name another --out"
            ) from None

    def save(self) -> None:
        """Write it atomically."""
        kept = asdict(self) | asdict(self.backbone)
        del kept["out"]
        content = {"version": VERSION, **kept}
        atomic.write_bytes(self.out / NAME, (json.dumps(content, indent=1) + "\n").encode())

    def run_of(self, data: str, clusters: int) -> tuple[Path, Path | None]:
        """Return the folder of the run on some shards, and that of the run whose network it begins with, if any."""
        alike = [run for run in self.runs if run["clusters"] == clusters]
        known = [run["data"] for run in alike]
        if data not in known:
            known.append(data)
            alike.append({"data": data, "clusters": clusters, "folder": f"run-{len(self.runs) + 1}"})
            self.runs.append(alike[-1])
            self.save()
        number = known.index(data)
        return self.out / alike[number]["folder"], self.out / alike[number - 1]["folder"] if number else None
