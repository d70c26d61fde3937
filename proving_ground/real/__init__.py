"""One real language model: does it learn more from chosen rows of a real pool than from a random choice of them?

SmolLM2-135M-Instruct is fine-tuned on what each way of choosing takes from a pool of 2,840 questions and 56 models, by
crowdselect's own commands. The question and the rules are in protocol.md, the findings in docs/evidence.md.

    python -m proving_ground.real run POOL    what is not done yet; begins where it stopped
    python -m proving_ground.real tables      the tables, from the results
"""
