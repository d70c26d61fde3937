"""Ask models for answers, once and within a budget: endpoints, clients, a ledger, a runner, a sealed pool.

The parts stand alone, so that scoring and evaluation can ask judges through them:

    endpoints    crowd.toml to `Endpoint`s: models and judges
    calls        `Request`, `Reply`, `CallError` and the `Client` protocol
    http_client, local_client, scripted    three clients
    ledger       every answer on disk, once
    pace         how fast one endpoint may be asked
    budget       hard stops, counted over resumes
    limits, lane, runner `run(lanes, ledger, limits)`: asks what the ledger does not know
    instructions what to ask; plan, seal, job: the whole way from instructions to a pool
"""
