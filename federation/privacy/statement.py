"""A job's privacy in words, the same wherever people read it: mechanism, unit, epsilon, delta, and whose promise it is."""

from __future__ import annotations

from federation.privacy.terms import MEMBER, Privacy

MECHANISM_NAMES = {"skellam": "Skellam", "discrete_gaussian": "discrete Gaussian", "dp_sgd": "DP-SGD"}


def sentence_of(privacy: Privacy) -> str:
    """One line."""
    name = MECHANISM_NAMES[privacy.mechanism]
    cost = f"epsilon {privacy.epsilon:g} at delta {privacy.delta:g} over all rounds, for each {privacy.unit} (unit of privacy)"
    if privacy.distributed:
        return f"{name} noise of every member in each sum, multiplier {privacy.noise_multiplier:g}: {cost}"
    return f"{name} by the task itself, multiplier {privacy.noise_multiplier:g}: {cost}, if the task keeps its promise"


def explanation_of(privacy: Privacy) -> str:
    """What the numbers mean, for a release's card."""
    if not privacy.distributed:
        return (
            "A record is one row of one member's data, in the set or not. The noise is added by the task's own code to the "
            "gradients of each step; the nodes charged their ledgers for it and cannot check that it was there."
        )
    whose = "one member's whole update, against none" if privacy.unit == MEMBER else "one record"
    figures = "The figures carry noise from the same account." if privacy.figures else "No figures left."
    return (
        f"Hidden is {whose}: whoever sees the sums, the model or both can hardly tell whether it was there. Who took part "
        f"is public. The noise reaches its target without the largest number of colluders and without those that dropped. "
        f"{figures} It rests on the pseudo-randomness of AES-256."
    )
