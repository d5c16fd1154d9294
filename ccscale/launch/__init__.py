"""``ccscale launch``: runs as jobs of Slurm, or as processes of this machine, through submitit."""
