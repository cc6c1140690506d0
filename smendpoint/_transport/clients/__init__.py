"""The transports that call through a client that the caller gave, of boto3, botocore or aiobotocore.

The client signs, retries and connects. `adapter` turns its arguments, answers and exceptions into ours; `client` and
`async_client` wait. It may import what is beside this folder.
"""
