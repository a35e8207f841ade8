"""`helm test`: the coordinator answers on both of its ports. Arguments: host, members' port, metrics port (0: none); for metrics
over TLS the name in their certificate, too, and the file of the authority that signed it (none: one that the system knows)."""

import http.client
import ssl
import sys

host, port, metrics, tls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
certificate = ssl.get_server_certificate((host, port), timeout=10)
print(f"{host}:{port} shows a certificate of {len(certificate)} bytes")
if metrics:
    connection = http.client.HTTPConnection(host, metrics, timeout=10)
    if tls:
        connection.connect()
        context = ssl.create_default_context(cafile=tls[1] if len(tls) > 1 else None)
        connection.sock = context.wrap_socket(connection.sock, server_hostname=tls[0])
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    said = answer.read().decode().strip()
    print(f"{host}:{metrics}/readyz: {said}")
    if answer.status != http.client.OK:
        sys.exit("The coordinator is not ready: see its log.")
