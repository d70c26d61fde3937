"""The one door to models: requests in, answers in a ledger, each paid once.

Whoever asks models (`collect`, judges, benchmarks) makes requests, calls `ask`, and reads the answers:

    ask          `ask(wanted, ledger, options)`: all endpoints at once, until the end or Ctrl-C; how answers are read
    endpoints    crowd.toml to `Endpoint`s: models and judges
    calls        `Request`, `Reply`, `CallError`, the `Client` protocol, and a client that answers from a script
    http_client  the HTTP to all models, and the client of OpenAI-compatible servers
    local_client    the client of a model in this process
    ledger, ledger_file    every answer on disk, once; the file that holds them
    conversations, renamed    answers read back, also where a model had another name
    lane, pace   one endpoint's part of a run; how fast it may be asked
    budget       limits, an estimate before a run, hard stops while it runs
    display      what a person sees of it
    redact       keys taken out of whatever is stored or said
"""
