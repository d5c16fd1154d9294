"""From image files to batches of view pairs."""
