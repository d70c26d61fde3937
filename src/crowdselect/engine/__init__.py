"""Runs heavy steps in this process, or on a Ray cluster with the same result (extra `ray`).

Ray Data moves batches from tasks that read to actors that compute; results are stored as Parquet parts, keyed by
the content they were computed from (`cache`). The computations themselves are defined with their steps.
"""
