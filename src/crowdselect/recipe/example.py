"""A recipe to begin with."""

EXAMPLE = """\
# A recipe: the whole chain in one file.   crowdselect run recipe.toml --plan   says what it would do.
#
# Every table is one command; its keys are the options of that command (crowdselect select --help, ...), without
# dashes in front. Paths begin at this file's folder. A list makes a sweep: one step per value. Leave out any
# table that you do not need.

[collect]                            # or [pool] path = "pool.parquet", for answers that are there already
instructions = "instructions.jsonl"
crowd = "crowd.toml"                 # the models and the judge: docs/collect.md
max-cost = 20                        # stops before more than this is spent, over all runs

[reward]                             # leave it out if the pool has rewards
with = ["hf:Skywork/Skywork-Reward-Llama-3.1-8B"]

[select]
budget = [500, 1000]                 # two selections
clusters = 10
weights = { difficulty = 1, separability = 1, stability = 2 }

[baseline.random]                    # what every result is held against
budget = [500, 1000]
seed = [0, 1, 2]                     # three random choices of each size

[baseline.reward]
budget = [500, 1000]

[compare]                            # a page with all selections side by side

[train]                              # one student per selection and seed
base = "Qwen/Qwen2.5-3B"
preset = "paper"
lora = true
eval-share = 0.05
seed = [0, 1]

[evaluate.mt-bench]
questions = "mt_bench_question.jsonl"
references = "mt_bench_reference_gpt-4.jsonl"
judge = "crowd.toml#judge"
max-cost = 50                        # of all judgements together

[evaluate.arena-hard]
questions = "arena_hard_question.jsonl"
baseline = "crowd.toml#anchor"       # whose answers count 50
judge = "crowd.toml#judge"
max-cost = 50
"""
