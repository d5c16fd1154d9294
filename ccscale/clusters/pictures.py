"""The picture of a proposal: its images next to those of the clusters concerned."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ccscale.array_types import Int64
from ccscale.clusters.images import Images
from ccscale.clusters.memory import Memory
from ccscale.clusters.proposal import Proposal
from ccscale.draw.contact_sheet import Row, draw_sheet
from ccscale.wording import counted

COLUMNS, LINES, TILE = 12, 3, 72


def draw_proposal(path: Path, name: str, proposal: Proposal, memory: Memory, images: Images) -> bool:
    """Draw a proposal into a PNG atomically; tell whether there was anything to draw."""
    if not images.can_read(proposal.refs):
        return False
    groups = list(_groups(proposal, memory))
    rows = [row for title, refs in groups for row in _rows(title, refs, images)]
    draw_sheet(path, f"{name}: {proposal.sentence}", rows, len(rows), COLUMNS, tile=TILE)
    return True


def _groups(proposal: Proposal, memory: Memory) -> Iterator[tuple[str, Int64]]:
    """Yield what is shown together: a title, and which images."""
    if proposal.kind == "birth":
        yield "new", proposal.refs
        near = proposal.facts.get("nearest", -1)
        if near >= 0:
            yield f"nearest: {near}", memory.reservoir.refs[memory.reservoir.ids == near]
    if proposal.kind == "split":
        for part in np.unique(proposal.parts).tolist():
            yield f"part {part + 1}", proposal.refs[proposal.parts == part]
        return
    for one in proposal.ids:
        yield f"cluster {one}", memory.reservoir.refs[memory.reservoir.ids == one]


def _rows(title: str, refs: Int64, images: Images) -> Iterator[Row]:
    """Yield the lines of images: up to `LINES`, at equal distances."""
    shown = refs[np.linspace(0, len(refs) - 1, min(len(refs), COLUMNS * LINES)).round().astype(np.int64)]
    for start in range(0, len(shown), COLUMNS):
        tiles = (images.tile(ref, TILE) for ref in shown[start : start + COLUMNS].tolist())
        yield Row(title if not start else "", counted(len(refs), "image") if not start else "", tiles)
