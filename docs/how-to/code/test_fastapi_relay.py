"""Tests of ``fastapi_relay`` that need no AWS."""

from fastapi.testclient import TestClient

from fastapi_relay import app

QUESTION = {"prompt": "It rains in Ghent. Question: Where does it rain?"}


def test_a_question_is_answered(sagemaker_emulator):
    with TestClient(app) as client:  # the `with` runs the lifespan
        response = client.post("/answer", json=QUESTION)
    assert response.json() == {"answer": "It rains in Ghent."}


def test_an_answer_is_streamed(sagemaker_emulator):
    with TestClient(app) as client:
        response = client.post("/text", json=QUESTION)
    assert response.text == "It rains in Ghent."


def test_a_failure_of_the_model_is_502(sagemaker_emulator):
    sagemaker_emulator.inject("status_424_ModelError")
    with TestClient(app) as client:
        response = client.post("/answer", json=QUESTION)
    assert (response.status_code, response.json()) == (502, {"error": "ModelError"})
