"""What a run's figures are also sent to."""

from pydantic import Field

from ccscale.config.section import Free, Section


class Log(Section):
    """What a run's figures are also sent to, beside its own log."""

    wandb: Free[str | None] = Field(
        None,
        min_length=1,
        description="Project of Weights & Biases; of a team TEAM/PROJECT (`pip install 'ccscale[wandb]'`). Where "
        "no key is known, or WANDB_MODE is offline, W&B's files wait below the run for `wandb sync`.",
    )
    mlflow: Free[str | None] = Field(
        None,
        min_length=1,
        description="Experiment of MLflow, on the server that MLFLOW_TRACKING_URI names (`pip install "
        "'ccscale[mlflow]'`).",
    )
    name: Free[str | None] = Field(
        None,
        min_length=1,
        description="What the run is called there; null: what the last part of `run` says.",
    )
