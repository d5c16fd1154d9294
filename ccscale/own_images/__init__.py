"""``ccscale cluster``: a folder of photographs becomes clusters of them, in one line."""
