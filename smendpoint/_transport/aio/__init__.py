"""The asyncio transport with its own connections: one pool for each event loop.

A call passes through `transport` (acquire, ask, give back), `pool` (idle connections, and how many may be open), `dial`
(a new connection: addresses, proxy, TLS) and `connection` (a protocol of the loop). It may import the modules next to
this folder.
"""
