"""The one door to models: endpoints, clients, pace, budget, ledger."""
