"""The transports that call through a client that the caller gave, of boto3, botocore or aiobotocore.

The client signs, retries and connects. `adapter` turns its arguments and answers into ours, `failures` its exceptions;
`client` and `async_client` wait. It may import what is beside this folder.
"""
