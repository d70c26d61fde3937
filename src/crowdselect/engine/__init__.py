"""Who reads and works: this process, or a Ray cluster with the same result (extra `ray`).

Ray Data moves batches from tasks that read to actors that compute; what is computed is on disk as Parquet parts,
found again by the content that it was computed from (`cache`). What a step computes stands with the step itself.
"""
