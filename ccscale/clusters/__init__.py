"""Clusters that live: versions of a run's clusters, whose ids never change their meaning.

::

    RUN/clusters/
      current                    the number of the current version: the only file that is ever replaced
      v000001/                   a version, whole or not there, never changed (`version.py`)
        version.json             what it is: parent, events, proposals, tables, hashes; its own hash last
        state.npz  pool.npz  reservoir.npz  proposals.npz    where they changed
        network/                 the network whose clusters they are, as `ccscale export` writes one
        tables/<data set>-<shard>.parquet    the images that it assigned (`tables.py`)
        changes.parquet          the images whose id it changed
        pictures/p1.png          of its proposals
      features/<data set>/       stores that updates made
      .update/                   a version that is being made (`writing.py`)
"""
