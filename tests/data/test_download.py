"""Downloads and archives against a local server: cut, wrong, missing, hostile, interrupted."""

import hashlib
import io
import os
import resource
import signal
import socket
import tarfile
import threading
import time
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.served import Server
from unlabeled.data.download import archives as download
from unlabeled.data.download import http as web
from unlabeled.data.download.archives import File, extract, fetch
from unlabeled.errors import UserError

BODY = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def server():
    server = Server()
    server.files["/whole.bin"] = BODY
    yield server
    server.close()


def file(server, path="whole.bin", **facts):
    return File("whole.bin", [f"{server.url}/{path}"], **{"checksum": SHA256, "size": len(BODY), **facts})


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message and message
    return message


def refused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("checksum", [SHA256, MD5])
def test_a_file_is_fetched_once_and_verified(server, tmp_path, checksum):
    path = fetch(file(server, checksum=checksum), tmp_path / "deep" / "folder")
    assert path.read_bytes() == BODY and [p.name for p in path.parent.iterdir()] == ["whole.bin"]
    fetch(file(server, checksum=checksum), path.parent)
    assert len(server.asked) == 1


def test_a_cut_connection_is_taken_up_where_it_stopped(server, tmp_path):
    server.cut = 300_000
    assert fetch(file(server), tmp_path).read_bytes() == BODY
    assert server.asked == [("/whole.bin", None), ("/whole.bin", "bytes=300000-")]


def test_a_cut_connection_starts_again_where_the_server_cannot_resume(server, tmp_path):
    server.cut, server.ranges = 300_000, False
    assert fetch(file(server), tmp_path).read_bytes() == BODY
    assert len(server.asked) == 2


def test_a_download_of_an_earlier_run_is_taken_up(server, tmp_path):
    (tmp_path / "whole.bin.part").write_bytes(BODY[:1000])
    assert fetch(file(server), tmp_path).read_bytes() == BODY
    assert server.asked == [("/whole.bin", "bytes=1000-")]


@pytest.mark.parametrize("stale", [b"x" * 1000, b"x" * len(BODY), b"x" * (len(BODY) + 5)])
def test_a_part_of_another_file_does_no_harm(server, tmp_path, stale):
    (tmp_path / "whole.bin.part").write_bytes(stale)
    assert fetch(file(server), tmp_path).read_bytes() == BODY


def test_wrong_bytes_are_removed_and_said(server, tmp_path):
    server.files["/whole.bin"] = BODY[:-1] + b"!"
    with pytest.raises(UserError) as caught:
        fetch(file(server), tmp_path)
    assert "wrong bytes" in one_line(caught) and not list(tmp_path.iterdir())
    server.files["/whole.bin"] = BODY
    assert fetch(file(server), tmp_path).read_bytes() == BODY


def test_a_wrong_size_is_refused_before_the_download(server, tmp_path):
    with pytest.raises(UserError, match=r"offers 1,024,000 bytes, not 5"):
        fetch(file(server, size=5), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_page_instead_of_an_archive_without_a_checksum(server, tmp_path):
    server.files["/facades.tar.gz"] = b"<html>please log in</html>"
    with pytest.raises(UserError, match="not an archive"):
        fetch(File("facades.tar.gz", [f"{server.url}/facades.tar.gz"]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_ends_in_one_line_with_what_to_do(server, tmp_path):
    with pytest.raises(UserError) as caught:
        fetch(file(server, "gone.bin"), tmp_path)
    message = one_line(caught)
    for part in (f"{server.url}/gone.bin", "404", str(tmp_path / "whole.bin"), "digits", "plain2striped"):
        assert part in message
    assert not list(tmp_path.iterdir())


def test_no_network_ends_in_one_line(tmp_path):
    nowhere = f"http://127.0.0.1:{refused_port()}/whole.bin"
    with pytest.raises(UserError, match="refused") as caught:
        fetch(File("whole.bin", [nowhere, "http://no-such-host.invalid/whole.bin"], SHA256), tmp_path)
    assert "no-such-host.invalid" in one_line(caught)


def test_a_silent_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UserError, match="timed out"):
            fetch(File("x", [f"http://127.0.0.1:{silent.getsockname()[1]}/x"], SHA256), tmp_path)


@pytest.fixture
def full():
    """The address of a host that takes no calls, as one behind a wall that drops them: its queue is full."""
    with ExitStack() as stack:
        host = stack.enter_context(socket.socket())
        host.bind(("127.0.0.1", 0))
        host.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(host.getsockname())
        yield host.getsockname()


def resolve(monkeypatch, *found):
    """Every name has these addresses."""
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)


def test_without_a_network_the_answer_comes_soon(tmp_path, monkeypatch, full):
    assert web.LOOKUP + web.CONNECT <= 11 < download.TIMEOUT
    monkeypatch.setattr(web, "CONNECT", 0.2)
    resolve(monkeypatch, full, full)
    with pytest.raises(UserError, match=r"no answer in 0\.2 s") as caught:
        fetch(File("x", ["https://one.org/x", "http://two.org/x"], SHA256), tmp_path)
    assert "two.org" in one_line(caught)
    start = time.monotonic()
    asleep = threading.Event()
    monkeypatch.setattr(web, "LOOKUP", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asleep.wait(20))
    with pytest.raises(UserError, match=r"no address in 0\.2 s"):
        fetch(File("x", ["http://one.org/x", "https://two.org/x"], SHA256), tmp_path)
    asleep.set()
    assert time.monotonic() - start < 5 and not list(tmp_path.iterdir())


def test_a_server_that_is_slow_or_has_dead_addresses_delivers(server, tmp_path, monkeypatch, full):
    nobody, living = ("127.0.0.1", refused_port()), ("127.0.0.1", server.server.server_port)
    monkeypatch.setattr(web, "CONNECT", 0.4)
    resolve(monkeypatch, full, nobody, living)
    server.wait = 0.6
    found = fetch(File("whole.bin", ["http://some.org/whole.bin"], SHA256), tmp_path)
    assert found.read_bytes() == BODY


def test_the_next_mirror_is_tried(server, tmp_path):
    urls = [f"http://127.0.0.1:{refused_port()}/x", f"{server.url}/gone", f"{server.url}/whole.bin"]
    assert fetch(File("whole.bin", urls, SHA256), tmp_path).read_bytes() == BODY


def test_a_file_put_there_by_hand_is_verified_and_never_removed(server, tmp_path):
    (tmp_path / "whole.bin").write_bytes(b"something else")
    with pytest.raises(UserError, match="not the file it should be"):
        fetch(file(server), tmp_path)
    assert (tmp_path / "whole.bin").read_bytes() == b"something else" and not server.asked


def test_two_runs_at_once_share_a_download(server, tmp_path):
    results: list[object] = []

    def run():
        try:
            results.append(fetch(file(server), tmp_path).read_bytes() == BODY)
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4 and len(server.asked) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["whole.bin"]


@pytest.fixture
def small_files():
    """No file can grow beyond 200 kB: the system refuses the write, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_ends_in_one_line_and_leaves_nothing(server, tmp_path, small_files):
    with pytest.raises(UserError, match="free some space") as caught:
        fetch(file(server), tmp_path)
    assert one_line(caught) and not list(tmp_path.iterdir())


def test_a_full_disk_while_extracting_leaves_nothing(tmp_path, request):
    archive = tar(tmp_path / "a.tar.gz", {"a/big": BODY})
    request.getfixturevalue("small_files")
    with pytest.raises(UserError, match="free some space"):
        extract(archive, tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


def tar(path: Path, files: dict[str, bytes], mode="w:gz", extra=()) -> Path:
    with tarfile.open(path, mode) as out:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
        for info in extra:
            out.addfile(info)
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("top", ["", "horse2zebra/"])
def test_an_archive_is_extracted_without_its_top_folder(tmp_path, kind, top):
    files = {f"{top}trainA/1.jpg": b"one", f"{top}trainB/2.jpg": b"two"}
    archive = tmp_path / f"x.{kind}"
    _ = zipped(archive, files) if kind == "zip" else tar(archive, files, "w:gz" if kind == "tar.gz" else "w")
    extract(archive, tmp_path / "horse2zebra")
    assert content(tmp_path / "horse2zebra") == {"trainA/1.jpg": b"one", "trainB/2.jpg": b"two"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["horse2zebra", f"x.{kind}"]


def hostile_links(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        info = zipfile.ZipInfo("data/link")
        info.external_attr = 0o120777 << 16
        out.writestr(info, "/etc")
        out.writestr("data/link/passwd", b"x")
    return path


HOSTILE = {
    "zip slip": lambda p: zipped(p, {"data/ok": b"ok", "../../evil": b"x"}),
    "zip absolute": lambda p: zipped(p, {f"{p.parent}/evil": b"x"}),
    "zip drive": lambda p: zipped(p, {"C:\\evil": b"x"}),
    "zip backslash": lambda p: zipped(p, {"a\\..\\..\\evil": b"x"}),
    "zip link": hostile_links,
    "tar slip": lambda p: tar(p, {"data/ok": b"ok", "data/../../evil": b"x"}),
    "tar absolute": lambda p: tar(p, {f"{p.parent}/evil": b"x"}),
    "tar link out": lambda p: tar(p, {}, extra=[special("data/link", tarfile.SYMTYPE, "/etc")]),
    "tar hard link out": lambda p: tar(p, {}, extra=[special("data/link", tarfile.LNKTYPE, "../../x")]),
    "tar link inside": lambda p: tar(p, {"d/a": b"a"}, extra=[special("d/b", tarfile.SYMTYPE, "..")]),
    "tar device": lambda p: tar(p, {}, extra=[special("data/null", tarfile.CHRTYPE)]),
    "tar pipe": lambda p: tar(p, {}, extra=[special("data/pipe", tarfile.FIFOTYPE)]),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing(tmp_path, how):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    archive = HOSTILE[how](inner / "archive")
    with pytest.raises(UserError, match="do not trust") as caught:
        extract(archive, inner / "data")
    assert str(archive) in one_line(caught)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")} == {"a", "a/b", "a/b/archive"}


def test_a_file_packed_under_two_names_is_two_files(tmp_path):
    archive = tar(tmp_path / "x.tar", {"d/a": b"same"}, "w", [special("d/b", tarfile.LNKTYPE, "d/a")])
    assert content(extract(archive, tmp_path / "d")) == {"a": b"same", "b": b"same"}


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_a_truncated_archive_is_never_extracted(tmp_path, kind, share):
    files = {f"d/{i}": os.urandom(5000) for i in range(20)}
    archive = tmp_path / f"x.{kind}"
    _ = zipped(archive, files) if kind == "zip" else tar(archive, files, "w:gz" if kind == "tar.gz" else "w")
    data = archive.read_bytes()
    end = 20 * 5632 if kind == "tar" else len(data)  # behind the last file, a tar holds zeros only
    archive.write_bytes(data[: int(share * end)])
    with pytest.raises(UserError, match="not a whole") as caught:
        extract(archive, tmp_path / "d")
    assert one_line(caught) and [p.name for p in tmp_path.iterdir()] == [f"x.{kind}"]


def test_an_archive_whose_own_check_sum_disagrees_is_never_extracted(tmp_path):
    archive = tar(tmp_path / "x.tar.gz", {"d/a": os.urandom(5000)})
    data = bytearray(archive.read_bytes())
    data[-8] ^= 1  # the CRC that ends a gzip file
    archive.write_bytes(data)
    with pytest.raises(UserError, match="CRC"):
        extract(archive, tmp_path / "d")
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar.gz"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_interrupted_extraction_leaves_nothing_and_can_be_repeated(tmp_path, monkeypatch, kind):
    files = {f"d/{i}": b"x" * 100 for i in range(5)}
    archive = tmp_path / f"x.{kind}"
    _ = zipped(archive, files) if kind == "zip" else tar(archive, files)
    copy, calls = download.shutil.copyfileobj, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        copy(*args)

    monkeypatch.setattr(download.shutil, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(archive, tmp_path / "d")
    assert [p.name for p in tmp_path.iterdir()] == [f"x.{kind}"]
    assert len(content(extract(archive, tmp_path / "d"))) == 5
