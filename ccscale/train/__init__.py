"""Training: set-up, the loop and its steps, communication between ranks about failures, the log."""
