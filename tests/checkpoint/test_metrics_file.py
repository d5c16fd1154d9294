"""A run's metrics.jsonl: each step and evaluation once, whatever happened to the file before."""

import json
from pathlib import Path

import pytest

from ccscale.checkpoint.metrics_file import METRICS, MetricsFile, drop_after, read_lines


def write(folder: Path, text: str) -> Path:
    (folder / METRICS).write_text(text)
    return folder / METRICS


class TestDropAfter:
    TEXT = "".join(json.dumps({"step": step, "kind": "step"}) + "\n" for step in range(1, 6))

    @pytest.mark.parametrize("step", range(7))
    def test_lines_after_a_step(self, tmp_path, step):
        path = write(tmp_path, self.TEXT)
        drop_after(path, step)
        assert path.read_text() == "".join(self.TEXT.splitlines(keepends=True)[:step])

    def test_evaluations_go_with_their_steps(self, tmp_path):
        kept = '{"step": 2, "kind": "evaluation"}\n'
        path = write(tmp_path, kept + '{"step": 3, "kind": "evaluation"}\n')
        drop_after(path, 2)
        assert path.read_text() == kept

    @pytest.mark.parametrize("tail", ['{"step": 5, "lo', '{"step": 5}', '{"st', "\x00\x00\x00"])
    def test_last_line_that_was_cut_off(self, tmp_path, tail):
        path = write(tmp_path, self.TEXT + tail)
        drop_after(path, 9)
        assert path.read_text() == self.TEXT

    def test_whole_file_is_not_written_again(self, tmp_path):
        path = write(tmp_path, self.TEXT)
        before = path.stat().st_ino
        drop_after(path, 5)
        assert path.stat().st_ino == before

    def test_no_file(self, tmp_path):
        drop_after(tmp_path / METRICS, 3)
        assert list(tmp_path.iterdir()) == []


def test_whether_a_step_was_evaluated(tmp_path):
    """A last line that was cut off does not count."""
    file = MetricsFile(tmp_path / METRICS)
    assert not file.has_evaluation(0)
    file.append([{"kind": "step", "step": 1}, {"kind": "evaluation", "step": 1}, {"kind": "step", "step": 2}])
    assert [file.has_evaluation(step) for step in (1, 2, 3)] == [True, False, False]
    write(tmp_path, '{"kind": "evaluation", "step": 3}\n{"kind": "evaluation", "st')
    assert file.has_evaluation(3)
    assert len(read_lines(file.path)) == 1
