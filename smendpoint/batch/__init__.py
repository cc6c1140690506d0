"""Many rows through an endpoint, so that no answer is lost or paid for twice."""
