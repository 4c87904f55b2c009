"""A real PgBouncer in transaction mode, with one server connection for all its clients."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.adapters.database.url import DatabaseUrl
from tests.ports import free_port

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")


@contextmanager
def pooled(server: DatabaseUrl, folder: Path, password: str = "") -> Iterator[str]:
    """The URL of `server` through a pooler of its own, which asks for a password or for none."""
    assert PROGRAM
    port = free_port()
    options = server.options
    (folder / "users.txt").write_text(f'"postgres" "{password}"\n')
    (folder / "pgbouncer.ini").write_text(
        "[databases]\n"
        f"app = host={options['host']} port={options.get('port', '5432')} "
        f"dbname={options['dbname']} user={options['user']}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = {'plain' if password else 'any'}\nauth_file = {folder / 'users.txt'}\n"
        "pool_mode = transaction\ndefault_pool_size = 1\nserver_lifetime = 3600\n"
        f"logfile = {folder / 'log'}\n"
    )
    arguments = [PROGRAM, "-q", str(folder / "pgbouncer.ini")]
    if os.geteuid() == 0:  # which it refuses to run as
        local = Path(options["host"])  # where a socket is that its owner may enter
        owner = local.owner() if local.is_dir() else "nobody"
        user = pwd.getpwnam(owner)
        for path in (folder, *folder.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)
        for parent in folder.parents:
            if parent.owner() == "root" and parent.stat().st_mode & 0o001 == 0:
                parent.chmod(parent.stat().st_mode | 0o011)
        arguments[1:1] = ["-u", owner]
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 20
        while True:
            assert process.poll() is None, process.stderr and process.stderr.read()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < end, "the pooler does not listen"
                time.sleep(0.05)
        yield f"postgresql://postgres@127.0.0.1:{port}/app"
    finally:
        process.terminate()
        process.communicate()
