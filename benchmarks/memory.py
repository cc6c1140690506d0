"""The memory of a process that made one call, and of each further endpoint."""

from __future__ import annotations

from benchmarks.harness import Context, Row, compared, kib
from benchmarks.peers import peers
from benchmarks.processes import OURS, megabytes, printed

ENDPOINTS = 100
RESIDENT = """
def resident():
    import resource
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
"""
CALLED = f"{RESIDENT}\nprint(resident())\n"
KEPT = f"""{RESIDENT}
kept = [make(number) for number in range(10)]
before = resident()
kept += [make(number) for number in range({ENDPOINTS})]
print((resident() - before) / {ENDPOINTS})
"""
ENDPOINT = """
from smendpoint import Endpoint
def make(number):
    endpoint = Endpoint(f"answer-{number}")
    endpoint.invoke("Hello")
    return endpoint
"""
CLIENT = """
import boto3
def make(number):
    client = boto3.client("sagemaker-runtime")
    client.invoke_endpoint(EndpointName=f"answer-{number}", Body=b"{}")["Body"].read()
    return client
"""


def memory(context: Context) -> list[Row]:
    """The memory after the first answer, and of each endpoint that has made a call, with its connection."""
    environment = {**context.environment(context.tls), "SSL_CERT_FILE": context.certificates}
    programs = {"smendpoint": OURS, **{peer.name: peer.program for peer in peers()}}
    turns = range(min(3, context.rounds))

    def measured(program: str) -> list[float]:
        return [float(printed(program, environment)) for _ in turns]

    processes = {name: measured(program + CALLED) for name, program in programs.items()}
    endpoints = {"smendpoint": measured(ENDPOINT + KEPT), "boto3": measured(CLIENT + KEPT)}
    return [
        compared("memory of a process after its first answer", processes, megabytes, key="memory-process"),
        compared("memory of an endpoint, or a client", endpoints, kib, key="memory-endpoint"),
    ]
