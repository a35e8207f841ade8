"""`helm test`: from where the agent stands, its coordinator can be reached by the agent's own way. Argument: host:port."""

import os
import socket
import sys

from federation.route import route_to

route = route_to(sys.argv[1], os.environ)
print(route.sentence)
host, _, port = (route.shown or route.address).rpartition(":")
with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
    print(f"{host}:{port} can be reached")
