"""A small web server on this machine, in a thread: what the download code is proven against."""

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves `files` (path -> bytes). With `cut`, one connection breaks after so many bytes of its body."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True  # whether it can send from the middle
        self.cut: int | None = None
        self.wait = 0.0  # seconds until it answers a request
        self.asked: list[tuple[str, str | None]] = []  # (path, Range header) of each request
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.asked.append((self.path, wanted))
                time.sleep(outer.wait)
                if self.path not in outer.files:
                    self.send_error(404)
                    return
                body = whole = outer.files[self.path]
                if wanted and outer.ranges:
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    if start >= len(whole):
                        self.send_error(416)
                        return
                    body = whole[start:]
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if outer.cut is not None:
                    body, outer.cut = body[: outer.cut], None
                with suppress(ConnectionError):  # somebody may have heard enough
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
