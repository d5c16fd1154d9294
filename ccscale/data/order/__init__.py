"""The order of a run: which sample comes when."""
