"""Damaged and hostile tars: members whose headers say anything, with checksums that are right."""

import io
import tarfile
from functools import cache

from forged import FIELDS, number_field, tar_header
from fuzz_bytes import NUMBERS, mutated
from hypothesis import strategies as st

NAMES = (
    b"a.jpg a.cls a.json b.png b.cls d/c.webp a.jpeg a.JPG .a.jpg a a. a.b.jpg ../../x.jpg /etc/x.jpg".split()
)
NAMES += b"a/../b.jpg ./a.jpg C:\\x.jpg -.jpg |sh.jpg a.cls/".split()
NAMES += [b"", b"a\nb.jpg", b"\xff\xfe.jpg", b"\xc3\xa9.jpg", b"x" * 100, b"y" * 95 + b".jpg"]
TYPES = [bytes([kind]) for kind in b"0\0001234567SLKxgXVA"]
KEYWORDS = [b"", *b"path size linkpath mtime hdrcharset uid comment SCHILY.realsize".split()]
KEYWORDS += [
    b"GNU.sparse." + name for name in b"major minor name map size realsize offset numbytes numblocks".split()
]


@st.composite
def pax_body(draw):
    """Return the records of an extended header, some with wrong lengths."""
    body = b""
    for _ in range(draw(st.integers(1, 3))):
        numbers = st.sampled_from(NUMBERS).map(lambda n: b"%d" % n)
        value = draw(
            st.one_of(
                numbers,
                st.sampled_from(NAMES),
                st.sampled_from([b"0,5,9,1", b"BINARY"]),
                st.binary(max_size=9),
            )
        )
        record = b" " + draw(st.sampled_from(KEYWORDS)) + b"=" + value + b"\n"
        right = next(n for n in range(len(record), len(record) + 20) if len(b"%d" % n + record) == n)
        length = draw(st.one_of(st.just(right), st.just(right), st.sampled_from(NUMBERS)))
        body += b"%d" % length + record
    return body


@st.composite
def forged_tar(draw):
    """Return a tar of members whose headers say anything."""
    parts = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from([b"0", b"0", b"0", b"x", b"g", b"L", *TYPES]))
        body = (
            draw(pax_body())
            if kind in b"xgX"
            else draw(st.one_of(st.sampled_from([b"3", b"-1", b""]), st.binary(max_size=600)))
        )
        if kind in b"LK":
            body = draw(st.sampled_from(NAMES)) + b"\0"
        fields = {"type": kind, "name": draw(st.sampled_from(NAMES)), "size": number_field(len(body), 12)}
        for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=2)):
            width = FIELDS[name][1]
            known = [number_field(number, width) if width > 1 else b"0" for number in NUMBERS]
            numbers = st.sampled_from(known)
            fields[name] = draw(
                st.one_of(numbers, st.binary(max_size=min(width, 24)), st.sampled_from(NAMES))
            )
        parts.append(tar_header(fields, draw(st.integers(0, 9)) > 0) + body + bytes(-len(body) % 512))
    return b"".join(parts) + bytes(draw(st.sampled_from([1024, 1024, 1024, 512, 0, 100])))


@cache
def tar_seeds():
    seeds = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
            for name, body in (
                ("a.jpg", b"jpeg" * 200),
                ("a.cls", b"3"),
                ("d/é.png", b"png"),
                ("n" * 120 + ".webp", b"w"),
            ):
                if kind == tarfile.USTAR_FORMAT and len(name) > 100:
                    continue
                member = tarfile.TarInfo(name)
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))
            link = tarfile.TarInfo("link.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        seeds.append(file.getvalue()[:8192])
    return seeds


def tars():
    return st.one_of(forged_tar(), forged_tar(), mutated(tar_seeds), st.binary(max_size=2000))
