"""Score every answer of a pool with reward models and judges.

protocol        the scorer protocol: conversations in, scores or reasons out
specs           `hf:...`, `http:...`, `judge:...`, `verify:...`, `python:...`, `import:...` and the columns they make
local, loading  a reward model on this machine
served, shapes  a reward model behind HTTP; its request and response formats
judge, rubric   a chat model as judge; its prompt, and the score of its reply
verdicts        the one reader of judges' replies
verify          answers checked against the pool's references
own             the user's own scores: from a Python function or a file
run             a pool's answers a window at a time, and counts of those left to score
scoring         scores unscored answers, here or on a Ray cluster; the self-test
alike           ends a run whose first scores are all the same
stored          scores on disk: in the ledger, and as parts
sealed          writes rewards.parquet and its manifest
job             a whole run
"""
