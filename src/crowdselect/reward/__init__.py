"""Score every answer of a pool with reward models and judges.

protocol        what passes between the runner and a scorer
specs           `hf:...`, `http:...`, `judge:...`, `python:...`, `import:...` and the columns they make
local, loading  a reward model on this machine
served, shapes  a reward model behind HTTP; what it is sent and what it answers
judge, rubric   a chat model as judge; what it is asked and how its answer is read
own             the user's own scores: a function of Python, or a file
run             a pool's answers a window at a time, and what there is to do
scoring         what has no score yet is scored, here or on a Ray cluster; the self-test before
stored          scores that are kept: in the ledger, and as parts
sealed          scores to rewards.parquet and its manifest
job             the whole run
"""
