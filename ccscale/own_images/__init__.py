"""``ccscale cluster``: clusters a folder of photographs in one command."""
