"""Where a run's figures are also sent: W&B, MLflow. Training waits for neither."""
