"""Images become shards: laid out, written, gone on with after a kill."""
