"""Births: the day's groups, with all images of the pool that are nearest to them, by their margins. Pure."""

from ccscale.clusters.assigning import assign
from ccscale.clusters.day import Day
from ccscale.clusters.groups import LEAST
from ccscale.clusters.margins import nearer
from ccscale.clusters.proposal import Proposal
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.state import State
from ccscale.features.vectors import unit_rows
from ccscale.wording import counted


def births(day: Day, state: State, reservoir: Reservoir, pool: Pool) -> list[Proposal]:
    """Propose the groups of a day, once the pool has taken its images."""
    groups = assign(
        state, pool.features.astype("float32"), pool.heads, pool.confidence, pool.refs, day
    ).groups
    found = []
    for number, group in enumerate(day.groups):
        own = pool.subset(groups == number)
        if not group.is_stable or not len(own):
            continue
        centre = unit_rows(state.space(own.features).mean(axis=0)[None])[0]
        refs = own.refs[nearer(state, reservoir, own, centre)]
        facts = group.facts | {"images": len(refs)}
        if len(refs) >= LEAST:
            found.append(
                Proposal("birth", (), refs, facts | {"nearest": group.nearest}, _words(facts, group.nearest))
            )
    return found


def _words(facts: dict[str, float], nearest: int) -> str:
    beside = (
        f", apart from cluster {nearest}, the nearest ({facts['separation']:.1%})" if nearest >= 0 else ""
    )
    return (
        f"{counted(int(facts['images']), 'image')} lie together where there were none before{beside}, and are "
        f"found together again when some are left out ({facts['stability']:.0%})"
    )
