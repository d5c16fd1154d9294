"""A trace of a run's steps, that Perfetto reads."""

import gc
import json

from conftest import small_settings

from ccscale.config.file import parse_config
from ccscale.train.garbage import collect_by_hand
from ccscale.train.profile import StepProfile
from ccscale.train.train import train_run


def test_two_steps_are_traced_with_the_names_of_their_parts(shards, tmp_path):
    settings = small_settings(shards, tmp_path / "run", train__max_steps=13, train__profile=2)
    assert train_run(parse_config(settings)).step == 13
    trace = json.loads((tmp_path / "run" / "profile" / "rank-0.json").read_text())
    names = [event.get("name") for event in trace["traceEvents"] if event.get("ph") == "X"]
    for part in ("views", "forward", "losses", "backward", "optimizer"):
        assert names.count(part) == 2, part


def test_nothing_is_traced_where_nothing_is_wanted(tmp_path):
    with StepProfile(tmp_path, None, 0) as profile:
        for _ in range(20):
            profile.step()
    assert list(tmp_path.iterdir()) == []


def test_garbage_is_left_alone_between_collections_and_collected_again_afterwards():
    with collect_by_hand():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
