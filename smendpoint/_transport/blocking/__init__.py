"""The blocking transport with connections of its own.

A call passes through `transport` (acquire, send, read, give back), `pool` (idle connections, and how many may be open),
`dial` (a new connection: addresses, proxy, TLS) and `connection` (one socket). It may import what is beside this
folder.
"""
