"""Experiment trackers that a run logs to."""

from pydantic import Field

from ccscale.config.section import Free, Section


class Log(Section):
    """Experiment trackers that a run logs to, besides its own log."""

    wandb: Free[str | None] = Field(
        None,
        min_length=1,
        description="Weights & Biases project, or TEAM/PROJECT, to log to (`pip install 'ccscale[wandb]'`). "
        "Without an API key, or with WANDB_MODE=offline, logs are kept with the run for `wandb sync`. null: off.",
    )
    mlflow: Free[str | None] = Field(
        None,
        min_length=1,
        description="MLflow experiment to log to, on the server in MLFLOW_TRACKING_URI (`pip install "
        "'ccscale[mlflow]'`). null: off.",
    )
    name: Free[str | None] = Field(
        None,
        min_length=1,
        description="Name of the run in W&B and MLflow. null: the last part of run.",
    )
