"""Conversion of images to shards: layout, writing, resuming after a kill."""
