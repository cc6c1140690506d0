"""The blocking transport with its own connections.

A call passes through `transport` (acquire, send, read, give back), `pool` (idle connections, and how many may be open),
`dial` (a new connection: addresses, proxy, TLS) and `connection` (one socket). It may import the modules next to this
folder.
"""
