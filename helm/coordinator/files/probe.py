"""`helm test`: the coordinator answers on both of its ports. Arguments: host, members' port, metrics port (0: none)."""

import ssl
import sys
import urllib.request

host, port, metrics = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
certificate = ssl.get_server_certificate((host, port), timeout=10)
print(f"{host}:{port} shows a certificate of {len(certificate)} bytes")
if metrics:
    with urllib.request.urlopen(f"http://{host}:{metrics}/readyz", timeout=10) as answer:
        print(f"{host}:{metrics}/readyz: {answer.read().decode().strip()}")
