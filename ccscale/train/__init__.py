"""Training: set-up, the loop and its steps, what ranks tell each other, the log."""
