"""Training: engine, loop, checkpoints, logs."""
