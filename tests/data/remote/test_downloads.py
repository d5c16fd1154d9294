"""Images behind URLs are read many at a time from real servers, within bounds, and given up with a reason."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest
from harness.listings import encoded
from harness.servers import ShardServer, s3_bucket

from ccscale.data.remote import downloads
from ccscale.data.remote.downloads import Url, UrlError, download

IMAGE = encoded(0, size=(64, 48))


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0.01)
    (tmp_path / "1.jpg").write_bytes(IMAGE)
    with ShardServer(tmp_path) as started:
        yield started


@pytest.fixture
def answering() -> Iterator[Callable[[Callable[[BaseHTTPRequestHandler], None]], str]]:
    """Serve every GET by a function of the test; return the server's URL."""
    started = []

    def serve(answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64

        server = Server(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in started:
        server.shutdown()
        server.server_close()


def send(request: BaseHTTPRequestHandler, data: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)


def test_a_whole_image_is_read_at_once(server):
    content = Url(f"{server.url}/1.jpg")
    assert content.read() == IMAGE
    assert (content.path, content.size) == (None, downloads.TYPICAL_BYTES)
    assert dict(server.requests) == {"1.jpg": 1}  # its size is not asked for


@pytest.mark.parametrize("fault", ["503", "429", "cut", "reset"])
def test_failures_that_pass_are_outlasted(server, fault):
    server.fail("jpg", fault, 2)
    assert Url(f"{server.url}/1.jpg").read() == IMAGE
    assert server.requests["1.jpg"] == 3


@pytest.mark.parametrize(
    ("fault", "requests", "temporary", "reason"),
    [
        ("404", 1, False, "there is no such file"),
        ("403", 1, False, "access to it is refused"),
        ("503", 3, True, "the server answers 503"),
        ("429", 3, True, "the server answers 429"),
        ("stall", 3, True, "the server sends nothing"),
        ("cut", 3, True, None),
    ],
)
def test_what_does_not_pass_is_given_up_with_a_reason(
    server, monkeypatch, fault, requests, temporary, reason
):
    monkeypatch.setattr(downloads, "SECONDS", 0.9 if fault == "stall" else 60)
    server.fail("jpg", fault, 100)
    with pytest.raises(UrlError) as error:
        Url(f"{server.url}/1.jpg").read()
    assert error.value.strerror == (reason or error.value.strerror)
    assert error.value.strerror  # what rejected.csv tells
    assert error.value.temporary == temporary
    tries = server.requests["1.jpg"]
    assert tries == requests or (fault == "stall" and tries == 2)  # the time may be over in a pause


def test_no_server_at_all(server):
    server.close()
    with pytest.raises(UrlError) as error:
        Url(f"{server.url}/1.jpg").read()
    assert "onnect" in error.value.strerror
    assert error.value.temporary


def test_many_at_a_time_in_their_order_each_once(answering):
    """No request is answered before as many as are to be under way have come."""
    together = threading.Barrier(downloads.AT_ONCE)
    asked = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        together.wait(30)
        send(request, request.path.encode())

    root = answering(answer)
    names = [f"/{number}.jpg" for number in range(2 * downloads.AT_ONCE)]
    counted = []
    found = list(download([root + name for name in names], counted.append))
    assert found == [name.encode() for name in names]
    assert sorted(asked) == sorted(names)
    assert sum(counted) == len(names)


def test_progress_is_told_while_the_first_is_waited_for(answering):
    others_are_told = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path == "/0":
            assert others_are_told.wait(30)
        send(request, b"x")

    counted = []

    def tick(units: int) -> None:
        counted.append(units)
        if sum(counted) == 4:
            others_are_told.set()

    root = answering(answer)
    assert list(download([f"{root}/{number}" for number in range(5)], tick)) == [b"x"] * 5
    assert sum(counted) == 5


def test_an_endless_answer_is_cut_off(answering, monkeypatch):
    monkeypatch.setattr(downloads, "IMAGE_BYTES", 2**20)
    sent = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(bytes(2**16))  # raises when nobody reads any more
            sent.append(2**16)

    root = answering(answer)
    (error,) = download([f"{root}/endless.jpg"])
    assert isinstance(error, UrlError)
    assert error.strerror == "it exceeds the limit of 1,048,576 bytes"
    assert not error.temporary
    assert sum(sent) < 2**25  # with what lies in the buffers of both sides


def test_what_is_held_is_bounded(answering, monkeypatch):
    size, bound = 300_000, 700_000
    held = []
    room = downloads._Window.room

    async def watched(self, *arguments) -> None:
        await room(self, *arguments)
        held.append(self._held)

    monkeypatch.setattr(downloads._Window, "room", watched)
    root = answering(lambda request: send(request, bytes(size)))
    found = download([f"{root}/{number}" for number in range(40)], held_bytes=bound)
    sizes = [len(next(found))]
    end = time.monotonic() + 30
    while max(held) <= bound - size and time.monotonic() < end:  # the others come while nobody asks for them
        time.sleep(0.01)
    assert [*sizes, *(len(data) for data in found)] == [size] * 40
    assert bound - size < max(held) <= bound + size  # the next one always comes


@pytest.mark.slow
def test_a_dead_host_is_not_waited_for_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "AT_ONCE", 1)
    monkeypatch.setattr(downloads, "SECONDS", 2.0)  # in which the host that lives answers on a busy machine
    with ShardServer(tmp_path) as dead:
        dead.fail("jpg", "stall", 100)
        urls = [f"{dead.url}/{number}.jpg" for number in range(8)]
        urls.insert(5, f"{server.url}/1.jpg")
        found = list(download(urls))
        assert set(dead.requests) == {f"{number}.jpg" for number in range(downloads.DEAD_AFTER)}
    assert found.pop(5) == IMAGE
    assert [error.strerror for error in found] == ["the server sends nothing"] * 3 + [
        "its host does not answer other requests either"
    ] * 5
    assert all(error.temporary for error in found)


def test_a_host_that_answers_is_not_dead(server, monkeypatch):
    monkeypatch.setattr(downloads, "AT_ONCE", 1)
    server.fail("gone", "503", 100)
    found = list(download([f"{server.url}/gone{number}" for number in range(5)] + [f"{server.url}/1.jpg"]))
    assert [error.strerror for error in found[:-1]] == ["the server answers 503"] * 5
    assert found[-1] == IMAGE


@pytest.mark.parametrize(("said", "seconds"), [("7", 7), ("900", 20), ("soon", 1), (None, 1)])
def test_a_server_may_say_how_long_to_wait(said, seconds):
    error = RuntimeError()
    error.headers = {} if said is None else {"Retry-After": said}
    assert downloads._pause(error, 2) == seconds


def test_an_object_store(tmp_path, monkeypatch):
    (tmp_path / "1.jpg").write_bytes(IMAGE)
    store = fsspec.get_filesystem_class("s3")
    store.clear_instance_cache()  # of other tests' endpoints
    try:
        with s3_bucket("images", tmp_path) as place:
            assert Url(f"{place}/1.jpg").read() == IMAGE
            with pytest.raises(UrlError) as error:
                Url(f"{place}/2.jpg").read()
            assert error.value.strerror == "there is no such file"
            assert not error.value.temporary
            for step in (len(IMAGE), len(IMAGE) // 3):  # one that ends with a step, and one of several
                monkeypatch.setattr(downloads, "STEP_BYTES", step)
                assert Url(f"{place}/1.jpg").read() == IMAGE
            monkeypatch.setattr(downloads, "IMAGE_BYTES", len(IMAGE) - 1)
            with pytest.raises(UrlError, match="it exceeds the"):
                Url(f"{place}/1.jpg").read()
    finally:
        store.clear_instance_cache()
