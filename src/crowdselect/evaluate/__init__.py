"""Measure a model: MT-Bench and Arena-Hard with intervals, and comparisons paired over questions.

protocols    what the two benchmarks fix: temperatures, tokens, how verdicts count
questions, answerfile, judgmentfile    FastChat's and arena-hard-auto's files, read and written
prompts, verdicts    what a judge is asked, and how its reply is read
asking       answers and judgements through the ledger of `collect`
task, job    the whole way: answers, judgements, score; `plan` before anything is sent
scores, bradleyterry, selfcheck    arrays in, numbers out
comparison, forest, comparison_page    several results side by side
"""
