"""The cost of smendpoint next to botocore, boto3 and aiobotocore: ratios in one run, against one stub server."""
