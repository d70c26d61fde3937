"""The one door to models: requests in, answers in a ledger, each paid once.

Whoever asks models (`collect`, judges, benchmarks) makes requests, calls `ask`, and reads the answers:

    ask          `ask(wanted, ledger, options)`, and how answers are read
    endpoints    crowd.toml to `Endpoint`s: models and judges
    calls        `Request`, `Reply`, `CallError` and the `Client` protocol
    http_client, local_client, scripted    three clients
    ledger, ledger_file    every answer on disk, once
    conversations, renamed    answers read back, also where a model had another name
    pace         how fast one endpoint may be asked
    budget, limits    hard stops, counted over resumes
    lane, runner, committed    one endpoint's part of a run; all of them, until the end or Ctrl-C
    plan, display    what a run would do; what a person sees of it
    redact       keys taken out of whatever is stored or said
"""
