"""Requests to models: sent at most once, with every answer recorded in a ledger.

`collect`, judges and benchmarks build requests, call `ask`, and read the answers:

    ask          `ask(wanted, ledger, options)`: all endpoints at once, until done or Ctrl-C; reading answers
    endpoints    crowd.toml to `Endpoint`s: models and judges
    calls        `Request`, `Reply`, `CallError`, the `Client` protocol, and a scripted client
    http_client  HTTP for all models, and the client for OpenAI-compatible servers
    local_client    the client for a model in this process
    ledger, ledger_file    every answer on disk, once; the file that holds them
    conversations, renamed    reading answers back, also for a renamed model
    refused      parameters that a server refuses, and what is sent instead
    lane, pace   one endpoint's part of a run; its concurrency and rate limits
    budget       limits, an estimate before a run, hard stops while it runs
    display      progress and estimates, for people
    redact       removes keys from everything stored or shown
"""
