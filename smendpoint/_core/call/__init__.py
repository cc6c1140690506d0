"""One call, from the first attempt to the answer, as a generator that a driver runs.

`flow` yields steps (`Send`, `Sleep`, `NeedCredentials`) and receives their outcome; `retry` decides what follows a
failed attempt; `timing` has the time limits, and the clock that all of them get. `hooks` reports, `hiding` keeps
secrets out of tracebacks, and `polling` looks for the answers of asynchronous inference. `limit`, with the help of
`plateau`, finds out how many calls an endpoint runs at once, and `load` what an error says about that. This package may
import `aws` and `http`.
"""
