"""Images become shards: planned, written, gone on with after a kill."""
