"""The intakes of a run on growing data, written to its folder before the first batch that depends on them.

::

    RUN/intakes/
      000000-1b2c3d4e.json    {"step": 0, "shards": [{"url", "nsamples", "filesize", "sha256", "split"}, …],
                               "retired": []}                                     never changed
      looked.json             {"format": "ccscale-intakes", "version": 1,
                               "data": digest of the data at the start of the run, as in run.json,
                               "looked": 4000,          the last step at which the manifest was read
                               "files": {"000000-1b2c3d4e.json": its SHA-256, …}}     replaced atomically

A look that finds nothing new is recorded too. So everything a run did up to a step follows from its folder: a
resumed run reads the manifest only at steps where it had not done so, and has the batches of an uninterrupted
one, even if its data have grown meanwhile. A checkpoint records the hashes of the intakes so far.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ccscale import atomic
from ccscale.data.shards.intakes import Intake, Intakes, ListedShard
from ccscale.data.shards.manifest_file import Shard
from ccscale.errors import InputError, check_version

FOLDER, LOOKED = "intakes", "looked.json"
FORMAT, VERSION = "ccscale-intakes", 1
KEY = "intakes"
"""Under which a checkpoint's state has the hashes."""


@dataclass(frozen=True)
class KeptIntakes:
    """The intakes of a run, as stored in its folder.

    Attributes
    ----------
    intakes
        What it has taken in.
    data
        The digest of the data that it was begun with, as ``run.json`` has it.
    files
        Name and SHA-256 of each intake's file; none where nothing is kept, since the data may not grow.
    """

    intakes: Intakes
    data: str
    files: tuple[tuple[str, str], ...] = ()

    @classmethod
    def begin(cls, sources: Sequence[ListedShard], data: str) -> "KeptIntakes":
        """Return that of a run that begins, of which nothing is written yet."""
        return cls(Intakes((Intake(0, tuple(sources)),)), data)

    def kept(self, run: Path) -> "KeptIntakes":
        """Write new intakes; on one rank. Return the stored state.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        files = list(self.files)
        folder = run / FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number, intake in list(enumerate(self.intakes.intakes))[len(files) :]:
                text = _text(intake)
                sha256 = hashlib.sha256(text).hexdigest()
                files.append((f"{number:06}-{sha256[:8]}.json", sha256))
                atomic.write_bytes(folder / files[-1][0], text)
            head = {"format": FORMAT, "version": VERSION, "data": self.data, "looked": self.intakes.looked}
            text = json.dumps({**head, "files": dict(files)}, indent=1).encode() + b"\n"
            atomic.write_bytes(folder / LOOKED, text)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written ({error.strerror}), and a run records there which shards it "
                "uses before it trains on them: free some space, or make it writable"
            ) from None
        return replace(self, files=tuple(files))

    def with_(self, intake: Intake) -> "KeptIntakes":
        """Return it with another intake, which is not written yet; see `Intakes.with_`."""
        intakes = self.intakes.with_(intake)
        return replace(self, intakes=intakes, files=self.files[: len(intakes.intakes) - 1])

    def looked(self, step: int) -> "KeptIntakes":
        """Return it with a look that found nothing."""
        return replace(self, intakes=replace(self.intakes, looked=step))

    def state(self, step: int) -> dict[str, Any]:
        """Return the part that a checkpoint stores; empty if the data may not grow."""
        count = len(self.intakes.until(step).intakes)
        return {KEY: [sha256 for _, sha256 in self.files[:count]]} if self.files else {}

    def check(self, state: dict[str, Any], step: int, run: Path) -> None:
        """Check that a checkpoint was trained on these intakes.

        Raises
        ------
        InputError
            If it was trained on other data.
        """
        if KEY in state and state[KEY] != self.state(step).get(KEY):
            raise InputError(
                f"{run / FOLDER} does not record what the checkpoint of step {step} was trained on: it "
                "was changed, or belongs to another run; restore the folder, or start a new run from the "
                f"checkpoint (run=DIR train.start={run}@{step})"
            )


def read_intakes(run: Path) -> KeptIntakes | None:
    """Read a run's intakes; None if its data may not grow, or it has not started.

    Raises
    ------
    InputError
        If it is damaged.
    """
    folder = run / FOLDER
    place = folder / LOOKED
    if not place.exists():
        return None
    try:
        content = json.loads(place.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        check_version(place, content["version"], VERSION)
        intakes = []
        for name, sha256 in content["files"].items():
            place = folder / name
            text = place.read_bytes()
            if hashlib.sha256(text).hexdigest() != sha256:
                raise ValueError("its contents are not what was written")
            intakes.append(_intake(json.loads(text)))
        taken = Intakes(tuple(intakes), content["looked"])
        return KeptIntakes(taken, content["data"], tuple(content["files"].items()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{place} cannot be read ({error}); it records which shards the run uses. Restore it, or "
            "train in another folder (run=DIR)"
        ) from None


def _text(intake: Intake) -> bytes:
    shards = [
        asdict(source.shard) | ({} if source.features is None else {"features": source.features})
        for source in intake.sources
    ]
    content = {"step": intake.step, "shards": shards, "retired": intake.retired}
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def _intake(content: dict[str, Any]) -> Intake:
    sources = []
    for entry in content["shards"]:
        features = entry.pop("features", None)
        sources.append(ListedShard(Shard(**entry), features))
    return Intake(content["step"], tuple(sources), tuple(content["retired"]))
