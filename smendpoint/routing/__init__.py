"""Inference routers and the global inference gateway: what stands in front of endpoints, and is called like one.

`InferenceRouter` and `InferenceGateway`, each with its twin for asyncio, have the callers, the options and the errors
of an endpoint, and those of its methods that their services offer. This room may import what `endpoint` may.
"""
