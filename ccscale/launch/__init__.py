"""``ccscale launch``: runs as jobs of Slurm, through submitit, or as processes of this machine."""
