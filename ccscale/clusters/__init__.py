"""Living clusters: versions of a run's clusters, whose ids never change their meaning.

::

    RUN/clusters/
      current                    the number of the current version: the only file that is ever replaced
      v000001/                   a version, complete or absent, immutable (`version.py`)
        version.json             parent, events, proposals, tables, hashes; its own hash last
        state.npz  pool.npz  reservoir.npz  proposals.npz    if they changed
        network/                 the network that assigns the clusters, as written by `ccscale export`
        tables/<data set>-<shard>.parquet    the images that it assigned (`tables.py`)
        changes.parquet          the images whose id it changed
        pictures/p1.png          pictures of its proposals
      features/<data set>/       feature stores made by updates
      .update/                   a version that is being made (`draft.py`)
"""
