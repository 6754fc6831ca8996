"""The mathematics of StableReinforce (arXiv 2505.02835) and its baselines, as pure functions of tensors.

Nothing here knows TRL, Hydra or a config object: the trainer calls these functions, and they can be read next to the
paper. Every module uses the same shape legend (B rows of one loss call, N rows of the global rollout batch, G
rollouts per prompt, T completion tokens). In the order in which a rollout batch meets them:

    kl.py          divergence from the reference policy, per token
    advantage.py   rewards -> advantages, over the global rollout batch
    filter.py      the Advantage Filter: which advantages are set to zero
    clipping.py    Pre-CLIP of the log-ratio, and the clipped loss
"""
