"""Many rows through an endpoint, so that no answer is lost or paid for twice.

The room: `_sources` and `_rows` read what is asked, `_ledger` keeps what was answered. Its lines are written and read by
`_lines`, their values by `_values`, and OpenAI's format by `_openai`; `_index` knows what is there, and `_lock` keeps
others out. The room may import everything but the command line.
"""
