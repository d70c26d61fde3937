"""Score every answer of a pool with reward models and judges.

protocol     what passes between the runner and a scorer
specs        `hf:...`, `http:...`, `judge:...`, `python:...`, `import:...` and the columns they make
local, loading, batches    a reward model on this machine
served, shapes, crew       a reward model behind HTTP; remote_text: conversations written for it on this side
judge, rubric, expectation a chat model as judge
judging, tags, marks       what a judge is asked for methods: tags and marks
function, imported         the user's own scores
selftest     does the scorer prefer good answers?
run          pool and scorers to scores: once each, resumable, memory bounded by the window
job          the whole run; stored: what is scored already; sharded: the same on a Ray cluster; meter: progress
sealed       scores to rewards.parquet and its manifest
"""
