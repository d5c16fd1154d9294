"""Spans of files are read with few requests."""

import random

from ccscale.data.remote.fetch import ByteRange, read_ranges, requests


def test_requests_cover_the_spans_and_little_more() -> None:
    generator = random.Random(0)
    for trial in range(200):
        grain, gap = generator.choice([(1, 0), (1, 30), (16, 8)])
        data = [generator.randbytes(generator.randrange(1, 2000)) for _ in range(3)]
        spans = []
        for _ in range(generator.randrange(12)):
            shard = generator.randrange(3)
            start = generator.randrange(len(data[shard]))
            spans.append(ByteRange(shard, start, generator.randrange(start, len(data[shard]) + 1)))
        made = requests(spans, grain, gap, most=64)
        read = 0
        for request, inside in made:
            assert 0 < request.stop - request.start <= 64
            assert request.start % grain == request.stop % grain == 0
            assert inside
            read += request.stop - request.start
        if (grain, gap) == (1, 0):
            wanted = {(span.file, byte) for span in spans for byte in range(span.start, span.stop)}
            assert read == len(wanted), trial
        found = read_ranges(
            spans,
            grain,
            size=lambda s, d=data: len(d[s]),
            read=lambda r, d=data: d[r.file][r.start : r.stop],
        )
        assert found == {span: data[span.file][span.start : span.stop] for span in spans}
