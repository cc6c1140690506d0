"""The transports that call through the user's client from boto3, botocore or aiobotocore.

The client signs, retries and connects. `adapter` converts its arguments and answers to ours, `failures` its exceptions;
`client` and `async_client` wait. They may import the modules next to this folder.
"""
