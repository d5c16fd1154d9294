"""The lines of a run's log on their way to a tracker, in a thread of its own.

The log itself is the queue: the thread reads ``metrics.jsonl`` behind training, so nothing is held in memory and
nothing is lost while a server is down. A line is sent once. What a resume takes again after a kill stays as it was
sent: the steps are the same ones.
"""

import json
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

from ccscale.checkpoint.metrics_file import METRICS
from ccscale.errors import first_line
from ccscale.process_exit import limit_exit
from ccscale.progress import say
from ccscale.train.trackers.tracker import End, Line, Tracker, keep, read_kept

AT_ONCE = 2**15  # bytes of lines
AGAIN = 30.0  # seconds until a tracker that failed is tried again
PATIENCE = 10.0  # seconds that a run's end waits for it
LAST_TRY = 1.0  # seconds that it waits if sending has failed: it may be reachable again by now


class Sending:
    """Sends a run's log to one tracker, continuing where an earlier start left off."""

    def __init__(self, folder: Path, tracker: Tracker) -> None:
        self._folder, self._tracker = folder, tracker
        self._offset = 0
        self._is_open = self._failing = self._is_left = False
        self._news, self._ending = threading.Event(), threading.Event()
        self._end: End = "failed"
        self._thread = threading.Thread(target=self._work, name=tracker.title, daemon=True)

    def tell(self) -> None:
        """Record that there are new lines; start with the first call."""
        self._news.set()
        if self._thread.ident is None:
            self._thread.start()

    def close(self, end: End) -> None:
        """Send the remaining lines for up to `PATIENCE`, or `LAST_TRY` if sending has failed."""
        if self._thread.ident is None:
            return
        self._end = end
        self._ending.set()
        self._news.set()
        self._thread.join(LAST_TRY if self._failing else PATIENCE)
        if self._failing or self._thread.is_alive():
            self._is_left = True
            limit_exit(PATIENCE / 4)  # W&B's package waits for its server at the very end, too
            say(f"warning: {self._tracker.title} is missing part of this run: {self._tracker.remedy}")

    def _work(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            last = self._ending.is_set()  # asked before the lines are read
            try:
                self._catch_up()
                if last:
                    self._tracker.close(self._end)
            except Exception as error:  # of any kind: whatever a library makes of a network
                if not (self._failing or self._is_left):
                    reason = textwrap.shorten(first_line(error), 200, placeholder="…")
                    say(
                        f"warning: cannot send figures to {self._tracker.title} ({reason}); training "
                        "continues, and they are sent once it is reachable"
                    )
                self._failing = True
                self._ending.wait(AGAIN)
                self._news.set()
            if last:
                return

    def _catch_up(self) -> None:
        tracker = self._tracker
        if not self._is_open:
            self._run, self._sent = tracker.open(*read_kept(self._folder, tracker))
            self._is_open = True
            keep(self._folder, tracker, self._run, self._sent)
        for lines in self._unsent():
            sent = self._sent | {line["kind"]: line["step"] for line in lines}
            tracker.add(lines, sent)
            self._sent = sent
            keep(self._folder, tracker, self._run, sent)
        if self._failing:
            say(f"{tracker.title} is reachable again and has received the missing figures")
            self._failing = False

    def _unsent(self) -> Iterator[list[Line]]:
        """Yield lines that are to be sent, some at a time; what was yielded counts when the next are requested."""
        path = self._folder / METRICS
        if not path.exists():
            return
        with open(path, "rb") as file:
            file.seek(self._offset)
            while texts := file.readlines(AT_ONCE):
                whole = [text for text in texts if text.endswith(b"\n")]  # the last one may be being written
                lines = [json.loads(text) for text in whole]
                if new := [line for line in lines if line["step"] > self._sent.get(line["kind"], -1)]:
                    yield new
                self._offset += sum(map(len, whole))
