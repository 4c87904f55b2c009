"""Stands for the command `backfill`: see warm.py. It imports nothing that takes time."""

import json
import os
import socket
import sys

server = socket.socket(socket.AF_UNIX)
server.connect(os.environ["SANDBOX_WARM"])
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()  # noqa: PTH109
socket.send_fds(server, [b"%8d" % len(asked)], [0, 1, 2])
server.sendall(asked)
sys.exit(int(server.recv(8) or b"70"))
