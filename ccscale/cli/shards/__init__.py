"""The verbs ``ccscale shards ...``."""
