"""A PostgreSQL server for tests that need one, where the machine has its binaries."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import free_port

USER, PASSWORD = "job", "hush-hush"


@contextlib.contextmanager
def postgres_server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Host and port of a server with an empty database `postgres`, and its process; skips where there is none."""
    binaries = {name: shutil.which(name) for name in ("postgres", "initdb")}
    if not all(binaries.values()):
        pytest.skip("there is no PostgreSQL server on this machine")
    user = "postgres" if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        (directory / "password").write_text(PASSWORD)
        if user:
            shutil.chown(directory, user)
            shutil.chown(directory / "password", user)
        options = ["-U", USER, "-A", "scram-sha-256", "--pwfile", str(directory / "password"), "--no-sync"]
        subprocess.run(
            [str(binaries["initdb"]), "-D", str(directory / "db"), *options],
            user=user,
            check=True,
            capture_output=True,
            cwd="/",
        )
        port = free_port()
        server = subprocess.Popen(
            [str(binaries["postgres"]), "-D", str(directory / "db"), "-k", str(directory), "-p", str(port), "-F"],
            user=user,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        try:
            for _ in range(200):
                time.sleep(0.05)
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
            time.sleep(0.5)
            yield f"127.0.0.1:{port}", server
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
