"""The proving ground: does selecting with a crowd beat random selection, and with which method?

Small transformers are trained from scratch as a crowd and answer a pool, and smaller ones are fine-tuned on what each
method selects from it. The questions and the rules are in protocol.md, protocol2.md and protocol3.md, the findings in docs/evidence.md.

    python -m proving_ground quick     one world, three methods
    python -m proving_ground run       all protocols; resumes after a stop
    python -m proving_ground third     the third protocol alone
    python -m proving_ground tables    intervals, ranks and figures from the results
"""
