"""Measure a model: MT-Bench, Arena-Hard, losses and preferences with intervals, and comparisons paired over questions.

protocols    the two benchmarks' rules: temperatures, tokens, how verdicts count; the options of an evaluation
files        FastChat's and arena-hard-auto's questions and answers, read and written
judging      a judge's prompts, reading its replies, and files of judgements
setup        the models that answer and judge; all inputs read and checked before anything is sent
asking       answers and judgements through the ledger of `collect`
job          a whole run: answers, judgements, score; `plan` before anything is sent
scores, style    arrays in, numbers out; with differences of style accounted for
outcome      a result's folder, written and read back; display: tables for people
held_out, likelihood, measured    rows, a model's losses on them, and the result: `evaluate loss`, `evaluate prefers`
harness      lm-evaluation-harness in a process of its own, its samples scored by document
measures     every kind of result that can be compared
comparison, comparison_page    several results side by side
"""
