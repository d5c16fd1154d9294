"""Estimates of a run before it starts: memory, communication and data of each rank; what does not fit or divide."""
