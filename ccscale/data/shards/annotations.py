"""Annotations of samples in a tar: the label in ``cls`` or ``json``, the origin in ``json``."""

import json
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

from ccscale.data.shards.labels import LONGEST, LabelError, as_text
from ccscale.errors import did_you_mean

JSON_BYTES = 2**16  # of a sample's json, at most: a larger one is not looked into
LABEL_BYTES = 4 * LONGEST + 64
ORIGIN_FIELDS = ("origin", "url")  # of a sample's json, in the order of preference
MOST_FIELDS = 100  # that are remembered for an error


class Member(NamedTuple):
    """A file in a tar: its name, and where its bytes lie."""

    name: str
    offset: int
    size: int


class Annotations:
    """Reads labels and origins stored next to a tar's images.

    Parameters
    ----------
    file
        The tar.
    field
        The field of the samples' json that is the label; None: the label is the text of ``cls``.
    """

    def __init__(self, file: BinaryIO, field: str | None) -> None:
        self._file, self._field = file, field
        self._texts: dict[str, str] = {}  # the same ones are kept once
        self._seen = False
        self._fields: set[str] = set()

    def of(self, members: Mapping[str, Member]) -> tuple[str, str | None]:
        """Return a sample's label as text ("" if none) and its image's origin.

        Raises
        ------
        LabelError
            If the label cannot be read.
        """
        facts = self._json(members["json"]) if "json" in members else None
        if self._field is not None:
            text = as_text(self._labelled(facts, "json" in members))
        else:
            text = as_text(self._read(members["cls"])) if "cls" in members else ""
        return self._texts.setdefault(text, text), _origin(facts)

    @property
    def complaint(self) -> str | None:
        """What is wrong where no sample had the field of labels."""
        if self._field is None or self._seen:
            return None
        hint = did_you_mean(self._field, self._fields)
        if not hint and self._fields:
            hint = f"; there are {', '.join(map(repr, sorted(self._fields)))}"
        return f"no sample's json has the field {self._field!r}{hint}"

    def _labelled(self, facts: object, there: bool) -> object:
        if not isinstance(facts, dict):
            if there:
                raise LabelError("", f"cannot be read: its json is no object of up to {JSON_BYTES:,} bytes")
            return None
        if self._field in facts:
            self._seen = True
        elif not self._seen and len(self._fields) < MOST_FIELDS:
            self._fields |= set(list(facts)[:MOST_FIELDS])
        return facts.get(self._field)

    def _read(self, member: Member) -> bytes:
        self._file.seek(member.offset)
        return self._file.read(min(member.size, LABEL_BYTES))

    def _json(self, member: Member) -> Any:
        """Return the content of a JSON file; None if it cannot be parsed."""
        if member.size > JSON_BYTES:
            return None
        self._file.seek(member.offset)
        try:
            return json.loads(self._file.read(member.size))
        except (ValueError, RecursionError):  # no JSON, or too deep
            return None


def _origin(facts: object) -> str | None:
    """Return the origin of an image from its sample's JSON; None if it has none."""
    if not isinstance(facts, dict):
        return None
    try:
        texts = [facts[name] for name in ORIGIN_FIELDS if isinstance(facts.get(name), str)]
        return next((text for text in texts if text.encode()), None)
    except ValueError:  # no Unicode
        return None
