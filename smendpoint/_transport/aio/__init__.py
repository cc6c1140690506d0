"""The asyncio transport with connections of its own: one pool for each event loop.

A call passes through `transport` (acquire, ask, give back), `pool` (idle connections, and how many may be open), `dial`
(a new connection: addresses, proxy, TLS) and `connection` (a protocol of the loop). It may import what is beside this
folder.
"""
