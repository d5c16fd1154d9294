"""A run in a project of Weights & Biases; kept in the run's folder for a later sync if nobody is logged in."""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ccscale.progress import say
from ccscale.train.trackers.tracker import AGAIN, End, Line, Sent, figures


class WandbRun:
    """See `tracker.Tracker`.

    Parameters
    ----------
    project
        Or ``team/project``.
    name
        Of the run.
    folder
        The run's, where W&B keeps its files.
    settings
        The config.
    """

    title = "W&B"
    file = "wandb.json"
    remedy = AGAIN

    def __init__(self, project: str, name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nobody has asked for it
        self._team, _, self._project = project.rpartition("/")
        self._name, self._folder, self._settings = name, folder, settings
        self.place = f"{os.environ.get('WANDB_BASE_URL', '')} {project}".strip()

    def open(self, run: str | None, sent: Sent) -> tuple[str, Sent]:
        """Continue or start it; offline if W&B's own settings say so, or no key is known."""
        import wandb

        ours = wandb.Settings(silent=True, console="off")
        online = wandb.setup(ours).settings.mode in (None, "online")
        offline = online and not wandb.login(prompt=False, verify=False)
        self._run = wandb.init(
            project=self._project,
            entity=self._team or None,
            name=self._name,
            id=run or secrets.token_hex(4),
            resume="allow",
            dir=os.environ.get("WANDB_DIR") or self._folder,
            mode="offline" if offline else None,
            settings=ours,
        )
        self._run.config.update(dict(self._settings), allow_val_change=True)
        kept = Path(self._run.dir).parent
        self.remedy = f"`wandb sync --include-online {kept}` sends what it lacks"
        waits = f"kept offline; `wandb sync {kept}` sends it"
        say(f"W&B: {waits if self._run.offline else self._run.url}")
        return self._run.id, sent

    def add(self, lines: Sequence[Line], sent: Sent) -> None:
        """Pass lines to W&B's process, which does not wait for the network either."""
        for line in lines:
            self._run.log(figures(line), step=line["step"])

    def close(self, end: End) -> None:
        """Report how it ended, and wait until W&B has everything."""
        if end == "stopped":
            self._run.mark_preempting()
        self._run.finish(exit_code=int(end != "finished"))
