"""Score every answer of a pool with reward models and judges.

protocol     what passes between the runner and a scorer
specs        `hf:...`, `http:...`, `judge:...`, `python:...`, `import:...` and the columns they make
local, loading, batches    a reward model on this machine
served, shapes             a reward model behind HTTP
judge, rubric, expectation a chat model as judge
function, imported         the user's own scores
selftest     does the scorer prefer good answers?
run          pool and scorers to scores: once each, resumable, memory bounded by the window
sealed       scores to rewards.parquet and its manifest
"""
