"""One call, from the first attempt to the answer, as a generator that a driver runs.

`flow` yields steps (`Send`, `Sleep`, `NeedCredentials`) and is sent their outcome; `retry` decides what follows a
failed attempt; `timing` has the limits, and the clock that is given to all of them. `hooks` reports, `hiding` keeps
secrets out of tracebacks, and `polling` looks for the answers of asynchronous inference. `limit` finds out how many
calls an endpoint runs at once, with the help of `plateau`, and `load` what an error says about that. It may import
`aws` and `http`.
"""
