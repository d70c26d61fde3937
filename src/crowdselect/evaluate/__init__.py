"""Measure a model: MT-Bench and Arena-Hard with intervals, and comparisons paired over questions.

protocols    what the two benchmarks fix: temperatures, tokens, how verdicts count; the options of an evaluation
files        FastChat's and arena-hard-auto's questions and answers, read and written
judging      what a judge is asked, how its reply is read, and files of judgements
setup        who answers and who judges; everything found and checked before anything is sent
asking       answers and judgements through the ledger of `collect`
job          the whole way: answers, judgements, score; `plan` before anything is sent
scores       arrays in, numbers out
outcome      a result's folder, written and read back; display: what a person sees
comparison, comparison_page    several results side by side
"""
