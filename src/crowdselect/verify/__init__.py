"""Check answers against a reference: 1, 0, or the reason why there is neither.

final                       the final answer of a text
exact, choice, mathematics  how it is compared: as number or text, as a choice, as mathematics (extra `verify`)
verifiers                   the verifiers by name; references that cannot be checked
worker, processes           many answers at once, in processes of their own, each within a time limit
"""
