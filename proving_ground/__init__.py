"""The proving ground: does choosing with a crowd beat random, and by which rule?

Small transformers are trained from nothing as a crowd, answer a pool, and smaller ones are fine-tuned on what each way
of choosing takes from it. What is asked and how it is answered stands in protocol.md, what was found in docs/evidence.md.

    python -m proving_ground quick     one world, three methods
    python -m proving_ground run       everything; begins again where it stopped
    python -m proving_ground tables    intervals, ranks and figures from the results
"""
